"""Plans whose source is an image that is no raw one."""

from dataclasses import replace
from typing import Any

import pytest

from p2vd.model.disk import Source, Transport
from p2vd.model.errors import PlanOutdated
from p2vd.model.forms import SourceFormat
from p2vd.model.plan import Plan
from p2vd.planning.plan import PlanRequest, make_plan, recheck
from tests.planning.builders import THIN, make_inventory, make_policies, make_source

POLICIES = make_policies(THIN.replace('wwid = "*"', 'transport = "image"') + "[rule.copy]\nbad_sectors = 9\n")
PATH = "/srv/images/erp1"


def image(form: SourceFormat, **changes: Any) -> Source:
    """An image of that form, of the size of the disk in it."""
    path = f"{PATH}.{form.value}"
    seen = make_source(id=path, wwid="", device="", name=f"erp1.{form.value}", dm_uuid="", paths=())
    return replace(seen, transport=Transport.IMAGE, file_id="1@2", format=form, **changes)


def plan(source: Source) -> Plan:
    request = PlanRequest((source.id,), "erp1", source_offline=True)
    return make_plan(request, make_inventory(source), POLICIES)


def test_the_plan_is_bound_to_the_form_and_says_it() -> None:
    (disk,) = plan(image(SourceFormat.QCOW2)).disks
    assert disk.source.format is SourceFormat.QCOW2
    assert "image (qcow2)" in disk.steps[0]
    raw = plan(image(SourceFormat.RAW)).disks[0]
    assert "exclusively: image, " in raw.steps[0]
    assert not [part for part in raw.digest_parts if "format" in part[0]]


def test_what_is_on_the_disk_is_said_to_be_unknown() -> None:
    assert [each for each in plan(image(SourceFormat.ZST)).warnings if "is not looked at" in each]
    assert not [each for each in plan(image(SourceFormat.RAW)).warnings if "is not looked at" in each]


@pytest.mark.parametrize(("form", "allowed"), [(SourceFormat.XZ, 0), (SourceFormat.VMDK, 9)])
def test_in_a_compressed_image_nothing_may_be_unreadable(form: SourceFormat, allowed: int) -> None:
    (disk,) = plan(image(form)).disks
    assert disk.copy.bad_sectors == allowed
    said = [each for each in disk.warnings if "whatever copy.bad_sectors says" in each]
    assert bool(said) is not bool(allowed)


def test_a_file_of_another_form_in_its_place_is_another_plan() -> None:
    made = plan(image(SourceFormat.QCOW2))
    other = replace(image(SourceFormat.VMDK), id=f"{PATH}.qcow2")
    with pytest.raises(PlanOutdated, match="source's format"):
        recheck(made, make_inventory(other), POLICIES)
