"""What a plan says of the room that a guest's conversion needs."""

from dataclasses import replace

import pytest

from p2vd.model.errors import Refused
from p2vd.model.size import GIB, MIB
from p2vd.planning.plan import PlanRequest, make_plan
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


def test_a_pool_that_the_copy_may_leave_too_full_is_a_warning() -> None:
    full = replace(
        VG, thin_pools=(replace(POOL, size_bytes=15 * GIB, data_percent=30.0, virtual_size_bytes=GIB),)
    )
    plan = make_plan(REQUEST, make_inventory(SOURCE, full), make_policies(THIN + CONVERT))
    assert any("has not the 2 GiB free that the conversion of web1" in text for text in plan.warnings)
    roomy = make_plan(REQUEST, make_inventory(), make_policies(THIN + CONVERT))
    assert not any("conversion" in text for text in roomy.warnings)
