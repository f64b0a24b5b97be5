"""Simulated copies: they move no bytes, but keep a worker's order, protocol and checkpoint."""

import errno
import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from p2vd.copying.controls import Controls, Gauge, Interrupted
from p2vd.copying.errors import (
    CheckpointMissing,
    CheckpointUnwritable,
    CopyError,
    ExitCode,
    ReadFailed,
    SourceChanged,
    TooManyBadSectors,
)
from p2vd.copying.nbd_errors import ConnectionLost
from p2vd.copying.orders import Orders
from p2vd.copying.protocol import VERSION, Hello, Start, decode, encode
from p2vd.copying.session import Session
from p2vd.copying.terms import Failure, Report
from p2vd.copying.throttle import ChunkCredit
from p2vd.copying.under_daemon import Conversation
from p2vd.model.copying import Progress, Verify
from p2vd.model.size import MIB, round_up
from p2vd.sim.script import Speeds
from p2vd.system.clock import Clock
from p2vd.system.descriptors import SeqpacketChannel, close_all

log = logging.getLogger(__name__)

# Of a disk's speed, what is done at one go; and no less than this.
_STEP_S = 0.05
_LOOK_S = 0.1


@dataclass(frozen=True)
class Health:
    """How a source is: mapped to this host, reachable by a path, readable; how often it was written to."""

    there: bool = True
    ready: bool = True
    bad_sectors: int = 0
    writes: int = 0


