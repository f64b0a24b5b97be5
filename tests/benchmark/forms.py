"""`tests/bench --forms`: one sparse disk made into every form, beside dd, dd | gzip and qemu-img convert -c.

Size, time and processor time of each; what can go on after a kill, and what was proven, are properties of
the tools. p2vd-copy's time has its proof in it: all of the target read back, the source sampled.
"""

import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from p2vd.model.size import GIB, KIB, MIB, format_size
from tests import loop
from tests.benchmark import tools
from tests.benchmark.content import forget
from tests.benchmark.disks import NotHere
from tests.benchmark.measuring import Measure, ToolFailed, measured
from tests.benchmark.plan import Bench
from tests.loop import Loop

DISK, DATA = 100 * GIB, GIB
SMALL_DISK, SMALL_DATA = GIB, 16 * MIB
_PLACES = 64
_ROUNDS = 3
_PART = 64 * KIB


@dataclass(frozen=True)
class Form:
    """One tool that makes one form. `size_of` tells what the form takes on its disk."""

    name: str
    words: Callable[[Path, Path, Path], Sequence[str]]
    commands: tuple[str, ...] = ()
    resumable: bool = False
    proven: bool = False
    thin: bool = False


def _ours(*more: str) -> Callable[[Path, Path, Path], Sequence[str]]:
    return lambda disk, target, checkpoint: [
        *tools.p2vd_copy(),
        *tools.copy_words(disk, target, checkpoint, *more),
    ]


def _shell(line: str) -> Callable[[Path, Path, Path], Sequence[str]]:
    return lambda disk, target, _: ["sh", "-c", line, "sh", str(disk), str(target)]


def _p2vd(name: str, *more: str, commands: tuple[str, ...] = (), thin: bool = False) -> Form:
    return Form(f"p2vd-copy, {name}", _ours(*more), commands, resumable=True, proven=True, thin=thin)


FORMS = (
    _p2vd("raw"),
    _p2vd("raw.zst", "--target-format", "raw.zst"),
    _p2vd("raw.gz", "--target-format", "raw.gz"),
    _p2vd("qcow2", "--target-format", "qcow2", commands=("qemu-nbd",)),
    _p2vd("qcow2, zstd", "--target-format", "qcow2", "--compress", "zstd", commands=("qemu-nbd",)),
    _p2vd("thin LV", "--target-is-zero", commands=("lvcreate",), thin=True),
    Form("dd conv=sparse", _shell('exec dd if="$1" of="$2" bs=4M conv=sparse,fsync status=none')),
    Form("dd | gzip", _shell('dd if="$1" bs=4M status=none | gzip > "$2" && sync "$2"'), ("gzip",)),
    Form(
        "qemu-img convert -c",
        lambda disk, target, _: [
            "qemu-img",
            "convert",
            "-f",
            "raw",
            "-O",
            "qcow2",
            "-c",
            str(disk),
            str(target),
        ],
        ("qemu-img",),
    ),
)


@dataclass(frozen=True)
class Made:
    """What a form took, in every round; or why it was not run."""

    form: Form
    measures: tuple[Measure, ...] = ()
    size_bytes: int = 0
    reason: str = ""


def run(bench: Bench) -> list[Made]:
    """Make every form, round by round in a new order, at most three rounds: each takes some 20 minutes."""
    disk = bench.directory / "disk"
    size, data = (SMALL_DISK, SMALL_DATA) if bench.smoke else (DISK, DATA)
    if shutil.disk_usage(bench.directory).free < 6 * data:
        raise NotHere(f"{bench.directory} has less than {format_size(6 * data)} free")
    _make_disk(disk, size, data)
    found: dict[str, list[tuple[Measure, int]]] = {form.name: [] for form in FORMS}
    reasons: dict[str, str] = {}
    for _ in range(1 if bench.smoke else min(bench.rounds, _ROUNDS)):
        for form in bench.chance.sample(FORMS, len(FORMS)):
            if form.name not in reasons:
                try:
                    found[form.name].append(_make(form, disk, size, bench))
                except (NotHere, ToolFailed, subprocess.CalledProcessError) as error:
                    reasons[form.name] = str(error)
    return [
        Made(
            form,
            tuple(measure for measure, _ in found[form.name]),
            max((taken for _, taken in found[form.name]), default=0),
            reasons.get(form.name, ""),
        )
        for form in FORMS
    ]


