"""The host that p2vd runs on, as a management tool sees it: D-Bus for p2vd, ssh for the rest.

busctl and not p2vctl asks the questions: on the emulated processor Python takes seconds to start.
"""

import json
import time
from collections.abc import Callable
from typing import Any, Self

from integration.lab.san import San
from integration.lab.shell import GuestError
from integration.lab.vm import Vm

MANAGER, JOB, MACHINE, SOURCE = (f"org.p2vd1.{name}" for name in ("Manager", "Job", "Machine", "Source"))
# Each look costs the emulated guest a third of a second of one processor.
POLL_S = 1.5
ENDED = ("proven", "failed", "cancelled")

Properties = dict[str, Any]

# In the refusal of a plan whose disk p2vd still looks at: on the emulated processor that takes seconds.
UNDER_EXAMINATION = "is being looked at"

POLICY = """
[[rule]]
name = "lab-{provisioning}"
match.transport = ["iscsi", "virtio"]
target.volume_groups = ["{vg}"]
target.provisioning = "{provisioning}"
target.single_host = true
copy.verify = "{verify}"
copy.bandwidth = "{bandwidth}"
domain.memory = "64 MiB"
domain.vcpus = 1
domain.type = "qemu"
"""


def values(variants: Properties) -> Properties:
    """Return what a{sv} of busctl's JSON holds."""
    return {name: value["data"] for name, value in variants.items()}


class Failed(AssertionError):
    """p2vd did not do in time what was waited for; says where the jobs stand."""


