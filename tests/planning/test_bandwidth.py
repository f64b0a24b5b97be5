"""Bandwidth under a total: nobody starves, nothing is shared out twice, what one leaves the others have."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2vd.model.bandwidth import Grant, Why
from p2vd.model.size import MIB
from p2vd.planning.bandwidth import Demand, own, share


def rates(total: int, *demands: Demand) -> list[int]:
    return [grant.bytes_per_s for grant in share(total, demands)]


def test_without_a_total_each_has_its_own_limit() -> None:
    assert rates(0, Demand("1"), Demand("2", 5)) == [0, 5]
    assert share(0, [Demand("1"), Demand("2", 5)]) == (Grant(), own(5))


def test_all_have_the_same() -> None:
    assert rates(100, *(Demand(name) for name in "1234")) == [25] * 4


def test_of_a_remainder_nobody_gets_more_than_the_others() -> None:
    assert rates(100, *(Demand(name) for name in "123")) == [33] * 3


def test_what_a_lower_limit_leaves_goes_to_the_others() -> None:
    assert rates(100, Demand("1", 10), Demand("2"), Demand("3", 80)) == [10, 45, 45]
    assert rates(100, Demand("1", 10), Demand("2", 20)) == [10, 20]


def test_what_one_does_not_use_goes_to_the_others_and_it_can_come_back() -> None:
    assert rates(100, Demand("slow", used=8), Demand("2")) == [12, 88]
    assert rates(100, Demand("slow", used=10), Demand("2")) == [12, 88]
    assert rates(100, Demand("slow", used=24), Demand("2")) == [30, 70]


def test_what_nobody_uses_is_kept_from_nobody() -> None:
    assert rates(100, Demand("1", used=8), Demand("2", used=8)) == [50, 50]
    assert rates(100, Demand("1", 20, used=8), Demand("2", used=8)) == [20, 80]


@pytest.mark.parametrize(
    ("total", "demand", "others", "reason"),
    [
        (0, Demand("1"), 0, ""),
        (0, Demand("1", 5), 0, "Its own limit."),
        (100 * MIB, Demand("1", 5), 2, "Its own limit."),
        (100 * MIB, Demand("1"), 0, "All that copies may have together."),
        (100 * MIB, Demand("1"), 3, "Its share of 100 MiB/s, which 4 copies share."),
        (
            100 * MIB,
            Demand("1", used=MIB),
            3,
            "It reads less than its share of 100 MiB/s, which 4 copies share: the others have the rest.",
        ),
    ],
)
def test_each_is_told_why(total: int, demand: Demand, others: int, reason: str) -> None:
    grant, *_ = share(total, [demand, *(Demand(f"other {number}") for number in range(others))])
    assert grant.reason == reason


DEMANDS = st.lists(
    st.builds(
        Demand, st.just("job"), st.one_of(st.just(0), st.integers(1, 2000)), st.none() | st.integers(0, 2000)
    ),
    min_size=1,
    max_size=20,
)


@given(st.integers(20, 3000), DEMANDS)
def test_never_more_than_there_is_and_nobody_starves(total: int, demands: list[Demand]) -> None:
    grants = share(total, demands)
    levels = [grant.bytes_per_s for grant in grants]
    assert sum(levels) <= total
    assert min(levels) >= 1
    assert all(level <= (demand.own_limit or total) for demand, level in zip(demands, levels, strict=True))
    # Nobody with work for it is kept below a quarter of an even share.
    least = max(1, total // (4 * len(demands)))
    assert all(
        level >= min(demand.own_limit or total, least) for demand, level in zip(demands, levels, strict=True)
    )


@given(st.integers(20, 3000), DEMANDS)
def test_nothing_is_left_that_somebody_might_have(total: int, demands: list[Demand]) -> None:
    """But for a remainder of each of the two rounds, by which nobody gets more than another."""
    levels = rates(total, *demands)
    if any(
        level < min(demand.own_limit or total, total) for demand, level in zip(demands, levels, strict=True)
    ):
        assert total - sum(levels) < 2 * len(demands)


@given(st.integers(20, 3000), DEMANDS)
def test_who_uses_all_that_he_gets_has_as_much_as_anybody_or_all_that_he_may(
    total: int, demands: list[Demand]
) -> None:
    levels = rates(total, *demands)
    most = max(levels)
    for demand, level in zip(demands, levels, strict=True):
        if demand.used is None and not demand.own_limit:
            assert level >= most - len(demands) or any(other.used is not None for other in demands)
            assert level >= total // len(demands)


@given(st.integers(20, 3000), DEMANDS)
def test_the_order_decides_nothing(total: int, demands: list[Demand]) -> None:
    named = [replace(demand, job=str(number)) for number, demand in enumerate(demands)]
    before = dict(zip([demand.job for demand in named], share(total, named), strict=True))
    named.reverse()
    assert dict(zip([demand.job for demand in named], share(total, named), strict=True)) == before
    assert all(grant.why in Why for grant in before.values())
