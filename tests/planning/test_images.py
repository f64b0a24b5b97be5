"""Plans whose source is an image that is no raw one."""

from dataclasses import replace
from typing import Any

import pytest

from p2vd.model.contents import BootStyle, Contents, Examination, Signature, Table
from p2vd.model.disk import Source, Transport
from p2vd.model.errors import PlanOutdated, Refused
from p2vd.model.forms import SourceFormat
from p2vd.model.plan import Firmware, Plan
from p2vd.planning.plan import PlanRequest, make_plan, recheck
from tests.planning.builders import THIN, make_inventory, make_policies, make_source

POLICIES = make_policies(THIN.replace('wwid = "*"', 'transport = "image"') + "[rule.copy]\nbad_sectors = 9\n")
PATH = "/srv/images/erp1"
BIOS = Contents(Table.MBR, BootStyle.BIOS, 512)


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
    assert "for reading: image, " in raw.steps[0]
    assert not [part for part in raw.digest_parts if "format" in part[0]]


def test_what_is_on_a_disk_that_cannot_be_looked_at_is_said_to_be_unknown() -> None:
    never = image(SourceFormat.GZ, examination_problem="It can only be read from its start.")
    (said,) = [each for each in plan(never).warnings if "known only after its copy" in each]
    assert "It can only be read from its start." in said
    for known in (
        image(SourceFormat.RAW),
        image(SourceFormat.GZ, examination=Examination.DONE, contents=BIOS),
    ):
        assert not [each for each in plan(known).warnings if "known only after its copy" in each]


@pytest.mark.parametrize("form", [SourceFormat.QCOW2, SourceFormat.ZST])
def test_what_is_on_the_disk_counts_as_on_a_lun(form: SourceFormat) -> None:
    sleeps = replace(BIOS, signature=Signature("swsuspend", hibernated=True))
    with pytest.raises(Refused, match="is hibernated"):
        plan(image(form, examination=Examination.DONE, contents=sleeps))
    uefi = replace(BIOS, table=Table.GPT, boot=BootStyle.UEFI)
    assert plan(image(form, examination=Examination.DONE, contents=uefi)).domain.firmware is Firmware.UEFI


def test_an_image_whose_file_server_hangs_is_refused_with_what_to_look_at() -> None:
    with pytest.raises(Refused, match=r"no answer in 60 s\. Look at its file server"):
        plan(
            image(
                SourceFormat.QCOW2, examination=Examination.SILENT, examination_problem="no answer in 60 s."
            )
        )


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
