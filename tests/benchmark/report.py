"""What a benchmark found, for people and as JSON."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from p2vd.model.size import MIB
from tests.benchmark.campaign import Judged, NotRun, Outcome
from tests.benchmark.measuring import Measure
from tests.benchmark.stats import Spread


def scenario_text(what: str, outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Yield the lines of one scenario: its arms once, then its rows."""
    yield f"\n{what}"
    judged = [outcome for outcome in outcomes if isinstance(outcome, Judged)]
    if judged:
        yield f"  ({judged[0].load})"
        yield f"  {'':30}{'wall s':>8} {'[min-max]':>15} {'MAD':>6} {'CPU s':>7} {'RSS MiB':>8}"
    arms = {arm: [each[arm] for each in one.rounds] for one in judged for arm in one.row.arms}
    yield from (f"  {_arm(name, measures)}" for name, measures in arms.items())
    for outcome in outcomes:
        yield f"  {row_text(outcome)}"
        if isinstance(outcome, Judged):
            yield from (f"      {line}" for line in _details(outcome))


def row_text(outcome: Outcome) -> str:
    """One line: the row, its figure with its interval, the goal and the verdict."""
    row = outcome.row
    if isinstance(outcome, NotRun):
        return f"{row.name:14} {'failed' if outcome.failed else 'not run'}: {outcome.reason}"
    figure = f"{outcome.spread.median:.2f}"
    if row.each_run:
        figure = f"worst {outcome.spread.least if row.goal.at_least else outcome.spread.most:.2f}"
    within = ""
    if outcome.interval is not None and not row.each_run:
        within = f"[{outcome.interval.low:.2f}-{outcome.interval.high:.2f}]"
    unit = f" {row.unit}" if row.unit else ""
    return f"{row.name:14} {figure:>10} {within:13} goal {row.goal!s:8}{unit:4} {outcome.verdict.value}"


def _details(outcome: Judged) -> Iterator[str]:
    spread, interval = outcome.spread, outcome.interval
    sure = f"interval of {interval.confidence:.1%}" if interval else "no interval of 95 %"
    yield outcome.row.what
    yield (
        f"{len(outcome.figures)} rounds, {spread.least:.2f} to {spread.most:.2f}, MAD {spread.mad:.2f}; "
        f"{sure} around the median"
    )
    if note := outcome.row.note(outcome.rounds):
        yield note


def _arm(name: str, measures: Sequence[Measure]) -> str:
    wall = Spread.of([each.wall_s for each in measures])
    cpu = Spread.of([each.cpu_s for each in measures]).median
    rss = max(each.rss_bytes for each in measures) / MIB
    between = f"[{wall.least:.2f}-{wall.most:.2f}]"
    return f"{name:30}{wall.median:8.2f} {between:>15} {wall.mad:6.2f} {cpu:7.2f} {rss:8.1f}"


def as_json(head: Mapping[str, Any], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """All that was measured, round by round."""
    return {**head, "rows": [_row_json(outcome) for outcome in outcomes]}


def _row_json(outcome: Outcome) -> dict[str, Any]:
    row = outcome.row
    data: dict[str, Any] = {"name": row.name, "what": row.what, "goal": str(row.goal), "unit": row.unit}
    if isinstance(outcome, NotRun):
        return {**data, "verdict": "failed" if outcome.failed else "not run", "reason": outcome.reason}
    interval = outcome.interval
    return {
        **data,
        "verdict": outcome.verdict.value,
        "figure": outcome.spread.most if row.each_run else outcome.spread.median,
        "figures": list(outcome.figures),
        "mad": outcome.spread.mad,
        "interval": [interval.low, interval.high] if interval else None,
        "confidence": interval.confidence if interval else None,
        "note": row.note(outcome.rounds),
        "load": vars(outcome.load),
        "arms": {arm: [_measure_json(each[arm]) for each in outcome.rounds] for arm in row.arms},
    }


def _measure_json(measure: Measure) -> dict[str, Any]:
    return {**vars(measure), "figures": dict(measure.figures)}
