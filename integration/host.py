"""The host that p2vd runs on, as a management tool sees it: D-Bus for p2vd, ssh for the rest.

The calls come from this process, by p2vctl's own client: in the guest each would start a program, and a fifth
of what the emulated processor did in a test went into those.
"""

import json
import time
from collections.abc import Callable, Sequence
from typing import Any, Self

from gi.repository import GLib

from integration.lab.san import San
from integration.lab.shell import PATIENCE_S, GuestError
from integration.lab.vm import Vm
from p2vd.bus.names import BUS_NAME, OBJECT_MANAGER, PROPERTIES, ROOT
from p2vd.cli.client import Client, CliError

MANAGER, JOB, MACHINE, SOURCE = (f"org.p2vd1.{name}" for name in ("Manager", "Job", "Machine", "Source"))
# What is waited for is looked at again when p2vd has told something, but not at each word of a burst: a look
# at all objects costs the emulated guest a tenth of a second or two. After a while without a word, too: p2vd
# does not tell everything.
BREATH_S = 0.3
POLL_S = 3.0
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


class CallFailed(GuestError):
    """A call was answered by an error, of p2vd's or of the bus."""


class Failed(AssertionError):
    """p2vd did not do in time what was waited for; says where the jobs stand."""


class Host:
    """p2vd in a machine of layer `p2vd`."""

    def __init__(self, vm: Vm) -> None:
        self.vm = vm
        self.san = San.of(vm)
        self._clients: dict[int, Client] = {}
        self._told = False

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

    def call(
        self, path: str, interface: str, method: str, signature: str = "", *arguments: object
    ) -> list[Any]:
        """Call a method; its return values as plain ones. Raises CallFailed."""
        try:
            return self._connection().call(path, interface, method, signature, *arguments)
        except CliError as error:
            raise CallFailed(f"{self.vm.name}: {interface}.{method} at {path}: {error}") from error

    def _connection(self) -> Client:
        """Return the connection to the bus of this boot: the socket is another after a power cut.

        Those of earlier boots are kept: the main loop may still have messages of theirs, which it cannot pass
        on once they are freed (SystemError out of what it does next; seen after power cuts).
        """
        try:
            boot = self.vm.bus.stat().st_ctime_ns
        except FileNotFoundError as error:
            raise CallFailed(f"{self.vm.name}: no bus: the machine does not run") from error
        if boot not in self._clients:
            client = Client(f"unix:path={self.vm.bus}")
            client.connection.add_signal_receiver(self._signal, bus_name=BUS_NAME)
            self._clients[boot] = client
        return self._clients[boot]

    def _signal(self, *_: object) -> None:
        self._told = True

    def _pause(self) -> None:
        """Return when p2vd has told something, or after a while."""
        time.sleep(BREATH_S)
        woken = GLib.timeout_add(int(POLL_S * 1000), lambda: GLib.SOURCE_CONTINUE)
        deadline = time.monotonic() + POLL_S
        while not self._told and time.monotonic() < deadline:
            GLib.MainContext.default().iteration(True)
        self._told = False
        GLib.source_remove(woken)

    def objects(self) -> dict[str, dict[str, Properties]]:
        """Return every object with its interfaces and their properties."""
        objects: dict[str, dict[str, Properties]]
        (objects,) = self.call(ROOT, OBJECT_MANAGER, "GetManagedObjects")
        return objects

    def property(self, name: str) -> Any:
        """Return a property of the manager."""
        (value,) = self.call(ROOT, PROPERTIES, "Get", "ss", MANAGER, name)
        return value

    def of(self, interface: str) -> list[Properties]:
        """Return the properties of all objects of an interface; `path` is added to each."""
        return [
            {**interfaces[interface], "path": path}
            for path, interfaces in self.objects().items()
            if interface in interfaces
        ]

    def source(self, source_id: str) -> Properties:
        """Return a source once p2vd sees it and has looked at it, if it does."""
        return self.wait_source(source_id, "seen", lambda _: True)

    def wait_source(self, source_id: str, what: str, until: Callable[[Properties], bool]) -> Properties:
        """Wait until p2vd sees a source, does not look at it just now, and shows it to be so.

        What a plan has read of a disk is on the bus a moment after the plan's answer.
        """

        def probe() -> Properties | None:
            found = next((source for source in self.of(SOURCE) if source["Id"] == source_id), None)
            looked_at = found and found["Contents"]["State"] != "under-way"
            return found if found and looked_at and until(found) else None

        source: Properties = self.wait(probe, f"source {source_id}: {what}")
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
        options: Properties = {"source-offline": offline}
        if name:
            options["name"] = name
        page: Properties
        _, page = self.call_until_looked_at("Plan", "asa{sv}", [source_id], options)
        return page

    def call_until_looked_at(self, method: str, signature: str, *arguments: object) -> list[Any]:
        """Call a method of the manager, again while it is refused because p2vd still looks at the disk."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self.call(ROOT, MANAGER, method, signature, *arguments)
            except GuestError as error:
                if UNDER_EXAMINATION not in str(error) or time.monotonic() > deadline:
                    raise
            self._pause()

    def migrate(self, source_id: str, name: str = "") -> Properties:
        """Plan and start; return the job."""
        self.source(source_id)
        plan_id = self.plan(source_id, name)
        (machine,) = self.call_until_looked_at("Migrate", "sa{sv}", plan_id, {})
        (path,) = (entry for entry in self.objects()[machine][MACHINE]["Jobs"])
        return self.at(path)

    def migrate_machine(self, source_ids: Sequence[str], name: str) -> Properties:
        """Plan a machine of several disks, in that order, and start it; return the machine."""
        for source_id in source_ids:
            self.source(source_id)
        options = {"source-offline": True, "name": name}
        plan_id, _ = self.call_until_looked_at("Plan", "asa{sv}", list(source_ids), options)
        (path,) = self.call_until_looked_at("Migrate", "sa{sv}", plan_id, {})
        return self.machine_at(path)

    def machine_at(self, path: str) -> Properties:
        """Return the machine at `path`."""
        (properties,) = self.call(path, PROPERTIES, "GetAll", "s", MACHINE)
        return {**properties, "path": path}

    def machine_verb(self, machine: Properties, method: str, **options: object) -> None:
        """Call a verb of a machine."""
        self.call(machine["path"], MACHINE, method, "a{sv}", options)

    def wait_machine(
        self,
        machine: Properties,
        what: str,
        until: Callable[[Properties], bool],
        timeout_s: float = PATIENCE_S,
    ) -> Properties:
        """Wait until a machine is so."""

        def probe() -> Properties | None:
            now = self.machine_at(machine["path"])
            return now if until(now) else None

        found: Properties = self.wait(probe, what, timeout_s)
        return found

    def wait_state(self, machine: Properties, state: str, timeout_s: float = PATIENCE_S) -> Properties:
        """Wait until a machine is in `state`."""
        return self.wait_machine(machine, f"state {state}", lambda now: now["State"] == state, timeout_s)

    def at(self, path: str) -> Properties:
        """Return the job at `path`."""
        (properties,) = self.call(path, PROPERTIES, "GetAll", "s", JOB)
        return {**properties, "path": path}

    def verb(self, job: Properties, method: str, **options: str) -> None:
        """Call a verb of a job; options are strings."""
        self.call(job["path"], JOB, method, "a{sv}", options)

    def full_speed(self, job: Properties) -> None:
        """Take a job's limit away, until it ends or p2vd is restarted.

        A copy that must not be over when something is done to it has a limit by which it cannot be, on a
        machine of any speed; this lets it end when that is done.
        """
        self.call(job["path"], JOB, "SetBandwidth", "ta{sv}", 0, {})

    # ---- waiting -----------------------------------------------------------------------------

    def wait(self, probe: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S) -> Any:
        """Return what `probe` returns once it is true; a bus without p2vd counts as not yet."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                if value := probe():
                    return value
            except CallFailed as error:
                missing = str(error)
            else:
                missing = ""
            if time.monotonic() > deadline:
                raise Failed(f"not in {timeout_s:.0f} s: {what}\n{missing}\n{self.state()}")
            self._pause()

    def wait_job(
        self, job: Properties, what: str, until: Callable[[Properties], bool], timeout_s: float = PATIENCE_S
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

    def wait_stage(self, job: Properties, stage: str, timeout_s: float = PATIENCE_S) -> Properties:
        """Wait until a job is in `stage`."""
        return self.wait_job(job, f"stage {stage}", lambda now: now["Stage"] == stage, timeout_s)

    def wait_held(self, job: Properties, hold: str, says: str) -> Properties:
        """Wait until a job is held and says why: its words may come a moment after the hold."""
        return self.wait_job(
            job, f"the hold {hold}", lambda now: hold in now["Holds"] and says in now["Stalled"]
        )

    def wait_copied(self, job: Properties, size_bytes: int) -> Properties:
        """Wait until so much of a job's copy is committed."""
        return self.wait_job(
            job,
            f"{size_bytes} bytes committed",
            lambda now: now["BytesCommitted"] >= size_bytes or now["Stage"] in ("verifying", "proven"),
        )

    def wait_registered(self, job: Properties, timeout_s: float = PATIENCE_S) -> Properties:
        """Wait until the job is proven and its machine registered; return the job."""
        self.wait_stage(job, "proven", timeout_s)
        self.wait(
            lambda: self.objects()[job["Machine"]][MACHINE]["State"] == "registered", "the machine registered"
        )
        return self.at(job["path"])

    def wait_back(self, job: Properties) -> Properties:
        """Return the job once p2vd answers again, after a boot."""
        found: Properties = self.wait(lambda: self.at(job["path"]), "p2vd after the boot")
        return found

    def forget(self, name: str, job: Properties) -> None:
        """Remove a registered machine and its LV, as an administrator would to begin anew."""
        self.vm.run(f"virsh -q undefine {name}")
        self.vm.run(f"lvremove -q -y {self.at(job['path'])['Target']}")
        self.rescan()

    def rescan(self) -> None:
        """Have p2vd look at the host now, and wait until it has."""
        self.call(ROOT, MANAGER, "Rescan", "a{sv}", {})
        self.wait(lambda: not self.property("Scanning"), "the end of the scan")

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