@dataclass
class SimSession:
    """A copy of `start`, in the place of copying's Session. `allocate` is told what it takes of the pool."""

    start: Start
    speeds: Speeds
    data_percent: int
    allocate: Callable[[int], None]
    controls: Controls
    gauge: Gauge
    clock: Clock
    health: Callable[[], Health] = Health
    copied: Callable[[int], None] = lambda done_bytes: None
    on_phase: Callable[[str], None] = lambda phase: None
    on_commit: Callable[[], None] = lambda: None
    killed: bool = False
    flows: threading.Event = field(default_factory=threading.Event)
    """Clear: every I/O hangs, and not even a kill ends it."""

    def __post_init__(self) -> None:
        self.flows.set()
        self._path = Path(self.start.checkpoint_path)
        self._size = self.start.binding.source_size_bytes
        self._done = self._committed = self._verified = self._resumed_from = 0
        self._committed_us = 0
        self._writes = 0
        self._bad: tuple[tuple[int, int], ...] = ()
        self._began = self._last_commit = self.clock.monotonic()

    def run(self) -> Report:
        """Copy and verify; every end is a report, but for a kill, which leaves none."""
        try:
            self.on_phase("checking")
            self._load()
            self.on_phase("copying")
            self._go(self.speeds.copy_bytes_per_s, self._copied)
            self._note_bad()
            self._commit()
            self.on_phase("verifying")
            if self.start.verify is not Verify.NONE:
                self._go(self.speeds.verify_bytes_per_s, self._read_back)
            self._expect_unchanged()
        except Interrupted:
            self._commit()
            return self._report(ExitCode.STOPPED)
        except CopyError as error:
            return self._report(error.exit_code, Failure(error.name, str(error)))
        stable = "proven" if self.start.verify is Verify.BOTH else "sampled"
        return self._report(ExitCode.BAD_SECTORS if self._bad else ExitCode.DONE, stable=stable)

    def progress(self) -> Progress:
        """The counters of this moment."""
        data = self._data_of(self._done)
        elapsed = self.clock.monotonic() - self._began
        moved = self._done - self._resumed_from + self._verified
        return Progress(
            bytes_copied=data,
            bytes_zero=self._done - data,
            bytes_verified=self._verified,
            bad_bytes=sum(length for _, length in self._bad),
            committed_bytes=self._committed,
            allocated_bytes=self.controls.allocated_bytes,
            rate_bytes_per_s=round(moved / elapsed) if elapsed > 0 else 0,
            last_checkpoint_us=self._committed_us,
            resumed_from_bytes=self._resumed_from,
            read_latency_us=self.controls.read_latency_us,
            slowed_bytes_per_s=self.controls.slowed_bytes_per_s,
        )

    def _go(self, bytes_per_s: int, done: Callable[[int, int], None]) -> None:
        step = max(MIB, round_up(round(bytes_per_s * _STEP_S), MIB))
        offset = self._done if done == self._copied else 0
        while offset < self._size:
            if not self.controls.gate():
                raise Interrupted
            length = min(step, self._size - offset)
            try:
                self.controls.throttle(length)
            except Interrupted:  # paused or ending: the gate knows which
                continue
            with self.gauge.io("read", offset):
                self.flows.wait()
                self._read(offset, length)
                self.controls.ended.wait(length / bytes_per_s)
            done(offset, length)
            offset += length
            if self.clock.monotonic() - self._last_commit >= self.start.commit_interval_s:
                self._commit()

    def _copied(self, offset: int, length: int) -> None:
        before = self.controls.allocated_bytes
        if data := self._data_of(offset + length) - self._data_of(offset):
            self.controls.admit(offset, data)
        self.allocate(self.controls.allocated_bytes - before)
        self._done = offset + length
        self.copied(self._done)

    def _read(self, offset: int, length: int) -> None:
        """Wait while no path is there, as a map that queues does. Raises ReadFailed, TooManyBadSectors."""
        while not (health := self.health()).ready:
            time.sleep(_LOOK_S)  # in the kernel: nothing cuts that short
        device = self.start.binding.source_id
        if not health.there and self.start.source_form.nbd is not None:
            raise ConnectionLost(device, offset, length, "Connection refused")
        if not health.there:
            raise ReadFailed(device, offset, length, "No such device or address", errno.ENXIO)
        middle = self._size // 2
        too_many = health.bad_sectors > self.start.bad_sectors
        if too_many and offset <= middle < offset + length:
            raise TooManyBadSectors(device, self.start.bad_sectors, middle)

    def _note_bad(self) -> None:
        if bad := self.health().bad_sectors:
            self._bad = ((self._size // 2, bad * self.start.binding.source_sector_size),)

    def _expect_unchanged(self) -> None:
        if self.health().writes != self._writes:
            raise SourceChanged("the first MiB of the source is not what was read of it", 0, MIB)

    def _read_back(self, offset: int, length: int) -> None:
        self._verified = offset + length

    def _data_of(self, length: int) -> int:
        """How much of the first `length` bytes is data and not zeros."""
        return length * self.data_percent // 100

    def _load(self) -> None:
        if self.start.resume and not self._path.exists():
            raise CheckpointMissing(str(self._path))
        self._writes = self.health().writes
        if self._path.exists():
            kept = json.loads(self._path.read_text())
            self._done = self._committed = self._resumed_from = kept["committed"]
            self._writes = kept["writes"]
            self._expect_unchanged()
        self._commit()

    def _commit(self) -> None:
        if self.killed:
            return
        temporary = self._path.with_suffix(".new")
        try:
            temporary.write_text(
                json.dumps({"simulated": True, "committed": self._done, "writes": self._writes})
            )
            temporary.replace(self._path)
        except OSError as error:
            raise CheckpointUnwritable(str(self._path), str(error)) from error
        self._committed, self._committed_us = self._done, self.clock.now_us()
        self._last_commit = self.clock.monotonic()
        self.on_commit()

    def _report(self, code: ExitCode, failure: Failure | None = None, stable: str = "") -> Report:
        return Report(
            exit_code=int(code),
            progress=self.progress(),
            # No digest of anything, and it says so wherever it is shown.
            digest="simulated:" if code in (ExitCode.DONE, ExitCode.BAD_SECTORS) else "",
            source_stable=stable,
            seconds=round(self.clock.monotonic() - self._began, 3),
            failure=failure,
            bad_ranges=self._bad,
        )


@dataclass
class Duties:
    """What a simulated worker has to know of the SAN: by the Start that it is given."""

    speeds: Speeds
    clock: Clock
    data_percent: Callable[[Start], int]
    allocate: Callable[[Start, int], None]
    health: Callable[[Start], Health]
    copied: Callable[[Start, int], None]


class SimWorker:
    """One worker: a process's life in a thread's stead."""

    def __init__(self, duties: Duties, pid: int) -> None:
        self._duties = duties
        self._pid = pid
        self.asked_to_stop = threading.Event()
        self.session: SimSession | None = None

    def forget(self) -> None:
        """Be killed: from now on nothing is committed."""
        if self.session is not None:
            self.session.killed = True
            self.session.controls.stop()

    def run(self, channel: SeqpacketChannel) -> int:
        """Do one job for the daemon on the other end, as copying.worker does; return the exit code."""
        try:
            channel.send(encode(Hello(VERSION, self._pid)))
            packet = channel.receive()
        except BrokenPipeError:
            packet = None
        if packet is None:
            return int(ExitCode.STOPPED)
        descriptors = packet[1]
        try:
            start = decode(packet[0])
            if not isinstance(start, Start):
                log.error("a simulated worker was told %s before start", type(start).__name__)
                return int(ExitCode.REFUSED)
            return self._copy(channel, start)
        finally:
            close_all(descriptors)

    def _copy(self, channel: SeqpacketChannel, start: Start) -> int:
        duties = self._duties
        chunk = start.target.credit_chunk_bytes or start.target.thin_chunk_bytes
        credit = ChunkCredit(chunk, start.credit_bytes)
        controls = Controls(duties.clock, credit, start.bandwidth_bytes_per_s, start.max_latency_us)
        gauge = Gauge(duties.clock, controls.source_answered)
        session = self.session = SimSession(
            start,
            duties.speeds,
            duties.data_percent(start),
            lambda more: duties.allocate(start, more),
            controls,
            gauge,
            duties.clock,
            health=lambda: duties.health(start),
            copied=lambda done_bytes: duties.copied(start, done_bytes),
        )
        # It has all that a conversation uses of a session.
        same = cast(Session, session)
        orders = Orders(channel, controls, self.asked_to_stop)
        return Conversation(orders, same, gauge, duties.clock).run().exit_code
