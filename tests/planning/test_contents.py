"""What follows from what is on a disk: reasons, warnings, and the virtual machine's firmware."""

from dataclasses import replace
from typing import Any

import pytest

from p2vd.model.contents import (
    BootStyle,
    Contents,
    Examination,
    Partition,
    Reservation,
    Signature,
    Table,
)
from p2vd.model.disk import Source
from p2vd.model.errors import PlanOutdated, Refused
from p2vd.model.forms import SourceFormat
from p2vd.model.nbd import NbdExport
from p2vd.model.plan import Firmware, Plan
from p2vd.model.size import MIB
from p2vd.planning.contents import contents_reasons, contents_warnings
from p2vd.planning.plan import PlanRequest, make_plan, recheck
from tests.planning.builders import SOURCE, THIN, make_inventory, make_policies

BIOS = Contents(Table.MBR, BootStyle.BIOS, 512)
UEFI = replace(BIOS, table=Table.GPT, boot=BootStyle.UEFI)


def examined(contents: Contents | None = BIOS, **changes: Any) -> Source:
    """The usual source with `contents`."""
    return replace(SOURCE, **{"examination": Examination.DONE, "contents": contents, **changes})


def holding(contents: Contents = BIOS, **signature: Any) -> Source:
    """The usual source with one partition that holds a signature."""
    return examined(
        replace(contents, partitions=(Partition(2, 1 << 20, 1 << 30, "0x7", "", Signature(**signature)),))
    )


def plan(source: Source, policy: str = "") -> Plan:
    request = PlanRequest((source.id,), "erp1", source_offline=True)
    return make_plan(request, make_inventory(source), make_policies(THIN + policy))


def refusal(source: Source, policy: str = "") -> dict[str, str]:
    """The reasons against a plan, text by code."""
    with pytest.raises(Refused) as refused:
        plan(source, policy)
    return {reason.code: reason.text for reason in refused.value.reasons}


def warned(source: Source, policy: str = "") -> dict[str, str]:
    """The warnings of its contents, text by code; all of them are in the plan."""
    (rule,) = make_policies(THIN + policy).rules
    found = {warning.code: warning.text for warning in contents_warnings(source, rule)}
    assert set(found.values()) <= set(plan(source, policy).warnings)
    return found


# ---- reasons --------------------------------------------------------------------------------------


def test_a_well_disk_has_neither_reason_nor_warning() -> None:
    assert plan(examined()).warnings == plan(SOURCE).warnings == ()


def test_a_reservation_refuses_with_its_key_and_remedy() -> None:
    reasons = refusal(examined(replace(BIOS, reservation=Reservation("0xabc", "Write Exclusive"))))
    assert "0xabc (Write Exclusive)" in reasons["reserved"]
    assert "sg_persist --out --release" in reasons["reserved"]


def test_a_disk_that_is_being_looked_at_has_to_wait() -> None:
    assert "in a moment" in refusal(examined(None, examination=Examination.UNDER_WAY))["under-examination"]


def test_what_was_known_of_it_serves_until_then() -> None:
    assert plan(examined(UEFI, examination=Examination.UNDER_WAY)).domain.firmware is Firmware.UEFI


def test_a_disk_that_does_not_answer() -> None:
    silent = examined(None, examination=Examination.SILENT, examination_problem="no answer in 30 s.")
    assert "no answer in 30 s" in refusal(silent)["no-answer"]


def test_a_disk_that_could_not_be_examined_is_copied_with_a_warning() -> None:
    failed = examined(None, examination=Examination.FAILED, examination_problem="Input/output error.")
    assert "Input/output error" in warned(failed)["not-examined"]


def test_a_disk_that_nobody_looked_at_says_nothing() -> None:
    assert warned(SOURCE) == {}