def _make_disk(path: Path, size_bytes: int, data_bytes: int) -> None:
    """A sparse disk with data in some places: half of it text, half random."""
    chance = random.Random(1)
    with path.open("xb") as file:
        file.truncate(size_bytes)
        for place in range(_PLACES):
            file.seek(place * (size_bytes // _PLACES) // _PART * _PART)
            for part in range(data_bytes // _PLACES // _PART):
                text = b"%08x a line of a log, as there are many of them\n" % chance.randrange(1 << 32)
                file.write(chance.randbytes(_PART) if part % 2 else (text * 2000)[:_PART])
        file.flush()
        os.fsync(file.fileno())


def _make(form: Form, disk: Path, size_bytes: int, bench: Bench) -> tuple[Measure, int]:
    tools.need(*form.commands)
    tools.remove_checkpoint(bench.checkpoint)
    if form.thin:
        with _thin_volume(bench.directory, size_bytes) as (target, taken):
            forget(disk)
            return measured(form.words(disk, target, bench.checkpoint), bench.log), taken()
    target = bench.directory / "made"
    try:
        forget(disk)
        measure = measured(form.words(disk, target, bench.checkpoint), bench.log)
        return measure, target.stat().st_blocks * 512
    finally:
        target.unlink(missing_ok=True)


@contextmanager
def _thin_volume(directory: Path, size_bytes: int) -> Iterator[tuple[Path, Callable[[], int]]]:
    """A thin volume on a loop device of its own, and what tells how much of its pool is used."""
    if why := loop.why_not():
        raise NotHere(why)
    group = f"p2vd-bench-{os.getpid()}"
    with Loop(directory / "pool", 4 * GIB) as device:
        lvm = ("--devices", device.device, "-q", "-y")
        try:
            _run("vgcreate", *lvm, group, device.device)
            _run("lvcreate", *lvm, "-Zy", "--type", "thin-pool", "-L", "3G", "-n", "pool", group)
            _run("lvcreate", *lvm, "-V", f"{size_bytes}b", "--thinpool", "pool", "-n", "disk", group)

            def taken() -> int:
                fields = ("-o", "lv_size,data_percent", "--units", "b", "--nosuffix", "--noheadings")
                said = _run("lvs", "--devices", device.device, *fields, f"{group}/pool").split()
                return round(int(said[0]) * float(said[1]) / 100)

            yield Path(f"/dev/{group}/disk"), taken
        finally:
            subprocess.run(["vgremove", *lvm, "-f", group], capture_output=True, check=False)
    (directory / "pool").unlink()


def _run(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def table(made: Sequence[Made]) -> Iterator[str]:
    """The README's table."""
    yield "| what | size | time | CPU | resumable | proven |"
    yield "|---|---|---|---|---|---|"
    for each in made:
        form, name = each.form, each.form.name.replace("|", "\\|")
        if not each.measures or each.reason:
            yield f"| {name} | not run: {each.reason} | | | | |"
            continue
        wall, cpu = (median(part) for part in zip(*((m.wall_s, m.cpu_s) for m in each.measures), strict=True))
        yes = {True: "yes", False: "no"}
        yield (
            f"| {name} | {format_size(each.size_bytes // MIB * MIB or each.size_bytes)} | {wall:.1f} s "
            f"| {cpu:.1f} s | {yes[form.resumable]} | {yes[form.proven]} |"
        )


def as_json(made: Sequence[Made]) -> list[dict[str, Any]]:
    """All that was measured."""
    return [
        {
            "name": each.form.name,
            "size_bytes": each.size_bytes,
            "wall_s": [measure.wall_s for measure in each.measures],
            "cpu_s": [measure.cpu_s for measure in each.measures],
            "rss_bytes": [measure.rss_bytes for measure in each.measures],
            "resumable": each.form.resumable,
            "proven": each.form.proven,
            "reason": each.reason,
        }
        for each in made
    ]
