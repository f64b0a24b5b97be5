"""What a plan says of the room that a guest's conversion needs."""

from dataclasses import replace

import pytest

from p2vd.model.errors import Refused
from p2vd.model.inventory import Inventory
from p2vd.model.plan import LvTarget, Provisioning
from p2vd.model.size import GIB, MIB
from p2vd.planning.plan import PlanRequest, make_plan
from p2vd.planning.reservations import Reservation, with_reservations
from tests.planning.builders import (
    POOL,
    SOURCE,
    THICK,
    THIN,
    VG,
    WWID,
    make_inventory,
    make_policies,
    make_source,
    with_pool,
)

CONVERT = '[rule.domain]\nconversion = "virt-v2v-in-place"\n'
REQUEST = PlanRequest((WWID,), "web1", source_offline=True)
SECOND = make_source(wwid="36001405d2f5c1d3e4a64b8c9aaaacccc", name="mpathb", size_bytes=5 * GIB)


def test_a_group_with_room_for_the_volume_and_its_undo_point_takes_it() -> None:
    tight = replace(VG, free_bytes=20 * GIB + 8 * MIB)
    assert make_plan(REQUEST, make_inventory(SOURCE, tight), make_policies(THICK + CONVERT)).warnings == ()


def test_a_group_without_room_for_the_undo_points_refuses_the_plan() -> None:
    tight = replace(VG, free_bytes=20 * GIB)
    with pytest.raises(Refused) as caught:
        make_plan(REQUEST, make_inventory(SOURCE, tight), make_policies(THICK + CONVERT))
    (reason,) = caught.value.reasons
    assert reason.code == "vg-undo-short"
    assert "beside the volumes themselves 10 GiB are free" in reason.text
    make_plan(REQUEST, make_inventory(SOURCE, tight), make_policies(THICK))


def test_the_undo_points_of_all_disks_are_there_at_once() -> None:
    request = replace(REQUEST, source_ids=(WWID, SECOND.id))
    policies = make_policies(THICK + CONVERT)
    enough = replace(VG, free_bytes=30 * GIB + 16 * MIB)
    inventory = replace(make_inventory(SOURCE, enough), sources=(SOURCE, SECOND))
    make_plan(request, inventory, policies)
    short = replace(inventory, volume_groups=(replace(VG, free_bytes=30 * GIB),))
    with pytest.raises(Refused, match="undo points of 15"):
        make_plan(request, short, policies)


def test_a_pool_that_has_not_the_room_now_refuses_the_plan() -> None:
    full = with_pool(size_bytes=15 * GIB, data_percent=90.0, virtual_size_bytes=GIB)
    with pytest.raises(Refused) as caught:
        make_plan(REQUEST, make_inventory(SOURCE, full), make_policies(THIN + CONVERT))
    (reason,) = caught.value.reasons
    assert reason.code == "pool-undo-short"
    assert "vg_san/pool0 shall have 2 GiB free; now 1.5 GiB of 15 GiB are" in reason.text
    assert "lvextend -L +SIZE vg_san/pool0" in reason.text
    make_plan(REQUEST, make_inventory(SOURCE, full), make_policies(THIN))


def test_what_is_written_over_the_undo_points_of_all_disks_is_needed_at_once() -> None:
    request = replace(REQUEST, source_ids=(WWID, SECOND.id))
    policies = make_policies(THIN + CONVERT)

    def with_free(gib: float) -> Inventory:
        pool = with_pool(size_bytes=30 * GIB, data_percent=100 - gib * 100 / 30, virtual_size_bytes=GIB)
        return replace(make_inventory(SOURCE, pool), sources=(SOURCE, SECOND))

    make_plan(request, with_free(4.5), policies)
    with pytest.raises(Refused, match="shall have 4 GiB free"):
        make_plan(request, with_free(3.5), policies)


def test_what_other_jobs_may_still_take_is_no_reason() -> None:
    pool = with_pool(size_bytes=30 * GIB, data_percent=50.0, virtual_size_bytes=GIB)
    target = LvTarget("vg-uuid", "vg_san", "other", Provisioning.THIN, GIB, 512, "pool-uuid", "pool0")
    inventory = with_reservations(make_inventory(SOURCE, pool), [Reservation("job", target, 14 * GIB)])
    plan = make_plan(REQUEST, inventory, make_policies(THIN + CONVERT))
    assert any(
        "the machine stays ready until the pool is extended" in " ".join(text.split())
        for text in plan.warnings
    )


def test_a_pool_that_the_copy_may_leave_too_full_is_a_warning() -> None:
    full = replace(
        VG, thin_pools=(replace(POOL, size_bytes=15 * GIB, data_percent=30.0, virtual_size_bytes=GIB),)
    )
    plan = make_plan(REQUEST, make_inventory(SOURCE, full), make_policies(THIN + CONVERT))
    assert any("has not the 2 GiB free that the conversion of web1" in text for text in plan.warnings)
    roomy = make_plan(REQUEST, make_inventory(), make_policies(THIN + CONVERT))
    assert not any("conversion" in text for text in roomy.warnings)