@pytest.mark.parametrize("kind", ["ntfs", "swsuspend"])
def test_a_hibernated_machine_is_refused_unless_the_policy_takes_it(kind: str) -> None:
    source = holding(type=kind, hibernated=True)
    assert "allow_hibernated" in refusal(source)["hibernated"]
    allowed = "[rule.source]\nallow_hibernated = true\n"
    assert "the policy" in warned(source, allowed)["hibernated"]


def test_without_a_policy_it_is_a_reason_too() -> None:
    reasons = contents_reasons(holding(type="ntfs", hibernated=True), None)
    assert [reason.code for reason in reasons] == ["hibernated"]


# ---- warnings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signature", "code", "says"),
    [
        ({"type": "crypto_LUKS"}, "encrypted", "LUKS"),
        ({"type": "BitLocker"}, "encrypted", "recovery key"),
        ({"type": "LVM2_member", "volume_group": "guestvg"}, "guest-pv", "the volume group guestvg"),
        ({"type": "LVM2_member"}, "guest-pv", "no volume group"),
        ({"type": "linux_raid_member"}, "member", "a Linux RAID array"),
        ({"type": "isw_raid_member"}, "member", "isw_raid_member"),
        ({"type": "ntfs", "dirty": True}, "ntfs-dirty", "not unmounted"),
        ({"type": "vfat|ext4", "ambiguous": True}, "ambiguous", "vfat and ext4"),
    ],
)
def test_a_signature_that_matters(signature: dict[str, Any], code: str, says: str) -> None:
    found = warned(holding(**signature))
    assert list(found) == [code]
    assert says in found[code]
    assert "artition 2" in found[code]


@pytest.mark.parametrize("kind", ["", "ext4", "ntfs", "swap", "vfat", "xfs"])
def test_a_signature_that_does_not(kind: str) -> None:
    assert warned(holding(type=kind)) == {}


def test_a_signature_of_the_whole_disk() -> None:
    source = examined(replace(BIOS, table=Table.NONE, signature=Signature("crypto_LUKS")))
    assert warned(source)["encrypted"].startswith("The disk of")


@pytest.mark.parametrize(
    ("table", "code", "says"),
    [
        (Table.HYBRID, "hybrid-table", "MBR that names partitions"),
        (Table.GPT_OTHER_SECTORS, "gpt-other-sectors", "sectors of 4096 bytes"),
        (Table.GPT_DAMAGED, "gpt-damaged", "larger disk"),
    ],
)
def test_an_odd_table(table: Table, code: str, says: str) -> None:
    assert says in warned(examined(replace(BIOS, table=table)))[code]


EXPORT = {"device": "", "dm_uuid": "", "paths": (), "export": NbdExport("nbd://old/erp1")}
IMAGE = {"device": "", "dm_uuid": "", "paths": (), "format": SourceFormat.QCOW2}


@pytest.mark.parametrize(
    ("kind", "says", "not_of"),
    [
        ({}, ("the LUN shows 512", "Have the array show it with 4096-byte sectors"), ("nbd",)),
        (EXPORT, ("its [[nbd]] table says 512", "Write sector_size = 4096 there"), ("LUN", "array")),
        (IMAGE, ("taken for one with 512", "qemu-nbd --read-only"), ("LUN", "array")),
        (IMAGE | {"format": SourceFormat.RAW}, ("taken for one with 512",), ("LUN", "array")),
    ],
    ids=["lun", "export", "image", "raw image"],
)
def test_a_gpt_of_other_sectors_has_the_remedy_of_what_shows_them(
    kind: dict[str, Any], says: tuple[str, ...], not_of: tuple[str, ...]
) -> None:
    seen = replace(examined(replace(BIOS, table=Table.GPT_OTHER_SECTORS)), **kind)
    found = warned(seen)["gpt-other-sectors"]
    assert all(part in found for part in says)
    assert not any(part in found for part in not_of)


def test_an_empty_disk() -> None:
    assert "blank" in warned(examined(Contents(Table.NONE, BootStyle.NONE, 512, blank=True)))


