"""The scenarios of a copy's other sides: memory, verification, delta, resume after a kill, four at once."""

import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from p2vd.copying.session import Session
from p2vd.model.size import GIB, KIB, MIB, format_size
from tests.benchmark import tools
from tests.benchmark.content import Content, change, forget, make_thin_file
from tests.benchmark.copies import LARGE, OURS, SHALLOW, engine, engine_on_files
from tests.benchmark.disks import NotHere, Pair, need_direct_io, need_space
from tests.benchmark.measuring import Measure, Process, ToolFailed, measured
from tests.benchmark.plan import Arm, Arms, Bench

READ_TARGET, READ_SOURCE = "dd reads the target", "dd reads the source"
PROVING = "p2vd-copy, proving the target"
AT_ONCE, SERIAL = "4 at once", "4 one after another"
FIO_AT_ONCE, FIO_SERIAL = "fio, 4 at once", "fio, 4 one after another"

_CHANGED = 0.01
_SLOW_S, _SLOW_SMOKE_S = 16, 4
_LEAST_BYTES = 256 * MIB
_KILLED = -9


@contextmanager
def memory(bench: Bench) -> Iterator[Arms]:
    """Whole runs as by default, read-back included: device to device, and a large sparse file.

    The map is what the checkpoint holds: 16 bytes of digest and one bit a MiB. In memory there are only
    the rows of 1 GiB that are open, 16 KiB each, and 16 bytes a GiB: too little to take off. So the
    figure is VmHWM as it is, Python and shared libraries included; what a large disk adds to it shows
    in the arm that has bytes in every GiB, so that every row is written, kept and read again.
    """
    need_direct_io(bench.directory)
    need_space(bench.directory, bench.large_bytes // GIB * 96 * KIB)
    source, target = bench.directory / "large", bench.directory / "copy"
    with bench.place.pair(bench.quarter_bytes, Content.RANDOM) as pair:
        try:
            make_thin_file(source, bench.large_bytes, GIB)
            yield {
                OURS: engine(bench, pair, "--force", "--queue-depth", "8"),
                SHALLOW: engine(bench, pair, "--force", "--queue-depth", "1"),
                LARGE: engine_on_files(bench, source, target, "--queue-depth", "8"),
            }
        finally:
            source.unlink(missing_ok=True)
            target.unlink(missing_ok=True)


def _first_copy(bench: Bench, pair: Pair) -> None:
    tools.remove_checkpoint(bench.checkpoint)
    words = tools.copy_words(pair.source, pair.target, bench.checkpoint, "--verify", "none", "--force")
    measured([*tools.p2vd_copy(), *words], bench.log)


def _reader(path: Path, bench: Bench) -> Arm:
    return Arm(lambda: measured(tools.dd_read(path), bench.log), lambda: forget(path))


@contextmanager
def verify(bench: Bench) -> Iterator[Arms]:
    """A copy that is complete and not verified is read back, again and again from the same checkpoint.

    The figure is the time of reading the target against the digests, taken inside (`engine.py`).
    """
    kept, seconds = bench.directory / "kept", bench.directory / "read-back"
    with bench.place.pair(bench.size_bytes, Content.RANDOM) as pair:
        _first_copy(bench, pair)
        shutil.copyfile(bench.checkpoint, kept)
        words = tools.copy_words(pair.source, pair.target, bench.checkpoint, "--verify", "read-back")
        words += ["--queue-depth", str(bench.queue_depth)]
        timed = [*tools.engine_with("--time", str(seconds)), *words]

        def run() -> Measure:
            measure = measured(timed, bench.log)
            read_back = json.loads(seconds.read_text())
            seconds.unlink()
            if read_back["bytes"] != pair.size_bytes:
                raise ToolFailed(f"{' '.join(timed)}: only {read_back['bytes']} bytes were read back")
            return replace(measure, figures={"read_back_s": read_back["seconds"]})

        def prepare() -> None:
            tools.remove_checkpoint(bench.checkpoint)
            shutil.copyfile(kept, bench.checkpoint)
            forget(pair.source, pair.target)

        yield {OURS: Arm(run, prepare), READ_TARGET: _reader(pair.target, bench)}


@contextmanager
def delta(bench: Bench) -> Iterator[Arms]:
    """Before each pass new bytes in 1 % of the source's MiBs, then `--resync` from the pass before.

    It is told that nothing else wrote to the target; the other arm has it prove that, by reading it.
    """
    if not tools.has_option("--resync"):
        raise NotHere("not built: p2vd-copy has no --resync")
    _need_filling(bench)
    with bench.place.pair(bench.size_bytes, Content.RANDOM) as pair:
        _first_copy(bench, pair)
        words = tools.copy_words(pair.source, pair.target, bench.checkpoint, "--verify", "none", "--resync")
        words = [*tools.p2vd_copy(), *words, "--queue-depth", str(bench.queue_depth)]

        def prepare() -> None:
            change(pair.source, _CHANGED)
            forget(pair.source, pair.target)

        yield {
            OURS: Arm(lambda: measured([*words, "--target-unchanged"], bench.log), prepare),
            PROVING: Arm(lambda: measured(words, bench.log), prepare),
            READ_SOURCE: _reader(pair.source, bench),
        }


def _need_filling(bench: Bench) -> None:
    if not bench.place.may_fill:
        raise NotHere("it writes to its source: --overwrite-source allows that")


@contextmanager
def resume(bench: Bench) -> Iterator[Arms]:
    """Killed when its progress says half, then run again to its end.

    The bandwidth is limited, so that two commit intervals are a small part of the copy: at full speed
    they may be half a small disk, and the goal would hold whatever was lost. It is limited to little,
    because what is under way at a kill is the same number of bytes at any speed.
    """
    _need_filling(bench)
    with bench.place.pair(max(bench.quarter_bytes, _LEAST_BYTES), Content.RANDOM) as pair:
        if pair.size_bytes < _LEAST_BYTES:
            raise NotHere(f"it needs a disk of {format_size(_LEAST_BYTES)}: less is all under way at once")
        slow_s = _SLOW_SMOKE_S if bench.smoke else _SLOW_S
        yield {OURS: Arm(lambda: _killed_and_resumed(bench, pair, pair.size_bytes // slow_s))}


def _killed_and_resumed(bench: Bench, pair: Pair, bytes_per_s: int) -> Measure:
    tools.remove_checkpoint(bench.checkpoint)
    forget(pair.source, pair.target)
    words = tools.copy_words(
        pair.source, pair.target, bench.checkpoint, "--verify", "none", "--force", "--json"
    )
    words = [*tools.p2vd_copy(), *words, "--queue-depth", str(bench.queue_depth)]
    told: list[tuple[float, int]] = []
    with Process([*words, "--bandwidth", str(bytes_per_s)], bench.log, subprocess.PIPE) as victim:
        for line in victim.child.stdout or ():
            progress = json.loads(line)
            if progress["type"] == "progress":
                told.append((time.monotonic(), progress["bytes_copied"] + progress["bytes_zero"]))
                if told[-1][1] >= pair.size_bytes // 2:
                    break
        victim.child.kill()
        killed = victim.end(ok=(_KILLED,))  # 0: it came to its end before it said half
    resumed = measured(words, bench.log)
    report = json.loads(
        next(line for line in reversed(bench.log.read_text().splitlines()) if line[:1] == "{")
    )
    # What the process had written, not what it told: it told that up to half a second before.
    again = max(0, killed.written_bytes - report["bytes_skipped"])
    rate = (told[-1][1] - told[0][1]) / (told[-1][0] - told[0][0]) if len(told) > 1 else bytes_per_s
    figures = {
        "again_bytes": float(again),
        "again_s": again / rate,
        "again_of_limit": again / (2 * Session.commit_interval_s * rate),
    }
    return replace(resumed, figures=figures)


@contextmanager
def four(bench: Bench) -> Iterator[Arms]:
    """Four pairs; on loop devices all of them upon the same disk, which fio's ratio accounts for."""
    with bench.place.pairs(4, bench.quarter_bytes) as pairs:
        half = max(1, bench.queue_depth // 2)
        disks = [path for pair in pairs for path in (pair.source, pair.target)]
        commands = []
        for number, pair in enumerate(pairs):
            checkpoint = bench.checkpoint.with_name(f"{bench.checkpoint.name}-{number}")
            words = tools.copy_words(pair.source, pair.target, checkpoint, "--verify", "none", "--force")
            commands.append([*tools.p2vd_copy(), *words, "--queue-depth", str(bench.queue_depth)])

        def prepare() -> None:
            tools.remove_checkpoint(bench.checkpoint)
            forget(*disks)

        def at_once() -> Measure:
            started = time.monotonic()
            with contextlib.ExitStack() as stack:
                running = [
                    stack.enter_context(Process(words, bench.log.with_suffix(f".{at}")))
                    for at, words in enumerate(commands)
                ]
                measures = [process.end() for process in running]
            return _together(measures, time.monotonic() - started)

        def serial() -> Measure:
            started = time.monotonic()
            return _together([measured(words, bench.log) for words in commands], time.monotonic() - started)

        yield {
            AT_ONCE: Arm(at_once, prepare),
            SERIAL: Arm(serial, prepare),
            FIO_AT_ONCE: Arm(lambda: tools.fio(pairs, half, bench.log), prepare),
            FIO_SERIAL: Arm(lambda: tools.fio(pairs, half, bench.log, serial=True), prepare),
        }


def _together(measures: list[Measure], wall_s: float) -> Measure:
    return Measure(wall_s, sum(each.cpu_s for each in measures), max(each.rss_bytes for each in measures))
