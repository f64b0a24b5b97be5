"""`p2vd-copy SOURCE TARGET --checkpoint FILE`: the tool of its own, without daemon and D-Bus."""

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from p2vd.copying import endpoints, forms, options
from p2vd.copying.checkpoint import Checkpoint, Header
from p2vd.copying.controls import COMMITTING, Controls, Gauge, Interrupted, Outstanding
from p2vd.copying.digests import DigestKind
from p2vd.copying.early_end import report_of
from p2vd.copying.endpoints import Endpoint
from p2vd.copying.errors import CheckpointMissing, ExitCode, MapfileUnwritable, PoolFull, UsageError
from p2vd.copying.forms import Asked, OpenSource, OpenTarget
from p2vd.copying.mapfile import mapfile
from p2vd.copying.opened import source_on, target_on
from p2vd.copying.session import Session
from p2vd.copying.session_thread import SessionThread
from p2vd.copying.store import open_checkpoint
from p2vd.copying.terms import Binding, Report, TargetTraits
from p2vd.copying.throttle import ChunkCredit
from p2vd.model.codec import to_dict
from p2vd.model.copying import MAX_BAD_SECTORS, MAX_QUEUE_DEPTH, Progress, Verify
from p2vd.model.duration import parse_latency
from p2vd.model.errors import P2vdError
from p2vd.model.size import format_size, parse_size
from p2vd.system.clock import Clock, SystemClock

log = logging.getLogger(__name__)

