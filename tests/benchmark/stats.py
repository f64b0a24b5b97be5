"""What may be said of a few measurements, and what may not. Pure.

A ratio is taken within a round, where both arms met the same machine, and judged by its median over
the rounds. The interval of the median is of order statistics: exact, whatever the distribution, and
wide when the rounds are few or noisy. A goal inside the interval is not resolved.
"""

import enum
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


class Verdict(enum.Enum):
    """What a row says of its goal."""

    MET = "met"
    MISSED = "missed"
    NOT_RESOLVED = "not resolved: noise"
    TOO_FEW = "not resolved: too few rounds"
    SMOKE = "smoke, no verdict"


@dataclass(frozen=True)
class Spread:
    """Where measurements lie. `mad` is the median distance from the median: outliers do not move it."""

    median: float
    least: float
    most: float
    mad: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of at least one value."""
        middle = statistics.median(values)
        mad = statistics.median(abs(value - middle) for value in values)
        return cls(middle, min(values), max(values), mad)


@dataclass(frozen=True)
class Interval:
    """The true median lies in here, with this confidence."""

    low: float
    high: float
    confidence: float


@dataclass(frozen=True)
class Goal:
    """A figure at most, or at least, `limit`."""

    limit: float
    at_least: bool = False

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.limit:g}"

    def holds(self, figure: float) -> bool:
        """Whether `figure` meets it."""
        return figure >= self.limit if self.at_least else figure <= self.limit


def median_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval | None:
    """Return the narrowest pair of order statistics around the median that is confident enough.

    None: even the least and the most of so few values are not (95 % takes six). The chance that the
    median lies outside the k-th values from both ends is twice that of fewer than k heads in n throws.
    """
    ordered, n = sorted(values), len(values)
    for rank in range(n // 2, 0, -1):
        covered = 1 - 2 * sum(math.comb(n, heads) for heads in range(rank)) / 2**n
        if covered >= confidence:
            return Interval(ordered[rank - 1], ordered[n - rank], covered)
    return None


def judge(goal: Goal, values: Sequence[float], *, smoke: bool = False) -> tuple[Interval | None, Verdict]:
    """Judge the median of `values`: met or missed only where the whole interval says so."""
    interval = median_interval(values)
    if smoke:
        return interval, Verdict.SMOKE
    if interval is None:
        return None, Verdict.TOO_FEW
    ends = {goal.holds(interval.low), goal.holds(interval.high)}
    if len(ends) == 2:
        return interval, Verdict.NOT_RESOLVED
    return interval, Verdict.MET if ends == {True} else Verdict.MISSED


def judge_each(goal: Goal, values: Sequence[float], *, smoke: bool = False) -> Verdict:
    """Judge a limit that no single run may pass: one that does is enough."""
    if smoke:
        return Verdict.SMOKE
    if not all(goal.holds(value) for value in values):
        return Verdict.MISSED
    return Verdict.MET if median_interval(values) is not None else Verdict.TOO_FEW


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """The ratio of each round. Raises ValueError where one has more rounds than the other."""
    return [one / other for one, other in zip(ours, theirs, strict=True)]
