"""How long a copy takes, by what was measured, and what that is based on; unknown is said as unknown."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2vd.model.copying import Verify
from p2vd.model.disk import Transport
from p2vd.model.plan import DiskPlan
from p2vd.model.rates import CopyRate, Estimate
from p2vd.model.size import GIB, MIB
from p2vd.planning.estimate import KEPT, array_of, estimate, together, too_many
from tests.jobs.values import IQN, disk_plan, source

VG = "vg-uuid"


def rate(mib_per_s: int, at: int = 0, *, array: str = IQN, vg: str = VG, verified: int = 0) -> CopyRate:
    return CopyRate(f"job {at}", array, vg, at, mib_per_s * MIB * 100, 100_000, verified * MIB * 100, 100_000)


def disk(gib: int = 300, verify: Verify = Verify.NONE, bandwidth: int = 0) -> DiskPlan:
    plan = disk_plan()
    copy = replace(plan.copy, verify=verify, bandwidth_bytes_per_s=bandwidth)
    return replace(plan, source=replace(plan.source, size_bytes=gib * GIB), copy=copy)


def test_what_was_never_measured_is_not_known() -> None:
    assert estimate(disk(), IQN, []) == Estimate(
        text="Not known: no copy from this array or to this place has been measured yet."
    )
    assert estimate(disk(), IQN, [CopyRate("1", IQN, VG, 1, verified_ms=5)]).seconds == 0


def test_it_is_by_the_copies_from_this_array_to_this_group() -> None:
    found = estimate(disk(), IQN, [rate(310, at) for at in range(5)])
    assert found.bytes_per_s == 310 * MIB
    assert found.seconds == 991
    assert found.text == ("About 17 min at 310 MiB/s, measured on 5 copies from this array to this place.")


@pytest.mark.parametrize(
    ("measured", "where"),
    [
        (rate(100, vg="other"), "1 copy from this array."),
        (rate(100, array="other"), "1 copy to this place."),
    ],
)
def test_without_any_it_is_by_what_is_nearest(measured: CopyRate, where: str) -> None:
    assert estimate(disk(), IQN, [measured]).text.endswith(where)


def test_a_copy_of_elsewhere_says_nothing() -> None:
    assert estimate(disk(), IQN, [rate(100, array="other", vg="other")]).seconds == 0


def test_one_odd_copy_decides_nothing() -> None:
    assert estimate(disk(), IQN, [rate(300, 1), rate(1, 2), rate(310, 3)]).bytes_per_s == 300 * MIB


def test_the_latest_ones_count() -> None:
    old = [rate(10, at) for at in range(30)]
    new = [rate(200, at) for at in range(100, 110)]
    assert estimate(disk(), IQN, [*new, *old]).bytes_per_s == 200 * MIB


def test_reading_back_takes_its_time() -> None:
    measured = [rate(100, verified=200)]
    seconds = {verify: estimate(disk(100, verify), IQN, measured).seconds for verify in Verify}
    assert seconds == {Verify.NONE: 1024, Verify.READ_BACK: 1024 + 512, Verify.BOTH: 2048}
    assert estimate(disk(100, Verify.READ_BACK), IQN, [rate(100)]).seconds == 2048


def test_a_limit_that_is_lower_counts_and_says_so() -> None:
    found = estimate(disk(100, bandwidth=50 * MIB), IQN, [rate(310)])
    assert (found.seconds, found.bytes_per_s) == (2048, 50 * MIB)
    assert "at 50 MiB/s, its limit; without it 1 copy from this array to this place were" in found.text
    assert estimate(disk(100), IQN, [rate(310)], 25 * MIB).bytes_per_s == 25 * MIB
    assert "measured on" in estimate(disk(bandwidth=GIB), IQN, [rate(310)]).text


def test_with_a_limit_and_nothing_measured_there_is_a_bound() -> None:
    found = estimate(disk(100, bandwidth=50 * MIB), IQN, [])
    assert found.seconds == 2048
    assert found.text.startswith("At least 34 min, by its limit of 50 MiB/s; no copy from this array")


@pytest.mark.parametrize(
    ("gib", "said"),
    [(1, "1 min"), (100, "17 min"), (1000, "2.8 h"), (10_000, "28 h"), (30_000, "3.6 days")],
)
def test_it_is_said_in_a_unit_that_fits(gib: int, said: str) -> None:
    assert estimate(disk(gib), IQN, [rate(100)]).text.startswith(f"About {said} at")


def test_disks_of_a_machine_are_copied_at_once() -> None:
    short, long = (Estimate(seconds, MIB, f"About {seconds} s.") for seconds in (10, 20))
    unknown = Estimate(text="Not known: nothing was measured.")
    assert together([short]) == short
    assert together([short, long]).text == "Its 2 disks at once, as the longest of them: about 20 s."
    assert together([short, unknown]).text.endswith("about 10 s. Of 1 of them it is not known.")
    assert together([unknown, unknown]) == unknown


def test_a_disk_is_known_by_its_array_or_by_its_kind() -> None:
    assert array_of(source()) == IQN
    fc = replace(source().paths[0], target_iqn="", target_wwnn="50:06:01:60:1")
    assert array_of(replace(source(), paths=(fc,))) == "50:06:01:60:1"
    assert array_of(replace(source(), paths=(), transport=Transport.NVME)) == "nvme"


def test_the_latest_are_kept_of_each_place() -> None:
    rates = [rate(1, at) for at in range(KEPT + 3)] + [rate(1, 999, vg="other")]
    assert [each.measured_us for each in too_many(rates, (IQN, VG))] == [0, 1, 2]
    assert too_many(rates, (IQN, "other")) == []


@given(
    st.lists(st.builds(rate, st.integers(1, 5000), st.integers(0, 99)), max_size=30), st.integers(1, 10_000)
)
def test_an_estimate_is_within_what_was_measured(rates: list[CopyRate], gib: int) -> None:
    found = estimate(disk(gib), IQN, rates)
    assert bool(found.seconds) == bool(rates)
    if rates:
        speeds = [each.copied_bytes * 1000 // each.copied_ms for each in rates]
        assert min(speeds) <= found.bytes_per_s <= max(speeds)
