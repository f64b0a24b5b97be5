"""What a plan is bound to: its id, and the check of the world just before it runs."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2vd.model.copying import Verify
from p2vd.model.errors import PlanOutdated
from p2vd.model.inventory import Inventory
from p2vd.model.size import GIB
from p2vd.planning.disk import Overrides
from p2vd.planning.plan import PlanRequest, make_plan, recheck
from tests.planning.builders import (
    SOURCE,
    THIN,
    VG,
    WWID,
    make_inventory,
    make_policies,
    make_source,
    thin_with,
    with_pool,
)

REQUEST = PlanRequest((WWID,), source_offline=True)


@given(st.integers(0, 94), st.sampled_from(["a", "b"]))
def test_pool_fill_and_names_of_the_moment_are_not_part_of_the_id(percent: int, name: str) -> None:
    policies = make_policies(THIN)
    inventory = make_inventory(make_source(name=name, device="dm-9"), with_pool(data_percent=float(percent)))
    assert make_plan(REQUEST, inventory, policies).id == make_plan(REQUEST, make_inventory(), policies).id


def test_recheck_of_an_unchanged_world() -> None:
    policies = make_policies(THIN)
    plan = make_plan(
        PlanRequest((WWID,), "web1", True, overrides=(Overrides(Verify.BOTH),)), make_inventory(), policies
    )
    assert recheck(plan, make_inventory(), policies) == plan


@pytest.mark.parametrize(
    ("inventory", "difference"),
    [
        (Inventory(), f"the source {WWID} is no longer attached."),
        (
            make_inventory(make_source(size_bytes=11 * GIB)),
            "the source's size is now '11811160064', was '107",
        ),
        (make_inventory(SOURCE, replace(VG, uuid="new")), "the volume group is now 'new', was 'vg-uuid'."),
        (make_inventory(SOURCE, with_pool(uuid="p")), "the thin pool is now 'p', was 'pool-uuid'."),
        (make_inventory(SOURCE, replace(VG, exported=True)), "it would be refused now. Source"),
    ],
)
def test_recheck_names_the_difference(inventory: Inventory, difference: str) -> None:
    policies = make_policies(THIN)
    plan = make_plan(REQUEST, make_inventory(), policies)
    with pytest.raises(PlanOutdated) as caught:
        recheck(plan, inventory, policies)
    assert caught.value.difference.startswith(difference)
    assert str(caught.value).endswith("Make a new plan.")


def test_recheck_sees_a_changed_policy() -> None:
    plan = make_plan(REQUEST, make_inventory(), make_policies(THIN))
    with pytest.raises(PlanOutdated) as caught:
        recheck(plan, make_inventory(), make_policies(thin_with("autoactivate = false")))
    assert caught.value.difference == "the text of the policy 'thin' has changed."


def test_recheck_does_not_mind_a_comment() -> None:
    plan = make_plan(REQUEST, make_inventory(), make_policies(THIN))
    assert recheck(plan, make_inventory(), make_policies("# why\n\n" + THIN)).id == plan.id


def test_recheck_of_a_plan_of_an_older_version() -> None:
    policies = make_policies(THIN)
    plan = make_plan(REQUEST, make_inventory(), policies)
    older = replace(plan, id="0" * 16, digest_parts=plan.digest_parts[1:])
    with pytest.raises(PlanOutdated) as caught:
        recheck(older, make_inventory(), policies)
    assert caught.value.difference == f"the source is now '{WWID}', was ''."
