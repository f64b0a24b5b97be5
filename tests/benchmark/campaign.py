"""Running scenarios: rounds of shuffled arms, and what comes of each row."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from tests.benchmark import tools
from tests.benchmark.disks import NotHere
from tests.benchmark.measuring import Load, Measure, ToolFailed, Watch
from tests.benchmark.plan import Bench, Round, Row, Scenario
from tests.benchmark.stats import Interval, Spread, Verdict, judge, judge_each


@dataclass(frozen=True)
class Judged:
    """A row that was run."""

    row: Row
    rounds: Sequence[Round]
    figures: Sequence[float]
    interval: Interval | None
    verdict: Verdict
    load: Load

    @property
    def spread(self) -> Spread:
        """Of the rounds' figures."""
        return Spread.of(self.figures)


@dataclass(frozen=True)
class NotRun:
    """A row that was not run, or ended in an error (`failed`), and why."""

    row: Row
    reason: str
    failed: bool = False


Outcome = Judged | NotRun


def run(scenario: Scenario, rows: Sequence[Row], bench: Bench) -> list[Outcome]:
    """Run what `rows` need of a scenario. A row that cannot be run does not keep others from it."""
    outcomes: list[Outcome] = []
    able = []
    for row in rows:
        try:
            tools.need(*row.commands)
            able.append(row)
        except NotHere as reason:
            outcomes.append(NotRun(row, str(reason)))
    if not able:
        return outcomes
    watch = Watch()
    try:
        rounds = _rounds(scenario, {arm for row in able for arm in row.arms}, bench)
    except NotHere as reason:
        return outcomes + [NotRun(row, str(reason)) for row in able]
    except (ToolFailed, OSError) as error:
        return outcomes + [NotRun(row, str(error), failed=True) for row in able]
    load = watch.load()
    return outcomes + [_judged(row, rounds, load, smoke=bench.smoke) for row in able]


def _rounds(scenario: Scenario, wanted: set[str], bench: Bench) -> list[Round]:
    rounds: list[Round] = []
    print(f"{scenario.what}: preparing", file=sys.stderr)
    with scenario.opened(bench) as arms:
        names = [name for name in arms if name in wanted]
        for number in range(bench.rounds):
            print(f"{scenario.what}: round {number + 1} of {bench.rounds}", file=sys.stderr)
            measures: dict[str, Measure] = {}
            for name in bench.chance.sample(names, len(names)):
                arms[name].prepare()
                measures[name] = arms[name].run()
            rounds.append({name: measures[name] for name in names})
    return rounds


def _judged(row: Row, rounds: Sequence[Round], load: Load, *, smoke: bool) -> Judged:
    figures = row.figures(rounds)
    interval, verdict = judge(row.goal, figures, smoke=smoke)
    if row.each_run:
        verdict = judge_each(row.goal, figures, smoke=smoke)
    own = [{arm: each[arm] for arm in row.arms} for each in rounds]
    return Judged(row, own, figures, interval, verdict, load)
