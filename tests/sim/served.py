"""p2vd --sim as a process that tests steer: `python -m tests.sim.served ADDRESS STATE_DIR SCRIPT MAX_JOBS`.

One JSON list a line on standard input, [NAME, ARGUMENTS]: a change of the SAN. One line back.
"""

import json
import logging
import resource
import sys
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from p2vd import daemon
from p2vd.config import Config
from p2vd.copying import under_daemon
from p2vd.discovery.scanner import Discovery
from p2vd.model.inventory import Inventory
from p2vd.sim.fault import Fault, FaultKind
from p2vd.sim.script import Luns
from p2vd.sim.volumes import SimLv, lvm_uuid
from p2vd.sim.world import World
from p2vd.system.clock import SystemClock


class Counting(Discovery):
    """Discovery that counts how often it looks, and knows whether it does now."""

    looks = {"scan": 0, "refresh": 0}  # noqa: RUF012  (of the one there is)
    looking = 0

    def scan(self) -> Inventory:
        return self._counted("scan", super().scan)

    def refresh(self, names: Collection[str]) -> Inventory:
        return self._counted("refresh", lambda: super(Counting, self).refresh(names))

    def _counted(self, what: str, look: Callable[[], Inventory]) -> Inventory:
        Counting.looks[what] += 1
        Counting.looking += 1
        try:
            return look()
        finally:
            Counting.looking -= 1


