"""What a few measurements may be called."""

import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmark.stats import Goal, Spread, Verdict, judge, judge_each, median_interval, ratios

NINE = [0.70, 0.71, 0.72, 0.73, 0.74, 0.75, 0.76, 0.77, 0.78]
ROUNDS = st.lists(st.floats(0.01, 100), min_size=1, max_size=40)


def test_the_spread_of_an_outlier_is_in_its_range_and_not_in_its_mad() -> None:
    spread = Spread.of([1.0, 1.1, 1.2, 1.3, 9.0])
    assert (spread.median, spread.least, spread.most) == (1.2, 1.0, 9.0)
    assert spread.mad == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("rounds", "low", "high", "confidence"),
    # The table of every book on order statistics: the ranks of the interval of 95 %, from 1.
    [(6, 1, 6, 0.969), (8, 1, 8, 0.992), (9, 2, 8, 0.961), (15, 4, 12, 0.965), (20, 6, 15, 0.959)],
)
def test_the_interval_of_the_median(rounds: int, low: int, high: int, confidence: float) -> None:
    values = [float(number) for number in range(1, rounds + 1)]
    random.Random(1).shuffle(values)
    interval = median_interval(values)
    assert interval is not None
    assert (interval.low, interval.high) == (low, high)
    assert interval.confidence == pytest.approx(confidence, abs=0.001)


@pytest.mark.parametrize("rounds", range(1, 6))
def test_five_rounds_have_no_interval_of_95_percent(rounds: int) -> None:
    assert median_interval([1.0] * rounds) is None


@given(ROUNDS)
def test_an_interval_holds_the_median_and_is_as_sure_as_it_says(values: list[float]) -> None:
    interval = median_interval(values)
    if interval is None:
        assert len(values) < 6
    else:
        assert interval.low <= statistics.median(values) <= interval.high
        assert 0.95 <= interval.confidence < 1


def test_the_interval_holds_the_true_median_as_often_as_it_says() -> None:
    chance = random.Random(1)
    held = 0
    for _ in range(4000):
        interval = median_interval([chance.lognormvariate(0, 1) for _ in range(9)])
        assert interval is not None
        held += interval.low <= 1.0 <= interval.high
    assert 0.95 < held / 4000 < 0.972


@pytest.mark.parametrize(
    ("goal", "verdict"),
    [
        (Goal(0.77), Verdict.MET),  # the eighth of nine
        (Goal(0.769), Verdict.NOT_RESOLVED),
        (Goal(0.74), Verdict.NOT_RESOLVED),  # the median itself: as good as a coin
        (Goal(0.71), Verdict.NOT_RESOLVED),
        (Goal(0.709), Verdict.MISSED),  # the second of nine
        (Goal(0.71, at_least=True), Verdict.MET),
        (Goal(0.72, at_least=True), Verdict.NOT_RESOLVED),
        (Goal(0.78, at_least=True), Verdict.MISSED),
    ],
)
def test_a_goal_inside_the_interval_is_noise(goal: Goal, verdict: Verdict) -> None:
    assert judge(goal, NINE)[1] is verdict


def test_too_few_rounds_resolve_nothing_and_a_smoke_run_says_nothing() -> None:
    assert judge(Goal(2), [1.0] * 5) == (None, Verdict.TOO_FEW)
    assert judge(Goal(2), NINE, smoke=True)[1] is Verdict.SMOKE
    assert judge_each(Goal(2), NINE, smoke=True) is Verdict.SMOKE
    assert judge_each(Goal(2), [1.0] * 5) is Verdict.TOO_FEW


def test_a_limit_of_every_run_is_missed_by_one() -> None:
    assert judge_each(Goal(0.78), NINE) is Verdict.MET
    assert judge_each(Goal(0.77), NINE) is Verdict.MISSED
    assert judge_each(Goal(0.77), [1.0]) is Verdict.MISSED  # one is enough for that
    assert judge_each(Goal(0.71, at_least=True), NINE) is Verdict.MISSED


def test_ratios_are_of_the_same_round() -> None:
    assert ratios([1.0, 8.0], [2.0, 4.0]) == [0.5, 2.0]
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        ratios([1.0, 8.0], [2.0])
