"""The command lines: p2vd-copy as a user runs it, and the tools people use today."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from tests.benchmark.disks import NotHere, Pair
from tests.benchmark.measuring import Measure, ToolFailed, measured

ROOT = Path(__file__).resolve().parent.parent.parent

# Command -> Debian's package.
PACKAGES = {
    "qemu-img": "qemu-utils",
    "qemu-nbd": "qemu-utils",
    "gzip": "gzip",
    "lvcreate": "lvm2",
    "nbdcopy": "libnbd-bin",
    "ddrescue": "gddrescue",
    "fio": "fio",
    "dd": "coreutils",
}


def need(*commands: str) -> None:
    """Raise NotHere where a command is missing."""
    missing = [f"{name} (package {PACKAGES[name]})" for name in commands if shutil.which(name) is None]
    if missing:
        raise NotHere(f"missing: {', '.join(missing)}")


def version(command: str) -> str:
    """The first line of what a command says of its version; empty: it is missing."""
    if shutil.which(command) is None:
        return ""
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=False)
    return (done.stdout.splitlines() or [""])[0]


def p2vd_copy() -> list[str]:
    """The tool of this checkout."""
    installed = Path(sys.executable).parent / "p2vd-copy"
    return [str(installed)] if installed.exists() else [sys.executable, "-m", "p2vd.copying.worker"]


def has_option(option: str) -> bool:
    """Whether this p2vd-copy knows an option."""
    return (
        option in subprocess.run([*p2vd_copy(), "--help"], capture_output=True, text=True, check=True).stdout
    )


def engine_with(*options: str) -> list[str]:
    """The same engine with a part taken out or timed (`engine.py`)."""
    return [sys.executable, "-m", "tests.benchmark.engine", *options, "--"]


def copy_words(source: Path, target: Path, checkpoint: Path, *more: str) -> list[str]:
    """What p2vd-copy is told."""
    return [str(source), str(target), "--checkpoint", str(checkpoint), *more]


def remove_checkpoint(checkpoint: Path) -> None:
    """Remove a checkpoint and what belongs to it."""
    for path in checkpoint.parent.glob(f"{checkpoint.name}*"):
        path.unlink()


def qemu_img(source: Path, target: Path, *, new_file: bool = False, zero: bool = False) -> list[str]:
    """`qemu-img convert`, 8 requests at a time, out of order, past the page cache on both sides."""
    words = ["qemu-img", "convert", "-W", "-m", "8", "-t", "none", "-T", "none", "-f", "raw", "-O", "raw"]
    words += [] if new_file else ["-n"]
    words += ["--target-is-zero"] if zero else []
    return [*words, str(source), str(target)]


def nbdcopy(pair: Pair) -> list[str]:
    """`nbdcopy --flush` of local devices: it uses the page cache, which the flush empties."""
    return ["nbdcopy", "--flush", str(pair.source), str(pair.target)]


def dd(pair: Pair) -> list[str]:
    """`dd`, 4 MiB at a time, direct, flushed at the end."""
    names = [f"if={pair.source}", f"of={pair.target}"]
    return ["dd", *names, "bs=4M", "iflag=direct", "oflag=direct", "conv=fsync", "status=none"]


def dd_read(path: Path) -> list[str]:
    """`dd` that reads all of a device, direct."""
    return ["dd", f"if={path}", "of=/dev/null", "bs=4M", "iflag=direct", "status=none"]


def ddrescue(pair: Pair) -> list[str]:
    """`ddrescue`, direct on both sides. It does not flush: what that saves is its gain."""
    words = ["ddrescue", "-q", "-d", "-D", "--force", "-b", str(pair.sector_bytes)]
    return [*words, str(pair.source), str(pair.target)]


def fio(pairs: list[Pair], depth: int, log: Path, *, serial: bool = False) -> Measure:
    """fio reads each source and writes each target at once: what the devices could do.

    `depth` is that of each of the two. `wall_s` is fio's own runtime of its slowest job, flush
    included and fio's start not; with `serial`, one pair after another, the sum of the pairs'.
    """
    result = log.with_suffix(".fio.json")
    words = ["fio", "--output-format=json", f"--output={result}", "--thread=1", "--ioengine=libaio"]
    words += ["--direct=1", "--bs=1M", f"--iodepth={depth}", "--end_fsync=1"]
    for number, pair in enumerate(pairs):
        for way, path in (("read", pair.source), ("write", pair.target)):
            words += [f"--name={way}-{number}", f"--rw={way}", f"--size={pair.size_bytes}"]
            # fio splits names at colons, which by-path names have.
            words += ["--filename=" + str(path).replace(":", "\\:")]
            words += ["--stonewall"] if serial and way == "read" and number else []
    measure = measured(words, log)
    jobs = json.loads(result.read_text())["jobs"]
    result.unlink()
    if len(jobs) != 2 * len(pairs) or any(job["error"] for job in jobs):
        raise ToolFailed(f"{' '.join(words)}: {[job.get('error') for job in jobs]}")
    seconds = [job["job_runtime"] / 1000 for job in jobs]
    slowest = [max(seconds[at : at + 2]) for at in range(0, len(seconds), 2)]
    return replace(measure, wall_s=sum(slowest) if serial else max(seconds))
