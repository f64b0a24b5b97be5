"""Lets go wrong what the script says, when it says so, and takes back what does not last."""

import heapq
import itertools
import json
import logging
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from p2vd.sim.commands import SimCommands
from p2vd.sim.fault import Fault, FaultKind
from p2vd.sim.processes import Processes
from p2vd.sim.script import Luns
from p2vd.sim.volumes import SimVg, Volumes
from p2vd.system.clock import Clock

log = logging.getLogger(__name__)

_HANGS_S = 1e6  # a command that hangs and does not only take long
# What a restart of the simulated host takes back. Pools and what is in them are kept; workers are other ones.
_MADE_ANEW = frozenset(
    {
        FaultKind.PATH_FAILS,
        FaultKind.LUN_UNMAPPED,
        FaultKind.LUN_MAPPED,
        FaultKind.LUN_GROWS,
        FaultKind.EXPORT_AWAY,
        FaultKind.BAD_SECTORS,
        FaultKind.SOURCE_CHANGED,
        FaultKind.LIBVIRTD_AWAY,
        FaultKind.COMMAND_SLOW,
    }
)
Undo = Callable[[], None]


def _nothing() -> None:
    """There is nothing to take back."""


class Faults:
    """The faults of one simulated host. Thread-safe.

    A fault of the script happens once in the life of a state directory: `done` remembers it. One that is for
    good is there again after a restart, for the LUNs are made anew then.
    """

    def __init__(
        self,
        volumes: Volumes,
        commands: SimCommands,
        processes: Processes,
        faults: Sequence[Fault],
        done: Path,
        clock: Clock,
    ) -> None:
        self._volumes = volumes
        self._san = volumes.san
        self._commands = commands
        self._processes = processes
        self._done_path = done
        self._clock = clock
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._failed: Counter[str] = Counter()
        names = {f"{number} {fault}": fault for number, fault in enumerate(faults, 1)}
        self._done = set(json.loads(done.read_text())) if done.exists() else set()
        self._at_percent = {name: each for name, each in names.items() if each.at_percent}
        self._thread: threading.Thread | None = None
        for name, fault in names.items():
            if name in self._done:
                self._at_percent.pop(name, None)
                if fault.kind in _MADE_ANEW and not fault.lasts_seconds:
                    self.begin(fault)
            elif not fault.at_percent:
                self._later(fault.after_seconds, partial(self._happen, name, fault))
        processes.on_copied = self._copied

    def begin(self, fault: Fault) -> Undo:
        """Let a fault happen now; returns what takes it back. Raises KeyError where it cannot happen."""
        log.warning("simulated fault: %s", describe(fault))
        with self._san.lock:
            return self._begin(fault)

    def _copied(self, wwid: str, percent: float) -> None:
        """Hear how far the copy of a LUN or an export is. On any thread."""
        for name, fault in list(self._at_percent.items()):
            due = self._disk_of(fault) == wwid and percent >= fault.at_percent
            if due and self._at_percent.pop(name, None) is not None:
                self._later(fault.after_seconds, partial(self._happen, name, fault))

    def _disk_of(self, fault: Fault) -> str:
        """Return the id of the LUN or the export that a fault concerns."""
        if fault.export:
            return self._processes.exports.all[fault.export - 1].id
        return self._volumes.spare[fault.lun - 1]

    def _happen(self, name: str, fault: Fault) -> None:
        self._done.add(name)
        temporary = self._done_path.with_suffix(".new")
        temporary.write_text(json.dumps(sorted(self._done)))
        temporary.replace(self._done_path)
        undo = self.begin(fault)
        if fault.lasts_seconds:
            self._later(fault.lasts_seconds, partial(self._end, fault, undo))

    @staticmethod
    def _end(fault: Fault, undo: Undo) -> None:
        log.warning("simulated fault is over: %s", describe(fault))
        undo()

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        with self._changed:
            heapq.heappush(self._due, (self._clock.monotonic() + seconds, next(self._numbers), action))
            if self._thread is None:
                self._thread = threading.Thread(target=self._play, name="faults", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _play(self) -> None:
        while True:
            with self._changed:
                while not self._due or (left := self._due[0][0] - self._clock.monotonic()) > 0:
                    self._changed.wait(left if self._due else None)
                _, _, action = heapq.heappop(self._due)
            try:
                action()
            except Exception:  # what cannot happen now must not end what comes after
                log.exception("a simulated fault cannot happen now")

    def _begin(self, fault: Fault) -> Undo:
        san, volumes = self._san, self._volumes
        wwid = volumes.spare[fault.lun - 1] if volumes.spare else ""
        match fault.kind:
            case FaultKind.PATH_FAILS:
                return self._fail_paths(wwid, fault.path)
            case FaultKind.LUN_UNMAPPED:
                lun = san.luns[wwid]
                san.detach(wwid)
                return partial(san.attach_again, lun)
            case FaultKind.LUN_MAPPED:
                (new,) = san.attach(Luns(size_bytes=fault.size_bytes))
                return partial(san.detach, new.wwid)
            case FaultKind.LUN_GROWS:
                san.grow(wwid, fault.size_bytes)
            case FaultKind.EXPORT_AWAY:
                export = self._processes.exports.all[fault.export - 1]
                export.away = True
                return partial(setattr, export, "away", False)
            case FaultKind.BAD_SECTORS:
                san.luns[wwid].bad_sectors = fault.count
                return partial(self._heal, wwid)
            case FaultKind.SOURCE_CHANGED:
                san.luns[wwid].writes += 1
            case FaultKind.POOL_FILLED:
                group = self._group(fault.group)
                volumes.fill_pool(group, fault.percent)
                return partial(volumes.empty_pool, group)
            case FaultKind.POOL_EXTENDED:
                volumes.extend_pool(self._group(fault.group), fault.size_bytes)
            case FaultKind.LIBVIRTD_AWAY:
                volumes.libvirt_down = True
                return self._libvirtd_back
            case FaultKind.COMMAND_SLOW:
                return self._commands.slow_down(fault.command, _HANGS_S)
            case FaultKind.DAEMON_DIES:
                os.kill(os.getpid(), signal.SIGKILL)
            case _:
                return self._trouble_worker(fault.kind, wwid)
        return _nothing

    def _heal(self, wwid: str) -> None:
        self._san.luns[wwid].bad_sectors = 0

    def _libvirtd_back(self) -> None:
        self._volumes.libvirt_down = False

    def _fail_paths(self, wwid: str, number: int) -> Undo:
        names = self._san.luns[wwid].path_names
        failed = names[number - 1 : number] if number else names
        for name in failed:
            self._san.set_path(name, ready=False)
        self._failed.update(failed)

        def back() -> None:
            with self._san.lock:
                self._failed.subtract(failed)
                there = self._san.luns[wwid].path_names if wwid in self._san.luns else ()
                for name in set(failed) & set(there):
                    if not self._failed[name]:  # else another fault of it is not over
                        self._san.set_path(name, ready=True)

        return back

    def _trouble_worker(self, kind: FaultKind, wwid: str) -> Undo:
        job = self._processes.job_of(wwid)
        if kind is FaultKind.WORKER_DIES:
            self._processes.workers[job][0].kill()
            return _nothing
        self._processes.stall(job, hangs=True)
        return partial(self._processes.stall, job, hangs=False)

    def _group(self, name: str) -> SimVg:
        groups = self._volumes.groups
        return groups[name] if name else next(group for group in groups.values() if group.kind.pool)


def describe(fault: Fault) -> str:
    """Return a fault as the log has it: its kind, and what was said besides."""
    default = Fault(fault.kind)
    told = [f"{key} {value}" for key, value in vars(fault).items() if value != getattr(default, key)]
    return ", ".join([fault.kind.value, *told])
