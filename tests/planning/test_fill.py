"""How full a pool will be: the arithmetic of a sample, and of pools with other jobs in them."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2vd.model.fill import Allocation, ZeroSample
from p2vd.model.inventory import Inventory
from p2vd.model.plan import Plan
from p2vd.model.size import GIB, KIB, MIB
from p2vd.planning.fill import allocation, pool_fills, sample_blocks, wilson
from p2vd.planning.plan import PlanRequest, make_plan
from p2vd.planning.reservations import Reservation, with_reservations
from tests.planning.builders import THICK, THIN, lv_target, make_inventory, make_policies, make_source

CHUNK = 64 * KIB


def sampled(with_data: int, of: int = 1000, blocks: int = 16384, holes: int = 0) -> Allocation:
    sample = ZeroSample(CHUNK, blocks, holes, of, with_data)
    return allocation(sample, blocks * CHUNK)


def planned(policy: str = THIN) -> tuple[Plan, Inventory]:
    inventory = make_inventory()
    request = PlanRequest((make_source().id,), "erp1", source_offline=True)
    return make_plan(request, inventory, make_policies(policy)), inventory


@pytest.mark.parametrize(
    ("hits", "tried", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (0, 0, 0.0, 1.0)],
)
def test_wilson_s_interval_as_the_textbooks_have_it(hits: int, tried: int, low: float, high: float) -> None:
    assert wilson(hits, tried) == pytest.approx((low, high), abs=5e-5)


def test_all_zero_is_expected_to_take_nothing_and_may_take_a_little() -> None:
    found = sampled(0)
    assert (found.expected_bytes, found.least_bytes) == (0, 0)
    assert 0 < found.most_bytes < GIB // 200


def test_nothing_zero_is_expected_to_take_all_of_it() -> None:
    found = sampled(1000)
    assert (found.expected_bytes, found.most_bytes) == (GIB, GIB)
    assert GIB * 0.99 < found.least_bytes < GIB


def test_a_quarter_of_data() -> None:
    found = sampled(250)
    assert found.expected_bytes == GIB // 4
    assert (found.least_bytes / GIB, found.most_bytes / GIB) == pytest.approx((0.2241, 0.2778), abs=1e-3)


def test_of_a_small_disk_all_is_known() -> None:
    found = sampled(3, of=7, blocks=7)
    assert found.least_bytes == found.expected_bytes == found.most_bytes == 3 * CHUNK


def test_a_chunk_larger_than_the_disk_is_taken_whole_but_never_more_than_the_worst() -> None:
    one = ZeroSample(GIB, 1, 0, 1, 1)
    assert allocation(one, GIB).expected_bytes == GIB
    assert allocation(one, 4 * MIB).most_bytes == 4 * MIB
    assert allocation(replace(one, with_data=0), GIB).most_bytes == 0


def test_holes_count_as_zero_for_certain() -> None:
    found = sampled(1000, blocks=16384, holes=14384)
    assert found.expected_bytes == found.most_bytes == 2000 * CHUNK


def test_an_image_of_holes_alone_takes_nothing() -> None:
    assert sampled(0, of=0, holes=16384) == Allocation()


@given(st.integers(1, 10**7), st.integers(0, 10**7), st.integers(0, 1000), st.integers(0, 1000))
def test_the_range_holds_what_is_expected_and_what_was_seen(
    blocks: int, holes: int, tried: int, hits: int
) -> None:
    holes = min(holes, blocks)
    tried = min(tried, blocks - holes)
    hits = min(hits, tried)
    found = sampled(hits, tried, blocks, holes)
    assert hits * CHUNK <= found.least_bytes <= found.most_bytes <= (blocks - holes) * CHUNK
    if tried:
        assert found.least_bytes <= found.expected_bytes <= found.most_bytes


def test_large_chunks_are_sampled_less() -> None:
    assert [sample_blocks(size) for size in (64 * KIB, MIB, 4 * MIB, GIB)] == [1000, 1000, 256, 30]


def test_the_pool_at_worst_with_what_other_jobs_may_take() -> None:
    plan, inventory = planned()
    other = Reservation("other", replace(lv_target(plan.disks[0]), lv_name="other"), GIB)
    (fill,) = pool_fills(plan.disks, inventory, with_reservations(inventory, [other]))
    pool = inventory.volume_groups[0].thin_pools[0]
    assert (fill.used_bytes, fill.size_bytes) == (pool.used_bytes, pool.size_bytes)
    assert fill.others_bytes == pytest.approx(GIB, abs=1)
    worst = plan.disks[0].worst_case_bytes
    assert fill.after(worst) == pytest.approx(pool.used_bytes + GIB + worst, abs=1)
    assert fill.percent(pool.size_bytes * 2) == 200
    assert fill.allocation is None


def test_disks_of_one_pool_are_summed_and_one_without_a_sample_leaves_the_sum_unknown() -> None:
    plan, inventory = planned()
    known = replace(plan.disks[0], expected=Allocation(3 * MIB, 2 * MIB, 5 * MIB, 1000, 3))
    (fill,) = pool_fills([known, known], inventory, inventory)
    assert fill.allocation == Allocation(6 * MIB, 4 * MIB, 10 * MIB, 2000, 6)
    assert fill.worst_case_bytes == 2 * plan.disks[0].worst_case_bytes
    unread = replace(known, expected=Allocation(problem="3600: no answer in 45 s."))
    (fill,) = pool_fills([known, unread], inventory, inventory)
    assert fill.allocation == Allocation(problem="3600: no answer in 45 s.")


def test_a_thick_volume_fills_no_pool_and_a_pool_that_is_gone_is_not_told_of() -> None:
    plan, inventory = planned(THICK)
    assert pool_fills(plan.disks, inventory, inventory) == ()
    plan, inventory = planned()
    assert pool_fills(plan.disks, replace(inventory, volume_groups=()), inventory) == ()


def test_no_sample_changes_the_plan_s_id() -> None:
    plan, _ = planned()
    assert "expected" not in dict(plan.digest_parts)
    assert plan.fills == ()
