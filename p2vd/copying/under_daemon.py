"""`p2vd-copy --daemon FD`: the worker under the daemon.

It speaks the protocol on the inherited socket: `hello`, then it waits for `start`
with two descriptors. It opens its checkpoint, commits once, drops every privilege, and only then
reads its first byte. A socket that closes means that the daemon is gone: it stops at a checkpoint.
"""

import argparse
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from p2vd.copying.checkpoint import Header
from p2vd.copying.controls import Controls, Gauge, Interrupted, Outstanding
from p2vd.copying.digests import DigestKind
from p2vd.copying.early_end import report_of
from p2vd.copying.errors import ExitCode
from p2vd.copying.handed import HandedForms
from p2vd.copying.orders import Orders
from p2vd.copying.protocol import (
    FORMS_VERSION,
    VERSION,
    Hello,
    NeedCredit,
    Phase,
    ProgressReport,
    Stalled,
    Start,
    ToDaemon,
    decode,
    encode,
)
from p2vd.copying.session import Session
from p2vd.copying.session_thread import SessionThread
from p2vd.copying.store import open_checkpoint
from p2vd.copying.terms import Report
from p2vd.copying.throttle import ChunkCredit
from p2vd.model.copying import MAX_QUEUE_DEPTH, Progress
from p2vd.model.errors import P2vdError
from p2vd.system import privileges
from p2vd.system.clock import Clock, SystemClock
from p2vd.system.descriptors import SeqpacketChannel

log = logging.getLogger(__name__)

_TICK_S = 0.2
_PROGRESS_S = 0.5
_STALLED_S = 5.0
_START_WITHIN_S = 60.0


@dataclass
class Conversation:
    """The worker's half of the protocol, on the main thread; the copy runs on others."""

    orders: Orders
    session: Session
    gauge: Gauge
    clock: Clock
    _committed: threading.Event = field(default_factory=threading.Event)
    _phase: str = ""
    _told_phase: str = ""
    _told_stall: Outstanding | None = None
    _told_credit: int = 0
    _told_at: float = 0.0

    def run(self) -> Report:
        """Run the session to its end, obeying and telling meanwhile; return its report."""
        self.session.on_phase = self._note_phase
        self.session.on_commit = self._committed.set
        runner = SessionThread(self.session)
        self.orders.running = True
        runner.start()
        while runner.is_alive():
            if self.orders.alone:
                runner.join(_TICK_S)
            else:
                self.orders.listen(_TICK_S)
            self._tell()
            if self.orders.stop_asked.is_set():
                self.orders.controls.stop()
        report = runner.report()
        self._tell_phase()
        self._send(report)
        return report

    def _tell(self) -> None:
        self._tell_phase()
        now = self.clock.monotonic()
        committed = self._committed.is_set()
        if committed or now - self._told_at >= _PROGRESS_S:
            self._committed.clear()
            self._told_at = now
            self._send(ProgressReport(self.session.progress(), committed))
        wanted = self.orders.controls.credit_wanted
        if wanted and wanted != self._told_credit:
            self._send(NeedCredit(wanted))
        self._told_credit = wanted
        self._tell_stall()

    def _tell_phase(self) -> None:
        if self._phase != self._told_phase:
            self._told_phase = self._phase
            self._send(Phase(self._phase))

    def _tell_stall(self) -> None:
        stall = self.gauge.oldest(_STALLED_S)
        if stall == self._told_stall:
            return
        if stall is not None:
            log.warning("%s at offset %d is outstanding", stall.operation, stall.offset)
            self._send(Stalled(stall.operation, stall.offset, stall.since_us))
        elif self._told_stall is not None:
            self._send(Stalled(self._told_stall.operation, self._told_stall.offset, 0))
        self._told_stall = stall

    def _note_phase(self, phase: str) -> None:
        self._phase = phase

    def _send(self, message: ToDaemon) -> None:
        if self.orders.alone:
            return
        try:
            # A daemon that does not read must not keep the worker from stopping.
            self.orders.channel.send(encode(message), timeout_s=10.0 if isinstance(message, Report) else 1.0)
        except TimeoutError:
            log.warning("the daemon does not read; %s is dropped", type(message).__name__)
        except BrokenPipeError:
            self.orders.alone = True
            self.orders.controls.stop()