_TICK_S = 0.1
_PROGRESS_S = 0.5
_STALLED_S = 5.0
_JOB = "p2vd-copy"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Exit 1: the manual's "refused", not argparse's 2, which means a failed I/O here."""
        self.print_usage(sys.stderr)
        self.exit(int(ExitCode.REFUSED), f"{self.prog}: {message}\n")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = _Parser(
        prog="p2vd-copy",
        description="Copy a disk or file to another, provably, resumable after any crash.",
        epilog="Exit status: 0 done and proven as asked, 1 refused, 2 I/O failed (run it again to resume), "
        "3 verification found a difference, 4 done but for unreadable sectors, 5 stopped by a signal at a "
        "checkpoint.",
        allow_abbrev=False,
        # A given width: argparse asks for the terminal's at each argument, and loads a module to do so.
        formatter_class=lambda prog: argparse.HelpFormatter(prog, width=100),
    )
    parser.add_argument(
        "source", metavar="SOURCE", help="a block device, a file, or the URI of an NBD export"
    )
    parser.add_argument("target", type=Path, metavar="TARGET", help="a block device, or a file to create")
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE")
    parser.add_argument("--verify", choices=[each.value for each in Verify], default=Verify.READ_BACK.value)
    parser.add_argument("--digest", choices=[each.value for each in DigestKind], default="xxh3")
    parser.add_argument("--target-is-zero", action="store_true", help="a block target reads as zero")
    parser.add_argument("--queue-depth", type=int, default=8, metavar="N")
    parser.add_argument("--bandwidth", type=parse_size, default=0, metavar="SIZE", help="a second")
    parser.add_argument(
        "--max-latency",
        type=parse_latency,
        default=0,
        metavar="TIME",
        help="slow down while a read of the source takes longer, such as 20ms",
    )
    parser.add_argument(
        "--bad-sectors",
        type=_bad_sectors,
        default=0,
        metavar="fail|N",
        help="how many sectors of the source may be unreadable: zeros take their place",
    )
    parser.add_argument("--mapfile", type=Path, metavar="FILE", help="write what was read, for ddrescue")
    parser.add_argument(
        "--resync", action="store_true", help="a later pass: write only what changed since the copy"
    )
    parser.add_argument(
        "--target-unchanged",
        action="store_true",
        help="with --resync: nothing wrote to the target since, it need not be read to prove that",
    )
    parser.add_argument("--force", action="store_true", help="a block target may hold leftover bytes")
    options.add(parser)
    parser.add_argument("--json", action="store_true", help="one object a line")
    return parser


def _bad_sectors(text: str) -> int:
    count = 0 if text == "fail" else int(text)
    if not 0 <= count <= MAX_BAD_SECTORS:
        raise ValueError(text)
    return count


class Console:
    """What the tool says: on a terminal one line that is rewritten, as JSON one object a line."""

    def __init__(self, as_json: bool, size_bytes: int = 0):
        self._json = as_json
        self._live = not as_json and sys.stderr.isatty()
        self.size_bytes = size_bytes

    def progress(self, phase: str, progress: Progress) -> None:
        """Tell how far it is."""
        if self._json:
            self._line("progress", {"phase": phase, **to_dict(progress)})
        elif self._live:
            moved = progress.bytes_copied + progress.bytes_zero + progress.bytes_same + progress.bad_bytes
            shown = progress.bytes_verified if phase in ("proving", "verifying") else moved
            rate = format_size(progress.rate_bytes_per_s)
            slowed = ", slowed down" if progress.slowed_bytes_per_s else ""
            text = f"{phase}: {format_size(shown)} of {format_size(self.size_bytes)}, {rate}/s{slowed}"
            print(f"\r{text:<78}", end="", file=sys.stderr, flush=True)

    def stalled(self, stall: Outstanding) -> None:
        """Tell of an I/O that does not come back."""
        if self._json:
            self._line("stalled", {"operation": stall.operation, "offset": stall.offset})
        else:
            what = f"{stall.operation} at offset {stall.offset}"
            if stall.operation == COMMITTING:
                what = "commit of the checkpoint"
            print(f"\nstill waiting: {what}", file=sys.stderr)

    def held(self, error: PoolFull) -> None:
        """Tell of a write that waits for space."""
        if self._json:
            self._line("held", {"reason": "no-space", "offset": error.offset, "message": str(error)})
        else:
            print(f"\nwaiting, and trying again: {error}", file=sys.stderr)

    def report(self, report: Report) -> None:
        """Tell the end."""
        progress, failure = report.progress, report.failure
        if self._json:
            self._line(
                "report",
                {
                    "exit_code": report.exit_code,
                    "bytes_copied": progress.bytes_copied,
                    "bytes_zero": progress.bytes_zero,
                    "bytes_skipped": progress.resumed_from_bytes,
                    "bytes_same": progress.bytes_same,
                    "bytes_verified": progress.bytes_verified,
                    "bytes_bad": progress.bad_bytes,
                    "committed_bytes": progress.committed_bytes,
                    "seconds": report.seconds,
                    "digest": report.digest,
                    "source_stable": report.source_stable,
                    "bad_ranges": report.bad_ranges,
                    "failure": to_dict(failure),
                },
            )
            return
        if self._live:
            print(file=sys.stderr)
        if failure is not None:
            print(f"p2vd-copy: {failure.message}", file=sys.stderr)
        elif report.exit_code == ExitCode.STOPPED:
            done = format_size(progress.committed_bytes)
            print(f"stopped at a checkpoint: {done} of {format_size(self.size_bytes)} are safe; run it again")
        else:
            same = f"{format_size(progress.bytes_same)} unchanged, " if progress.bytes_same else ""
            print(
                f"done: {format_size(progress.bytes_copied)} copied, "
                f"{format_size(progress.bytes_zero)} zero, {same}"
                f"{format_size(progress.bytes_verified)} verified in {report.seconds:.1f} s {report.digest}"
            )
            if report.bad_ranges:
                print(
                    f"p2vd-copy: {format_size(progress.bad_bytes)} of the source in "
                    f"{len(report.bad_ranges)} places cannot be read; the target has zeros there",
                    file=sys.stderr,
                )

    @staticmethod
    def _line(kind: str, fields: Mapping[str, object]) -> None:
        print(json.dumps({"type": kind, **fields}), flush=True)


def main(words: Sequence[str]) -> int:
    """Copy as the command line says; return the exit status."""
    logging.basicConfig(level=logging.WARNING, format="p2vd-copy: %(message)s")
    arguments = parser().parse_args(words)
    console = Console(arguments.json)
    stop_asked = threading.Event()
    clock = SystemClock()
    controls = Controls(clock, ChunkCredit(0), arguments.bandwidth, arguments.max_latency)
    gauge = Gauge(clock, controls.source_answered)

    def stop(*_: object) -> None:
        if not stop_asked.is_set():
            stop_asked.set()
            controls.ended.set()  # heard also while an image is read to learn its size

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    ending = contextlib.ExitStack()
    try:
        session = _prepare(arguments, clock, controls, gauge, ending)
        _write_mapfile(arguments.mapfile, session.checkpoint)  # a place that cannot be written is told now
    except P2vdError as error:
        ending.close()
        report = report_of(error)
        console.report(report)
        return report.exit_code
    except Interrupted:
        ending.close()
        console.report(Report(int(ExitCode.STOPPED), Progress()))
        return int(ExitCode.STOPPED)
    console.size_bytes = session.checkpoint.layout.source_bytes
    with ending:  # who sees the report finds the target closed
        report = _watch(session, controls, gauge, console, stop_asked, clock)
    console.report(report)
    try:
        _write_mapfile(arguments.mapfile, session.checkpoint)
    except MapfileUnwritable as error:
        log.error("%s", error)  # noqa: TRY400 - the copy itself ended as it says
    session.checkpoint.close()
    return report.exit_code


def _write_mapfile(path: Path | None, checkpoint: Checkpoint) -> None:
    """Write what the checkpoint knows. Raises MapfileUnwritable."""
    if path is None:
        return
    lines = mapfile(checkpoint.layout, checkpoint.regions(), checkpoint.header.bad, "p2vd-copy")
    new = path.with_name(path.name + ".new")
    try:
        with new.open("w", encoding="ascii") as file:
            file.writelines(lines)
        new.replace(path)
    except OSError as error:
        raise MapfileUnwritable(str(path), error.strerror or str(error)) from error


def _prepare(
    arguments: argparse.Namespace,
    clock: Clock,
    controls: Controls,
    gauge: Gauge,
    ending: contextlib.ExitStack,
) -> Session:
    verify = Verify(arguments.verify)
    if arguments.digest == DigestKind.NONE.value and verify is Verify.READ_BACK:
        raise UsageError("--digest none leaves nothing to compare with: use --verify both or none with it.")
    if not 1 <= arguments.queue_depth <= MAX_QUEUE_DEPTH:
        raise UsageError(f"--queue-depth must be from 1 to {MAX_QUEUE_DEPTH}.")
    if arguments.target_unchanged and not arguments.resync:
        raise UsageError("--target-unchanged says something only together with --resync.")
    if arguments.resync:
        if arguments.digest == DigestKind.NONE.value:
            raise UsageError("--resync compares digests: it cannot be used with --digest none.")
        if not arguments.checkpoint.exists():
            raise CheckpointMissing(str(arguments.checkpoint))
    asked = options.asked(arguments, controls, gauge)
    source = _open_source(asked, clock)
    ending.callback(source.close)
    make = forms.TARGETS.get(asked.target_form.format)
    target = make(asked, source) if make else _plain_target(arguments, asked, source.endpoint, clock)
    ending.callback(target.close)
    target.checkpoint.io = gauge.io
    if arguments.resync:
        target.checkpoint.begin_pass(target_proven=arguments.target_unchanged)
    return Session(
        target.checkpoint,
        source.device,
        target.sink,
        controls,
        clock,
        verify,
        arguments.queue_depth,
        sample_source=verify is not Verify.NONE,
        bad_sectors=arguments.bad_sectors,
        outlast_full=True,
    )


def _open_source(asked: Asked, clock: Clock) -> OpenSource:
    if opening := forms.SOURCES.get(forms.source_key(asked.source_form)):
        return opening(asked)
    path = Path(asked.source)
    if endpoints.is_block(path):
        # Imported here, as below: files need no commands, and would wait for all that runs them.
        from p2vd.copying import block_endpoints

        endpoint = block_endpoints.open_source(path, block_endpoints.opener(clock))
    else:
        endpoint = endpoints.open_file_source(path)
    return OpenSource(endpoint, source_on(endpoint.fd, asked.gauge))


def _plain_target(arguments: argparse.Namespace, asked: Asked, source: Endpoint, clock: Clock) -> OpenTarget:
    """A device or a raw file."""
    is_block = arguments.target.exists() and endpoints.is_block(arguments.target)
    target, checkpoint = (
        _block_target(arguments, source, clock) if is_block else _file_target(arguments, source)
    )
    traits = TargetTraits(
        target.size_bytes,
        target.sector_size,
        target.dm_uuid,
        target.thin.chunk_bytes,
        target.thin.pool_zeroes,
    )
    # A pool that does not zero leaves old bytes around a write in a chunk that was never written.
    zero = not is_block or (arguments.target_is_zero and (not target.thin.chunk_bytes or traits.pool_zeroes))
    sink = target_on(
        target.fd, traits, asked.controls, asked.gauge, untouched_is_zero=zero, tail_fd=target.tail_fd
    )
    return OpenTarget(sink, checkpoint)


def _block_target(
    arguments: argparse.Namespace, source: Endpoint, clock: Clock
) -> tuple[Endpoint, Checkpoint]:
    from p2vd.copying import block_endpoints

    opener = block_endpoints.opener(clock)
    target = block_endpoints.open_target(arguments.target, source, opener)
    if not arguments.checkpoint.exists():
        block_endpoints.check_empty(
            arguments.target, target, opener, force=arguments.force, claimed_zero=arguments.target_is_zero
        )
    header = Header(_binding(source, target.id), target.size_bytes, arguments.digest)
    return target, open_checkpoint(arguments.checkpoint, header, any_pass=True)


def _file_target(arguments: argparse.Namespace, source: Endpoint) -> tuple[Endpoint, Checkpoint]:
    path, begun = arguments.target, arguments.checkpoint.exists()
    place = path.parent.resolve() / path.name
    if not begun and os.path.lexists(path):
        endpoints.create_file_target(path, source.size_bytes, begun=False)  # refuses, and says why
    # The checkpoint first: it proves at the next run that a file found there is ours.
    header = Header(_binding(source, str(place)), source.size_bytes, arguments.digest)
    checkpoint = open_checkpoint(arguments.checkpoint, header, any_pass=True)
    known = checkpoint.header.target_file
    if known:
        return endpoints.open_file_target(path, source.size_bytes, known), checkpoint
    target = endpoints.create_file_target(path, source.size_bytes, begun=begun)
    checkpoint.commit(target_file=target.id)
    return target, checkpoint


def _binding(source: Endpoint, target_id: str) -> Binding:
    return Binding(_JOB, 1, source.id, source.size_bytes, source.sector_size, target_id)


def _watch(
    session: Session,
    controls: Controls,
    gauge: Gauge,
    console: Console,
    stop_asked: threading.Event,
    clock: Clock,
) -> Report:
    """Run the session on its own thread; tell how it goes and obey signals on this one."""
    phases = ["checking"]
    session.on_phase = phases.append
    committed = threading.Event()
    session.on_commit = committed.set
    runner = SessionThread(session)
    runner.start()
    told_at, told_stall, told_full = clock.monotonic(), None, False
    while runner.is_alive():
        runner.join(_TICK_S)
        if stop_asked.is_set():
            controls.stop()
        if clock.monotonic() - told_at >= _PROGRESS_S:
            told_at = clock.monotonic()
            console.progress(phases[-1], session.progress())
        stall = gauge.oldest(_STALLED_S)
        if stall is not None and stall != told_stall:
            console.stalled(stall)
        told_stall = stall
        if (full := controls.full) is not None and not told_full:
            console.held(full)
        # Told once for each time that the space ends: a commit since then means that there was some.
        told_full = full is not None or (told_full and not committed.is_set())
        committed.clear()
    return runner.report()
