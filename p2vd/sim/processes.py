"""The door to processes: simulated openers and workers, each a thread at the other end of its channel."""

import itertools
import os
import socket
import threading
from collections.abc import Callable, Sequence

from p2vd.copying.errors import TargetRefused
from p2vd.copying.opening import OpenError, OpenReply, OpenRequest, SourceToOpen, TargetToOpen
from p2vd.copying.protocol import Start
from p2vd.model.codec import from_dict, to_dict
from p2vd.model.errors import DeviceAbsent, DeviceInUse, P2vdError
from p2vd.sim.exports import SimExports
from p2vd.sim.files import SimFiles
from p2vd.sim.mapper import DmDevice
from p2vd.sim.script import Script
from p2vd.sim.verifier import SimVerifier
from p2vd.sim.volumes import Volumes
from p2vd.sim.worker import Duties, Health, SimWorker
from p2vd.system import block
from p2vd.system.clock import Clock
from p2vd.system.descriptors import SeqpacketChannel, close_all

# Beyond what the kernel gives to a process, so that nobody takes it for one.
_FIRST_PID = 1 << 23
_SIGKILL = 9


class SimChild:
    """A thread in a process's stead. `killed` is called by a kill, before the channel breaks."""

    def __init__(
        self,
        pid: int,
        channel_fd: int,
        run: Callable[[SeqpacketChannel], int],
        asked_to_stop: threading.Event,
        killed: Callable[[], None],
    ) -> None:
        self._pid = pid
        self._socket = socket.socket(fileno=os.dup(channel_fd))
        self._socket.set_inheritable(False)
        self._run_it = run
        self._asked_to_stop = asked_to_stop
        self._killed = killed
        self._signal = 0
        self._code: int | None = None
        self._thread = threading.Thread(target=self._run, name=f"sim-{pid}", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """A number that no process has."""
        return self._pid

    def poll(self) -> int | None:
        """Return the exit status if it ended, else None."""
        return self._code

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait for the end. Raises TimeoutError."""
        self._thread.join(timeout_s)
        if self._code is None:
            raise TimeoutError(f"simulated process {self.pid} still runs after {timeout_s} s")
        return self._code

    def terminate(self) -> None:
        """End at a checkpoint."""
        self._asked_to_stop.set()

    def kill(self) -> None:
        """End without a word; one that hangs in an I/O ends when that does."""
        if self._code is None:
            self._signal = _SIGKILL
            self._killed()
            self._socket.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        code = 1
        try:
            with SeqpacketChannel(self._socket) as channel:
                code = self._run_it(channel)
        finally:
            self._code = -self._signal if self._signal else code


class Processes:
    """Starts them. Thread-safe. `workers`: the latest one of each job."""

    def __init__(self, volumes: Volumes, files: SimFiles, script: Script, clock: Clock) -> None:
        self.exports = SimExports(script.exports)
        self._volumes = volumes
        self._files = files
        self._san = volumes.san
        self._duties = Duties(
            script.speeds, clock, self._data_percent, self._allocate, self._health, self._copied
        )
        self.on_copied: Callable[[str, float], None] = lambda wwid, percent: None
        """Told how far the copy of a LUN is."""
        self._pids = itertools.count(_FIRST_PID)
        self.workers: dict[str, tuple[SimChild, SimWorker]] = {}

    def spawn(self, argv: Sequence[str], channel_fd: int) -> SimChild:
        """Start what `argv` names, with the channel's descriptor. Raises ValueError for anything else."""
        pid = next(self._pids)
        if "p2vd.copying.opener" in argv:
            return SimChild(pid, channel_fd, self._open, threading.Event(), lambda: None)
        if "p2vd.copying.nbd_asker" in argv:
            return SimChild(pid, channel_fd, self.exports.ask, threading.Event(), lambda: None)
        if "p2vd.copying.verifier" in argv:
            verifier = SimVerifier(self._duties.speeds.verify_bytes_per_s, self._volumes.harm)
            return SimChild(pid, channel_fd, verifier.run, threading.Event(), lambda: None)
        if "p2vd.copying.worker" not in argv:
            raise ValueError(f"the simulated host has no program {argv!r}")
        worker = SimWorker(self._duties, pid)
        child = SimChild(pid, channel_fd, worker.run, worker.asked_to_stop, worker.forget)
        self.workers[argv[argv.index("--job") + 1]] = (child, worker)
        return child

    def stall(self, job_uuid: str, hangs: bool) -> None:
        """Let the I/O of a job's worker hang in the kernel, or go on. Raises KeyError where there is none."""
        session = self.workers[job_uuid][1].session
        if session is None:
            raise KeyError(job_uuid)
        if hangs:
            session.flows.clear()
        else:
            session.flows.set()

    def job_of(self, wwid: str) -> str:
        """Return the job whose worker reads a LUN now. Raises KeyError where none does."""
        for job, (child, worker) in self.workers.items():
            session = worker.session
            if session is not None and child.poll() is None and session.start.binding.source_id == wwid:
                return job
        raise KeyError(wwid)

    def _open(self, channel: SeqpacketChannel) -> int:
        packet = channel.receive()
        if packet is None:
            return 1
        descriptors: list[int] = []
        try:
            with self._san.lock:
                descriptors = self._descriptors(from_dict(OpenRequest, packet[0]))
            reply = OpenReply(ok=True)
        except P2vdError as error:
            reply = OpenReply(ok=False, error=OpenError(error.name, str(error)))
        try:
            channel.send(to_dict(reply), descriptors)
        except BrokenPipeError:
            return 1
        finally:
            close_all(descriptors)
        return 0

    def _descriptors(self, request: OpenRequest) -> list[int]:
        if request.source is None:  # an NBD export: the worker connects to it
            return [self._open_target(request.target, request.previous_open_count)] if request.target else []
        if request.source_alone:  # a volume that is to be read again
            volume = self._volume(request.source)
            return [self._open_device(volume, request.source.devnode, request.previous_open_count)]
        source = self._san.lun_of(request.source.devnode)
        if source is None or not any(path.ready for path in source.paths):
            raise DeviceAbsent(request.source.devnode, "The source")
        if request.target is None:
            return []
        opened = self._open_target(request.target, request.previous_open_count)
        return [os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), opened]

    def _open_target(self, target: TargetToOpen, previous_open_count: int) -> int:
        if target.image:
            return self._open_file(target)
        return self._open_device(self._device(target), target.devnode, previous_open_count)

    def _open_device(self, device: DmDevice, devnode: str, allowed: int) -> int:
        mapper = self._volumes.mapper
        if mapper.open_count(device) > allowed:
            raise DeviceInUse(devnode, "another process")
        return mapper.open(device)

    def _volume(self, wanted: SourceToOpen) -> DmDevice:
        found = self._volumes.device(wanted.dm_uuid)
        if found is None:
            raise DeviceAbsent(wanted.devnode, "The volume")
        return found[2]

    def _device(self, target: TargetToOpen) -> DmDevice:
        found = self._volumes.device(target.dm_uuid)
        if found is not None:
            return found[2]
        lun = self._san.luns.get(target.wwid)
        if lun is None or not any(path.ready for path in lun.paths):
            raise DeviceAbsent(target.devnode, "The target")
        if target.must_be_empty and not self._volumes.is_empty(lun):
            raise TargetRefused(target.devnode, "it holds ext4 at 0x438.")
        return self._volumes.map_of(lun)

    def _open_file(self, target: TargetToOpen) -> int:
        try:
            opened = os.open(self._files.real(target.devnode), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            raise DeviceAbsent(target.devnode, "The target") from None
        if block.file_id(opened) != target.file_id or not block.hold_file(opened, alone=True):
            os.close(opened)
            raise DeviceInUse(target.devnode, "another process")
        return opened

    def _data_percent(self, start: Start) -> int:
        if (export := self.exports.find(start.binding.source_id)) is not None:
            return export.kind.data_percent
        with self._san.lock:
            lun = self._san.luns.get(start.binding.source_id)
        return lun.kind.data_percent if lun else 0

    def _allocate(self, start: Start, more_bytes: int) -> None:
        with self._san.lock:
            if start.target.is_file:
                self._files.take(start.binding.target_id.rpartition("#")[0], more_bytes)
            found = self._volumes.device(start.target.dm_uuid)
            if found is None and (lun := self._san.luns.get(start.binding.target_id)) is not None:
                self._volumes.fill(lun)
            if found is not None:
                group, lv, _ = found
                self._volumes.allocate(group, lv.uuid, more_bytes)

    def _health(self, start: Start) -> Health:
        if (export := self.exports.find(start.binding.source_id)) is not None:
            return Health(there=not export.away)
        with self._san.lock:
            lun = self._san.luns.get(start.binding.source_id)
            if lun is None:
                return Health(there=False)
            ready = any(path.ready for path in lun.paths)
            return Health(ready=ready, bad_sectors=lun.bad_sectors, writes=lun.writes)

    def _copied(self, start: Start, done_bytes: int) -> None:
        self.on_copied(start.binding.source_id, 100 * done_bytes / start.binding.source_size_bytes)