def test_keys_without_a_reservation() -> None:
    assert "cluster" in warned(examined(replace(BIOS, registered_keys=2)))["registered-keys"]


def test_what_could_not_be_read() -> None:
    assert "odd" in warned(examined(replace(BIOS, problems=("It is odd.",))))["contents-unread"]


# ---- firmware -------------------------------------------------------------------------------------


def with_boot(style: BootStyle) -> Source:
    return examined(replace(BIOS, boot=style))


@pytest.mark.parametrize(
    ("style", "policy", "chosen", "warning"),
    [
        (BootStyle.BIOS, "auto", Firmware.BIOS, ""),
        (BootStyle.UEFI, "auto", Firmware.UEFI, ""),
        (BootStyle.BOTH, "auto", Firmware.BIOS, "by BIOS and by UEFI; bios is taken"),
        (BootStyle.NONE, "auto", Firmware.BIOS, "made to boot from"),
        (BootStyle.UEFI, "bios", Firmware.BIOS, "made to boot by uefi"),
        (BootStyle.BIOS, "uefi", Firmware.UEFI, "made to boot by bios"),
        (BootStyle.BOTH, "uefi", Firmware.UEFI, ""),
        (BootStyle.UEFI, "uefi", Firmware.UEFI, ""),
    ],
)
def test_the_firmware_follows_the_disk(style: BootStyle, policy: str, chosen: Firmware, warning: str) -> None:
    made = plan(with_boot(style), f'[rule.domain]\nfirmware = "{policy}"\n')
    assert made.domain.firmware is chosen
    assert f", {chosen.value}, its disk" in made.steps[-1]
    assert bool(warning) is bool(made.warnings)
    assert warning in " ".join(made.warnings)


# ---- a target that is larger than the source ------------------------------------------------------


ODD = SOURCE.size_bytes - 3 * MIB
"""The volume of such a disk is larger by 3 MiB, for its group has extents of 4 MiB."""


def of_the_backup(source: Source) -> list[str]:
    return [warning for warning in plan(source).warnings if "sgdisk -e" in warning]


@pytest.mark.parametrize("table", [Table.GPT, Table.HYBRID])
def test_a_gpt_whose_second_copy_is_not_at_the_end_any_more(table: Table) -> None:
    (said,) = of_the_backup(examined(replace(UEFI, table=table), size_bytes=ODD))
    assert "stays where the old disk ended, 3 MiB before the end of the new one" in said
    assert of_the_backup(examined(replace(UEFI, table=table))) == []


@pytest.mark.parametrize("table", [one for one in Table if one not in (Table.GPT, Table.HYBRID)])
def test_other_tables_have_no_second_copy(table: Table) -> None:
    assert of_the_backup(examined(replace(BIOS, table=table), size_bytes=ODD)) == []


def test_of_a_disk_that_nobody_looked_at_nothing_is_said_of_a_second_copy() -> None:
    assert of_the_backup(replace(SOURCE, size_bytes=ODD)) == []


def test_the_second_copy_is_no_part_of_what_a_plan_is() -> None:
    """What a GPT is good for is the guest's business: the copy is the same."""
    gpt = replace(BIOS, table=Table.GPT)
    assert plan(examined(gpt, size_bytes=ODD)).id == plan(examined(BIOS, size_bytes=ODD)).id


def test_an_unknown_disk_boots_by_bios() -> None:
    assert plan(SOURCE).domain.firmware is Firmware.BIOS


def test_a_table_that_cannot_be_read_says_nothing_of_booting() -> None:
    made = plan(examined(replace(BIOS, table=Table.GPT_OTHER_SECTORS, boot=BootStyle.NONE)))
    assert not [warning for warning in made.warnings if "boot" in warning]


def test_a_plan_whose_disk_boots_otherwise_now_is_outdated() -> None:
    made = plan(examined(UEFI))
    with pytest.raises(PlanOutdated, match="firmware is now 'bios', was 'uefi'"):
        recheck(made, make_inventory(examined()), make_policies(THIN))