def prepare(
    start: Start, fds: Sequence[int], clock: Clock, channel: SeqpacketChannel, stop_asked: threading.Event
) -> tuple[Session, Orders, Gauge]:
    """Make the session of a Start; afterwards the process has no privilege left.

    It may take its time (qemu-img reads all of an image's tables), and obeys the daemon meanwhile.
    Raises P2vdError; Interrupted; ValueError where the Start makes no sense, before anything is opened.
    """
    handed = HandedForms(start, fds)
    if not 1 <= start.queue_depth <= MAX_QUEUE_DEPTH:
        raise ValueError(f"a queue depth of {start.queue_depth}")
    if start.bandwidth_bytes_per_s < 0 or start.commit_interval_s <= 0 or start.bad_sectors < 0:
        raise ValueError("a bandwidth, a commit interval or a count of bad sectors below zero")
    if start.max_latency_us < 0:
        raise ValueError("a latency below zero")
    DigestKind.named(start.digest)
    chunk = start.target.credit_chunk_bytes or start.target.thin_chunk_bytes
    credit = ChunkCredit(chunk, start.credit_bytes)
    controls = Controls(clock, credit, start.bandwidth_bytes_per_s, start.max_latency_us)
    gauge = Gauge(clock, controls.source_answered)
    orders = Orders(channel, controls, stop_asked)
    handed.open_source(controls, gauge, orders.ended)
    header = Header(start.binding, start.target.size_bytes, start.digest)
    checkpoint = open_checkpoint(Path(start.checkpoint_path), header, must_exist=start.resume)
    checkpoint.io = gauge.io
    handed.open_target(controls, gauge, orders.ended, checkpoint)
    privileges.become(start.worker_uid, start.worker_gid)
    source, target = handed.finish()
    session = Session(
        checkpoint,
        source,
        target,
        controls,
        clock,
        start.verify,
        start.queue_depth,
        start.commit_interval_s,
        bad_sectors=start.bad_sectors,
        read_back_anew=start.read_back_anew,
    )
    return session, orders, gauge


def await_start(
    channel: SeqpacketChannel, stop_asked: threading.Event, clock: Clock, within_s: float
) -> tuple[Start, list[int]] | None:
    """Return the daemon's Start and its descriptors; None: it is gone, or a signal came.

    Raises ValueError for anything else than a Start of this version, and when none comes in time.
    """
    until = clock.monotonic() + within_s
    while not stop_asked.is_set():
        try:
            packet = channel.receive(_TICK_S)
        except TimeoutError:
            if clock.monotonic() >= until:
                raise ValueError(f"no start came within {within_s:g} s") from None
            continue
        if packet is None:
            return None
        data, fds = packet
        version = data.get("version")
        if data.get("type") == "start" and version not in (
            VERSION,
            FORMS_VERSION,
        ):  # its fields may be others
            raise ValueError(f"the daemon speaks version {version!r}, this worker {VERSION}")
        start = decode(data)
        if not isinstance(start, Start):
            raise ValueError(f"a {type(start).__name__} came before Start")  # noqa: TRY004 - a wrong message
        return start, fds
    return None


def run_under_daemon(fd: int, start_within_s: float = _START_WITHIN_S) -> int:
    """Do one job for the daemon on the other end of `fd`; return the exit code."""
    clock = SystemClock()
    stop_asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop_asked.set())
    with SeqpacketChannel.from_fd(fd) as channel:
        try:
            channel.send(encode(Hello(VERSION, os.getpid())))
            started = await_start(channel, stop_asked, clock, start_within_s)
            if started is None:
                return int(ExitCode.STOPPED)
            session, orders, gauge = prepare(*started, clock, channel, stop_asked)
        except BrokenPipeError:
            return int(ExitCode.STOPPED)
        except Interrupted:
            return _end_early(channel, Report(int(ExitCode.STOPPED), Progress()))
        except (P2vdError, ValueError) as error:
            log.error("%s", error)  # noqa: TRY400 - a refusal, no defect
            return _end_early(channel, report_of(error))
        report = Conversation(orders, session, gauge, clock).run()
        session.checkpoint.close()
        return report.exit_code


def _end_early(channel: SeqpacketChannel, report: Report) -> int:
    with contextlib.suppress(BrokenPipeError, TimeoutError):  # the exit code says it, too
        channel.send(encode(report))
    return report.exit_code


def main(words: Sequence[str]) -> int:
    """Be the worker that the daemon started with these words."""
    parser = argparse.ArgumentParser(prog="p2vd-copy", description=__doc__)
    parser.add_argument("--daemon", type=int, required=True, metavar="FD")
    parser.add_argument("--job", default="", help="the job's UUID: who this is, in ps(1)")
    logging.basicConfig(level=logging.INFO, format="p2vd-copy %(levelname)s: %(message)s")
    return run_under_daemon(parser.parse_args(words).daemon)