class TestClock(SystemClock):
    """The wall clock as far as windows go: that of this host until a test sets it, also over a restart."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "clock"
        self._sleepers: set[threading.Event] = set()
        self._read = threading.local()
        self._offset_us = 0
        if self._path.exists():
            self._offset_us = int(self._path.read_text()) - super().now_us()

    def now_us(self) -> int:
        self._read.offset_us = offset_us = self._offset_us
        return super().now_us() + offset_us

    def sleep(self, seconds: float, until: threading.Event) -> bool:
        self._sleepers.add(until)
        # It worked out how long by a clock that was set meanwhile, when nobody knew of this sleeper.
        if getattr(self._read, "offset_us", self._offset_us) != self._offset_us:
            return until.is_set()
        return until.wait(seconds)

    def set(self, time_us: int) -> None:
        self._path.write_text(str(time_us))
        self._offset_us = time_us - super().now_us()
        for event in tuple(self._sleepers):
            event.set()


class Ready(logging.Handler):
    """Notes when the daemon says that it is ready: its first inventory is on the bus then."""

    times: dict[str, float] = {}  # noqa: RUF012  (as above)

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg.endswith("is ready"):
            self.times |= {
                "published": time.monotonic(),
                "cpu": time.process_time() - self.times["began_cpu"],
            }


class Steering:
    """What a test may do to the SAN, and ask of the daemon."""

    def __init__(self, world: World, clock: TestClock) -> None:
        self._world = world
        self._clock = clock
        self._san = world.san
        self._undo: dict[str, Callable[[], None]] = {}

    def set_clock(self, time_us: int) -> None:
        self._clock.set(time_us)

    def times(self) -> dict[str, float]:
        return Ready.times

    def looks(self) -> dict[str, int]:
        return Counting.looks

    def looking(self) -> int:
        return Counting.looking

    def spare(self) -> list[str]:
        """WWIDs of LUNs that are no PV."""
        pvs = {pv.lun.wwid for group in self._world.volumes.groups.values() for pv in group.pvs}
        return [wwid for wwid in self._san.luns if wwid not in pvs]

    def grow(self, wwid: str, size_bytes: int) -> float:
        """Returns when the uevent was sent, monotonic."""
        self._san.grow(wwid, size_bytes)
        return time.monotonic()

    def path(self, device: str, ready: bool) -> None:
        self._san.set_path(device, ready=ready)

    def paths(self, wwid: str) -> list[str]:
        return list(self._san.luns[wwid].path_names)

    def detach(self, wwid: str) -> None:
        self._san.detach(wwid)

    def attach(self, paths: int, size_bytes: int) -> str:
        (lun,) = self._san.attach(Luns(paths=paths, size_bytes=size_bytes))
        return lun.wwid

    def fail_a_path_each(self) -> None:
        for lun in self._san.luns.values():
            self._san.set_path(lun.path_names[0], ready=False)

    def storm(self, count: int) -> None:
        """So many uevents as fast as they can be made, of all maps and paths."""
        names = [name for lun in self._san.luns.values() for name in (lun.device, *lun.path_names)]
        for number in range(count):
            self._san.uevents.send("change", names[number % len(names)])

    def waiting(self) -> int:
        return self._san.uevents.waiting()

    def counts(self) -> dict[str, int]:
        return dict(self._world.commands.counts)

    def fault(self, kind: str, arguments: dict[str, Any]) -> None:
        """Let a fault happen now; `end_fault` takes it back."""
        self._undo[kind] = self._world.faults.begin(Fault(FaultKind(kind), **arguments))

    def end_fault(self, kind: str) -> None:
        self._undo.pop(kind)()

    def break_report(self) -> None:
        """From now on LVM says what nobody understands."""
        self._world.commands._queries["lvm", "fullreport"] = lambda _: "no report"

    def domains(self) -> list[str]:
        return sorted(self._world.volumes.domains)

    def stop_libvirt(self, down: bool) -> None:
        self._world.volumes.libvirt_down = down

    def power(self, domain: str, on: bool) -> None:
        running = self._world.volumes.running
        running.add(domain) if on else running.discard(domain)

    def disks_of(self, domain: str) -> list[str]:
        """The volumes in the definition of a domain, in its order."""
        root = ET.fromstring(self._world.volumes.domains[domain])
        return [source.attrib["dev"] for source in root.iterfind("devices/disk/source")]

    def files_of(self, domain: str) -> list[str]:
        """The image files in the definition of a domain, in its order."""
        root = ET.fromstring(self._world.volumes.domains[domain])
        return [source.attrib["file"] for source in root.iterfind("devices/disk[@type='file']/source")]

    def fill(self, directory: str, used_bytes: int) -> None:
        """Have so much of a directory's filesystem taken."""
        self._world.files_of_jobs.used[directory] = used_bytes

    def read_only(self, wwid: str) -> list[str]:
        """Which of a LUN's devices the kernel lets nobody write to: `map`, and the names of paths."""
        lun = self._san.luns[wwid]
        devices = {"map": lun.device, **dict.fromkeys(lun.path_names)}
        return [
            shown
            for shown, device in devices.items()
            if (self._world.root / f"sys/class/block/{device or shown}/ro").read_text().strip() == "1"
        ]

    def set_read_only(self, device: str, read_only: bool) -> None:
        self._san.set_read_only([device], read_only)

    def add_path(self, wwid: str) -> str:
        """Log a LUN in once more: a new device, which the map takes in."""
        return self._san.add_path(wwid, in_map=True)

    def lead_elsewhere(self, device: str, wwid: str) -> None:
        """Give the LUN number of a path to another LUN, of which only an INQUIRY tells."""
        queries, scsi_id = self._world.commands._queries, ("/lib/udev/scsi_id",)
        known = queries[scsi_id]
        queries[scsi_id] = lambda words: f"{wwid}\n" if words[-1] == f"/dev/{device}" else known(words)

    def harm(self, lv_uuid: str, offset: int, length: int) -> None:
        """Overwrite a part of a volume behind p2vd's back."""
        self._world.volumes.harmed[lv_uuid] = ((offset, length),)

    def fill_pool(self, vg_name: str, more_bytes: int) -> None:
        """Let a volume that p2vd does not know take more of the pool, as a virtual machine does."""
        with self._san.lock:
            group = self._world.volumes.groups[vg_name]
            assert group.kind.pool
            other = group.named("other")
            if other is None:
                size = group.kind.pool.size_bytes
                other = SimLv(lvm_uuid("other"), "other", size, "thin", group.kind.pool.name)
                self._world.volumes.add(group, other)
            self._world.volumes.allocate(group, other.uuid, more_bytes)

    def extend_pool(self, vg_name: str, size_bytes: int) -> None:
        """Extend the pool as an administrator does."""
        with self._san.lock:
            group = self._world.volumes.groups[vg_name]
            assert group.kind.pool
        name = f"{vg_name}/{group.kind.pool.name}"
        self._world.commands.change(["lvextend", "-L", f"{size_bytes}b", name], unit="by-hand")

    def kill(self, job: str) -> None:
        self._world.processes.workers[job][0].kill()

    def stall(self, job: str, hangs: bool) -> None:
        self._world.processes.stall(job, hangs)


def steer(steering: Steering) -> None:
    for line in sys.stdin:
        name, arguments = json.loads(line)
        action: Callable[..., Any] = getattr(steering, name)
        print(json.dumps(action(*arguments)), flush=True)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main(address: str, state_dir: str, script: str, max_jobs: str) -> int:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(threadName)s %(name)s: %(message)s")
    logging.getLogger("p2vd.daemon").addHandler(Ready())
    vars(daemon)["Discovery"] = Counting
    vars(under_daemon)["_STALLED_S"] = 1.0  # nobody has to wait that long to see that a read hangs
    config = Config(policy_dirs=(Path(state_dir) / "policy.d",), max_jobs=int(max_jobs), auto_settle_s=0.5)
    before = _resident_bytes()
    config, doors, world = daemon.simulation(config, Path(script), Path(state_dir), address)
    clock = TestClock(Path(state_dir))
    doors = replace(doors, clock=clock)
    threading.Thread(target=steer, args=(Steering(world, clock),), daemon=True).start()
    Ready.times |= {"began": time.monotonic(), "began_cpu": time.process_time()}
    Ready.times |= {"san_bytes": _resident_bytes() - before}
    return daemon.serve(config, doors)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
