"""p2vd-copy with its checkpoint taken out, or its read-back timed, for what no option does.

    python -m tests.benchmark.engine [--without-checkpoint] [--time FILE] -- SOURCE TARGET ...

It is the same tool in the same kind of process, with few of its parts replaced. Without checkpoint:
nothing is created, committed or synced for it, and the target is flushed once, at the end, because
the flush before each commit is a price of the checkpoint too. Digests are the command line's to turn off.
"""

import argparse
import json
import math
import sqlite3
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from p2vd.copying import pipeline
from p2vd.copying.checkpoint import Checkpoint, Header
from p2vd.copying.comparing import Comparer, Piece
from p2vd.copying.region import Region
from p2vd.copying.standalone import main as tool


def take_checkpoint_out() -> None:
    """Let a checkpoint be a header in memory. Raises AttributeError where the engine has changed."""
    headers: list[Header] = []
    run = pipeline.CopyPipeline.run
    _ = pipeline._COMMIT_BYTES  # it must be there, or setting it would do nothing

    def create(cls: type[Checkpoint], path: Path, header: Header) -> None:
        headers.append(header)

    def opened(cls: type[Checkpoint], path: Path) -> Checkpoint:
        return cls(path, sqlite3.connect(":memory:", check_same_thread=False), headers[0])

    def commit(self: Checkpoint, rows: Iterable[Region] = (), **changes: object) -> None:
        self.header = replace(self.header, **changes)  # type: ignore[arg-type] # as the real one

    def run_without_commits(self: pipeline.CopyPipeline) -> None:
        self.commit_interval_s = math.inf
        run(self)

    pipeline._COMMIT_BYTES = sys.maxsize
    Checkpoint.create = classmethod(create)  # type: ignore[method-assign,assignment]
    Checkpoint.open = classmethod(opened)  # type: ignore[method-assign,assignment]
    Checkpoint.commit = commit  # type: ignore[method-assign]
    pipeline.CopyPipeline.run = run_without_commits  # type: ignore[method-assign]


def time_reading_back(place: Path) -> None:
    """Note in the file `place` how long the longest reading of the target alone took, and its bytes."""
    run = Comparer.run
    longest = 0.0

    def timed(self: Comparer, pieces: Iterable[Piece]) -> None:
        nonlocal longest
        started = time.monotonic()
        run(self, pieces)
        seconds = time.monotonic() - started
        if self.source is None and seconds > longest:
            longest = seconds
            place.write_text(json.dumps({"seconds": seconds, "bytes": self.done_bytes}))

    Comparer.run = timed  # type: ignore[method-assign]


def main() -> int:
    """Change what was asked for, then be p2vd-copy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--without-checkpoint", action="store_true")
    parser.add_argument("--time", type=Path, metavar="FILE")
    parser.add_argument("words", nargs="+")
    arguments = parser.parse_args()
    if arguments.without_checkpoint:
        take_checkpoint_out()
    if arguments.time:
        time_reading_back(arguments.time)
    return tool(arguments.words)


if __name__ == "__main__":
    raise SystemExit(main())
