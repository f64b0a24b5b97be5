"""What disks alone tell of their machine."""

from dataclasses import replace

import pytest

from p2vd.model.contents import BootStyle, Contents, Examination, Partition, Signature, Table
from p2vd.model.disk import Source
from p2vd.model.passport import PassportDisk
from p2vd.model.plan import Firmware
from p2vd.model.size import GIB, MIB
from p2vd.planning.passport import guess_passport
from tests.planning.builders import WWID, make_source

BLANK = Contents(Table.NONE, BootStyle.NONE, 512)


def examined(
    table: Table = Table.GPT, boot: BootStyle = BootStyle.UEFI, *types: str, wwid: str = WWID
) -> Source:
    parts = tuple(
        Partition(number, number * MIB, MIB, "0x83", signature=Signature(kind))
        for number, kind in enumerate(types, 1)
    )
    contents = replace(BLANK, table=table, boot=boot, partitions=parts)
    return make_source(wwid=wwid, examination=Examination.DONE, contents=contents)


def test_a_disk_tells_its_size_its_table_and_how_it_boots() -> None:
    guess = guess_passport("erp1", [examined(Table.GPT, BootStyle.UEFI, "vfat", "ext4")])
    record = guess.passport
    assert (record.name, record.firmware, record.written_by_hand) == ("erp1", Firmware.UEFI, True)
    assert record.disks == (
        PassportDisk("mpatha", 10 * GIB, WWID, "d2f5c1d3", "LIO-ORG i0", "iscsi", 512, True, "gpt"),
    )
    assert record.system.id == "linux"
    assert len(guess.notes) == 3  # those that are always there


@pytest.mark.parametrize(
    ("styles", "firmware", "note"),
    [
        ([BootStyle.BIOS, BootStyle.NONE], Firmware.BIOS, ""),
        ([BootStyle.UEFI, BootStyle.UEFI], Firmware.UEFI, ""),
        ([BootStyle.BOTH], None, "more than one firmware (both)"),
        ([BootStyle.UEFI, BootStyle.BIOS], None, "more than one firmware (bios, uefi)"),
        ([BootStyle.NONE], None, "is one of the machine's disks missing?"),
    ],
)
def test_disks_together_tell_the_firmware(
    styles: list[BootStyle], firmware: Firmware | None, note: str
) -> None:
    sources = [examined(Table.MBR, style, wwid=f"{WWID}{number}") for number, style in enumerate(styles)]
    guess = guess_passport("erp1", sources)
    assert guess.passport.firmware is firmware
    assert [disk.boots for disk in guess.passport.disks] == [style is not BootStyle.NONE for style in styles]
    assert any(note in one for one in guess.notes)
    assert (len(guess.notes) > 3) == bool(note)


@pytest.mark.parametrize(
    ("types", "system"),
    [
        (["LVM2_member"], "linux"),
        (["ntfs", "vfat"], "windows"),
        (["BitLocker"], "windows"),
        (["ntfs", "ext4"], ""),
        (["vfat"], ""),
    ],
)
def test_what_is_on_the_disks_tells_the_system(types: list[str], system: str) -> None:
    found = guess_passport("x", [examined(Table.GPT, BootStyle.UEFI, *types)]).passport
    assert (found.system.id, found.clock) == (system, None)


def test_what_is_not_known_is_said() -> None:
    unread = make_source(examination=Examination.SILENT)
    never = replace(unread, examination=Examination.NO, examination_problem="It has no index.")
    other = examined(Table.GPT_OTHER_SECTORS, BootStyle.NONE, wwid="36001405ffff")
    again = replace(examined(wwid="36001405eeee"), examination=Examination.UNDER_WAY)
    guess = guess_passport("x", [unread, other, again, never])
    assert guess.passport.disks[0] == PassportDisk(
        "mpatha", 10 * GIB, WWID, "d2f5c1d3", "LIO-ORG i0", "iscsi", boots=False
    )
    notes = " ".join(guess.notes)
    assert f"What is on {WWID} (mpatha) is not known (silent)." in notes
    assert f"What is on {WWID} (mpatha) is not known (no): It has no index." in notes
    assert "could not be read (gpt-other-sectors)" in notes
    assert "36001405eeee (mpatha) is being looked at again" in notes
