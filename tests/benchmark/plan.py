"""What a benchmark consists of: scenarios, their arms, and the rows that are read off them."""

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from p2vd.model.size import GIB, MIB
from tests.benchmark.disks import Place
from tests.benchmark.measuring import Measure
from tests.benchmark.stats import Goal

Round = Mapping[str, Measure]
"""The measures of one round, by arm."""


@dataclass(frozen=True)
class Bench:
    """What all scenarios share. `directory` is the benchmark's own, and emptied at its end."""

    directory: Path
    place: Place
    size_bytes: int
    rounds: int
    queue_depth: int
    smoke: bool
    chance: random.Random

    @property
    def checkpoint(self) -> Path:
        """Where p2vd-copy keeps its checkpoint: not on the disks that are measured."""
        return self.directory / "checkpoint"

    @property
    def log(self) -> Path:
        """Where the tools' output goes."""
        return self.directory / "log"

    @property
    def large_bytes(self) -> int:
        """The largest disk that memory is measured with."""
        return 64 * GIB if self.smoke else 1024 * GIB

    @property
    def quarter_bytes(self) -> int:
        """The size of each of four disks, in whole MiB."""
        return max(MIB, self.size_bytes // 4 // MIB * MIB)


@dataclass(frozen=True)
class Arm:
    """One of the things that are compared. `prepare` is not measured; it comes right before `run`."""

    run: Callable[[], Measure]
    prepare: Callable[[], None] = lambda: None


Arms = Mapping[str, Arm]
Opened = Callable[[Bench], AbstractContextManager[Arms]]


@dataclass(frozen=True)
class Row:
    """A line of the goals' table. `figures` makes one figure of each round.

    `arms` are those it needs, `commands` the peers' tools behind them. `each_run`: the limit holds for
    every run, not for their median. `note` says more of the same rounds.
    """

    name: str
    what: str
    goal: Goal
    arms: tuple[str, ...]
    figures: Callable[[Sequence[Round]], list[float]]
    commands: tuple[str, ...] = ()
    unit: str = ""
    each_run: bool = False
    note: Callable[[Sequence[Round]], str] = lambda rounds: ""


@dataclass(frozen=True)
class Scenario:
    """Disks in a certain state and the arms that run on them. `opened` raises NotHere."""

    what: str
    rows: tuple[Row, ...]
    opened: Opened