class Host:
    """p2vd in a machine of layer `p2vd`."""

    def __init__(self, vm: Vm) -> None:
        self.vm = vm
        self.san = San.of(vm)

    @classmethod
    def ready(cls, vm: Vm, **policy: str) -> Self:
        """Return the host with a policy written and p2vd started."""
        host = cls(vm)
        host.policy(**policy)
        vm.run("systemctl start p2vd")
        return host

    def policy(
        self,
        *,
        provisioning: str = "thin",
        vg: str = "vg_san",
        verify: str = "read-back",
        bandwidth: str = "1 GiB",
        more: str = "",
    ) -> None:
        """Write the one policy of a test."""
        text = POLICY.format(provisioning=provisioning, vg=vg, verify=verify, bandwidth=bandwidth)
        self.vm.write("/etc/p2vd/policy.d/50-lab.toml", text + more)

    # ---- D-Bus -------------------------------------------------------------------------------

    def call(self, path: str, interface: str, method: str, signature: str, *arguments: str) -> Any:
        """Call a method; its return values as busctl's JSON has them. Raises GuestError."""
        line = ["busctl", "--json=short", "call", "org.p2vd1", path, interface, method, signature, *arguments]
        text = self.vm.out(line)
        return json.loads(text)["data"] if text else None

    def objects(self) -> dict[str, dict[str, Properties]]:
        """Return every object with its interfaces and their properties."""
        (objects,) = self.call("/org/p2vd1", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", "")
        return {
            path: {
                name: {key: value["data"] for key, value in properties.items()}
                for name, properties in interfaces.items()
            }
            for path, interfaces in objects.items()
        }

    def of(self, interface: str) -> list[Properties]:
        """Return the properties of all objects of an interface; `path` is added to each."""
        return [
            {**interfaces[interface], "path": path}
            for path, interfaces in self.objects().items()
            if interface in interfaces
        ]

    def source(self, source_id: str) -> Properties:
        """Return a source once p2vd sees it and has looked at it, if it does."""

        def seen() -> Properties | None:
            found = next((source for source in self.of(SOURCE) if source["Id"] == source_id), None)
            return found if found and values(found["Contents"])["State"] != "under-way" else None

        source: Properties = self.wait(seen, f"source {source_id}")
        return source

    def job(self) -> Properties:
        """Return the newest job."""
        return max(self.of(JOB), key=lambda job: job["StartTime"])

    def machine(self, name: str) -> Properties:
        """Return the newest machine of that name."""
        return [machine for machine in self.of(MACHINE) if machine["Name"] == name][-1]

    def plan(self, source_id: str, name: str = "", *, offline: bool = True) -> str:
        """Plan a source; return the plan's id. Raises GuestError with the refusal."""
        return str(self.plan_page(source_id, name, offline=offline)["Id"])

    def plan_page(self, source_id: str, name: str = "", *, offline: bool = True) -> Properties:
        """Plan a source, again while it is still being looked at. Raises GuestError with the refusal."""
        options = ["source-offline", "b", "true" if offline else "false"]
        if name:
            options += ["name", "s", name]
        arguments = ["1", source_id, str(len(options) // 3), *options]

        _, page = self.call_until_looked_at("Plan", "asa{sv}", *arguments)
        return values(page)

    def call_until_looked_at(self, method: str, signature: str, *arguments: str) -> Any:
        """Call a method of the manager, again while it is refused because p2vd still looks at the disk."""
        deadline = time.monotonic() + 240
        while True:
            try:
                return self.call("/org/p2vd1", MANAGER, method, signature, *arguments)
            except GuestError as error:
                if UNDER_EXAMINATION not in str(error) or time.monotonic() > deadline:
                    raise
            time.sleep(POLL_S)

    def migrate(self, source_id: str, name: str = "") -> Properties:
        """Plan and start; return the job."""
        self.source(source_id)
        plan_id = self.plan(source_id, name)
        (machine,) = self.call_until_looked_at("Migrate", "sa{sv}", plan_id, "0")
        (path,) = (entry for entry in self.objects()[machine][MACHINE]["Jobs"])
        return self.at(path)

    def at(self, path: str) -> Properties:
        """Return the job at `path`."""
        return {**self.objects()[path][JOB], "path": path}

    def verb(self, job: Properties, method: str, **options: str) -> None:
        """Call a verb of a job; options are strings."""
        flat = [word for key, value in options.items() for word in (key, "s", value)]
        self.call(job["path"], JOB, method, "a{sv}", str(len(options)), *flat)

    # ---- waiting -----------------------------------------------------------------------------

    def wait(self, probe: Callable[[], Any], what: str, timeout_s: float = 240.0) -> Any:
        """Return what `probe` returns once it is true; a bus without p2vd counts as not yet."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                if value := probe():
                    return value
            except GuestError as error:
                if "org.p2vd1" not in str(error) and "busctl" not in str(error):
                    raise
            if time.monotonic() > deadline:
                raise Failed(f"not in {timeout_s:.0f} s: {what}\n{self.state()}")
            time.sleep(POLL_S)

    def wait_job(
        self, job: Properties, what: str, until: Callable[[Properties], bool], timeout_s: float = 240.0
    ) -> Properties:
        """Wait until a job is so; a job that ends otherwise fails at once."""

        def probe() -> Properties | None:
            now = self.at(job["path"])
            if until(now):
                return now
            if now["Stage"] in ENDED:
                raise Failed(f"the job ended as {now['Stage']} while waiting for: {what}\n{self.state()}")
            return None

        found: Properties = self.wait(probe, what, timeout_s)
        return found

    def wait_stage(self, job: Properties, stage: str, timeout_s: float = 240.0) -> Properties:
        """Wait until a job is in `stage`."""
        return self.wait_job(job, f"stage {stage}", lambda now: now["Stage"] == stage, timeout_s)

    def wait_copied(self, job: Properties, size_bytes: int) -> Properties:
        """Wait until so much of a job's copy is committed."""
        return self.wait_job(
            job,
            f"{size_bytes} bytes committed",
            lambda now: now["BytesCommitted"] >= size_bytes or now["Stage"] in ("verifying", "proven"),
        )

    def wait_registered(self, job: Properties, timeout_s: float = 240.0) -> Properties:
        """Wait until the job is proven and its machine registered; return the job."""
        self.wait_stage(job, "proven", timeout_s)
        self.wait(
            lambda: self.objects()[job["Machine"]][MACHINE]["State"] == "registered", "the machine registered"
        )
        return self.at(job["path"])

    def wait_back(self, job: Properties) -> Properties:
        """Return the job once p2vd answers again, after a boot."""
        found: Properties = self.wait(lambda: self.at(job["path"]), "p2vd after the boot", 600)
        return found

    def forget(self, name: str, job: Properties) -> None:
        """Remove a registered machine and its LV, as an administrator would to begin anew."""
        self.vm.run(f"virsh -q undefine {name}")
        self.vm.run(f"lvremove -q -y {self.at(job['path'])['Target']}")
        self.rescan()

    def rescan(self) -> None:
        """Have p2vd look at the host now, and wait until it has."""
        self.call("/org/p2vd1", MANAGER, "Rescan", "a{sv}", "0")
        scanning = ["busctl", "get-property", "org.p2vd1", "/org/p2vd1", MANAGER, "Scanning"]
        self.wait(lambda: self.vm.out(scanning) == "b false", "the end of the scan")

    def state(self) -> str:
        """Return where jobs and machines stand, for a failure's report."""
        try:
            return json.dumps([*self.of(JOB), *self.of(MACHINE)], indent=1)
        except GuestError as error:
            return str(error)

    def worker(self) -> int:
        """Return the process id of the one worker, 0 where there is none."""
        pids = self.vm.run("pgrep -f p2vd.copying.worker", check=False).stdout.split()
        assert len(pids) <= 1, f"more than one worker: {pids}"
        return int(pids[0]) if pids else 0

    def daemon(self) -> int:
        """Return the daemon's process id."""
        return int(self.vm.out("systemctl show -P MainPID p2vd"))
