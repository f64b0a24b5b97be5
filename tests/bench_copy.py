"""p2vd-copy against qemu-img convert on loop devices, in pairs; prints ratios, judges nothing.

    .venv/bin/python -m tests.bench_copy [--size 2G] [--rounds 3] [--directory DIR]

The order within a round is shuffled, and each pair is of the same round: on a shared machine the
disk's speed varies by a factor of two within minutes, so only ratios say something, and those only
when the spread is small.
"""

import argparse
import os
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from p2vd.model.size import MIB, format_size, parse_size
from tests.loop import Loop

Run = Callable[[], None]


def fill(path: Path, size_bytes: int, data: float) -> None:
    """Write random data into that share of the 1 MiB blocks, zeros into the others; no holes."""
    chance = random.Random(1)
    with path.open("r+b") as file:
        for _ in range(0, size_bytes, MIB):
            file.write(os.urandom(MIB) if chance.random() < data else bytes(MIB))
        os.fsync(file.fileno())


def measured(run: Run) -> tuple[float, float]:
    """Seconds of wall time and of CPU time of the child."""
    os.sync()
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    run()
    wall, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def contenders(source: str, target: str, directory: Path) -> dict[str, Run]:
    """What is compared; both end with their data flushed."""
    checkpoint = directory / "bench-checkpoint"

    def engine() -> None:
        checkpoint.unlink(missing_ok=True)
        words = [source, target, "--checkpoint", str(checkpoint), "--verify", "none", "--force"]
        done = subprocess.run([sys.executable, "-m", "p2vd.copying.worker", *words], capture_output=True)
        if done.returncode:
            raise SystemExit(done.stderr.decode())

    def qemu_img() -> None:
        options = ["-n", "-W", "-m", "8", "-t", "none", "-T", "none", "-f", "raw", "-O", "raw"]
        subprocess.run(["qemu-img", "convert", *options, source, target], check=True)

    return {"p2vd-copy": engine, "qemu-img": qemu_img}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=parse_size, default=parse_size("1G"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"))
    arguments = parser.parse_args()
    directory = arguments.directory / f"p2vd-bench-{os.getpid()}"
    directory.mkdir()
    print(f"{format_size(arguments.size)}, {arguments.rounds} rounds, load {os.getloadavg()[0]:.1f}")
    for data in (1.0, 0.25, 0.0):
        source_file, target_file = directory / "source", directory / "target"
        with Loop(source_file, arguments.size) as source, Loop(target_file, arguments.size) as target:
            fill(source_file, arguments.size, data)
            found: dict[str, list[tuple[float, float]]] = {}
            for _ in range(arguments.rounds):
                runs = list(contenders(source.device, target.device, directory).items())
                random.shuffle(runs)
                for name, run in runs:
                    # Old bytes all over, but none that a signature check would take for something.
                    target_file.write_bytes(b"\xa5" * arguments.size)
                    found.setdefault(name, []).append(measured(run))
        for path in (source_file, target_file):
            path.unlink()
        show(data, found)
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()


def show(data: float, found: dict[str, list[tuple[float, float]]]) -> None:
    """One line a contender, and the median of the rounds' ratios."""
    print(f"{data:.0%} data onto old bytes")
    for name, times in found.items():
        walls = [wall for wall, _ in times]
        cpu = statistics.median(cpu for _, cpu in times)
        spread = f"[{min(walls):.2f}-{max(walls):.2f}]"
        print(f"  {name:10} wall {statistics.median(walls):6.2f} s {spread:>14}, CPU {cpu:5.2f} s")
    pairs = zip(found["p2vd-copy"], found["qemu-img"], strict=True)
    print(f"  ratio of wall times {statistics.median(ours[0] / theirs[0] for ours, theirs in pairs):.2f}")


if __name__ == "__main__":
    main()
