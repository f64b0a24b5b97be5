"""What the examiner says of disks that real tools made, and that it asks for nothing that changes one."""

import errno
import os
import re
import sys
from pathlib import Path

import pytest

from p2vd.discovery import examining
from p2vd.discovery.examiner import Examiner, OpenedDisk
from p2vd.discovery.examining import ExamineReply, ExamineRequest
from p2vd.model.codec import from_dict, to_dict
from p2vd.model.contents import BootStyle, Contents, Reservation, Table
from p2vd.system.command import CommandFailed, CommandTimedOut, Result, SystemCommands
from p2vd.system.descriptors import SeqpacketChannel
from p2vd.system.process import spawn
from tests.discovery.recorded_disk import NAMES, RecordedDisk, examined, recorded
from tests.fakes import FakeCommands
from tests.loop import Loop, needs_loop

MIB = 1 << 20

FOUND = {
    "gpt-uefi": (Table.GPT, BootStyle.UEFI, ["vfat", "ext4", "LVM2_member", "swap"]),
    "gpt-both": (Table.GPT, BootStyle.BOTH, ["", "", ""]),
    "gpt-legacy-boot": (Table.GPT, BootStyle.BIOS, [""]),
    "gpt-hybrid": (Table.HYBRID, BootStyle.NONE, ["", ""]),
    "gpt-4k": (Table.GPT, BootStyle.UEFI, ["", ""]),
    "gpt-4k-seen-as-512": (Table.GPT_OTHER_SECTORS, BootStyle.NONE, []),
    "gpt-truncated": (Table.GPT_DAMAGED, BootStyle.NONE, []),
    "mbr-grub": (Table.MBR, BootStyle.BIOS, ["ext4", "", ""]),
    "mbr-data": (Table.MBR, BootStyle.NONE, [""]),
    "windows-clean": (Table.MBR, BootStyle.BIOS, ["ntfs"]),
    "windows-dirty": (Table.MBR, BootStyle.BIOS, ["ntfs"]),
    "windows-hibernated": (Table.MBR, BootStyle.BIOS, ["ntfs"]),
    "windows-resumed": (Table.MBR, BootStyle.BIOS, ["ntfs"]),
    "bitlocker": (Table.GPT, BootStyle.UEFI, ["", "BitLocker"]),
    "luks": (Table.GPT, BootStyle.NONE, ["crypto_LUKS"]),
    "whole-pv": (Table.NONE, BootStyle.NONE, []),
    "whole-pv-without-vg": (Table.NONE, BootStyle.NONE, []),
    "whole-ext4": (Table.NONE, BootStyle.NONE, []),
    "suspended-linux": (Table.NONE, BootStyle.NONE, []),
    "ambiguous": (Table.NONE, BootStyle.NONE, []),
    "blank": (Table.NONE, BootStyle.NONE, []),
}


def test_every_recorded_disk_is_expected() -> None:
    assert sorted(FOUND) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_table_boot_style_and_signatures(name: str) -> None:
    contents = examined(name)
    signatures = [partition.signature.type for partition in contents.partitions]
    assert (contents.table, contents.boot, signatures) == FOUND[name]
    assert contents.problems == ()


@pytest.mark.parametrize("name", NAMES)
def test_only_tools_that_read_are_run(name: str) -> None:
    disk, commands = recorded(name)
    Examiner(commands).examine(disk)
    assert commands.changes == []
    assert {argv[0] for argv in commands.queries} <= {"blkid", "partx"}
    for argv in commands.queries:
        assert argv[-1] == "DISK"
        assert "--probe" in argv or "--pairs" in argv


def test_partitions_with_what_they_hold() -> None:
    esp, boot, pv, swap = examined("gpt-uefi").partitions
    assert (esp.number, esp.start_bytes, esp.size_bytes) == (1, MIB, 16 * MIB)
    assert (esp.name, esp.signature.label) == ("EFI System Partition", "EFI")
    assert (boot.signature.label, boot.signature.version) == ("boot", "1.0")
    assert (pv.name, pv.signature.volume_group) == ('data "quoted" $HOME ü', "guest-vg")
    assert (swap.type, swap.signature.hibernated) == ("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", False)


def test_logical_partitions_without_what_contains_them() -> None:
    assert [one.number for one in examined("mbr-grub").partitions] == [1, 5, 6]


def test_sectors_of_4096_bytes() -> None:
    contents = examined("gpt-4k")
    assert contents.physical_sector_size == 4096
    assert (contents.partitions[0].start_bytes, contents.partitions[0].size_bytes) == (MIB, 8 * MIB)


@pytest.mark.parametrize(
    ("name", "dirty", "hibernated"),
    [
        ("windows-clean", False, False),
        ("windows-dirty", True, False),
        ("windows-hibernated", False, True),
        ("windows-resumed", False, False),
    ],
)
def test_how_windows_was_left(name: str, dirty: bool, hibernated: bool) -> None:
    (partition,) = examined(name).partitions
    assert (partition.signature.dirty, partition.signature.hibernated) == (dirty, hibernated)


def test_a_linux_that_was_hibernated() -> None:
    assert examined("suspended-linux").signature.hibernated


@pytest.mark.parametrize(("name", "vg"), [("whole-pv", "datavg"), ("whole-pv-without-vg", "")])
def test_the_volume_group_of_a_physical_volume(name: str, vg: str) -> None:
    signature = examined(name).signature
    assert (signature.type, signature.volume_group) == ("LVM2_member", vg)


def test_signatures_that_contradict_each_other() -> None:
    signature = examined("ambiguous").signature
    assert (signature.type, signature.ambiguous) == ("vfat|ext4", True)


def test_only_a_disk_of_zeros_is_blank() -> None:
    assert [name for name in NAMES if examined(name).blank] == ["blank"]


def test_it_survives_the_way_to_the_daemon() -> None:
    reply = ExamineReply(examined("gpt-uefi"), "")
    assert from_dict(ExamineReply, to_dict(reply)) == reply


# ---- tools that do not do as they should ----------------------------------------------------------


def altered(prefix: str, answer: "str | Result | Exception", name: str = "gpt-uefi") -> Contents:
    disk, commands = recorded(name)
    argv = next(argv for argv in list(commands._script) if argv[0] == prefix)
    commands.replace(argv, answer)
    return Examiner(commands).examine(disk)


def test_a_table_that_only_blkid_can_read_is_a_problem() -> None:
    contents = altered("partx", Result((), 1, "", "partx: DISK: failed to read partition table\n"))
    assert contents.partitions == ()
    assert "failed to read partition table" in contents.problems[0]


@pytest.mark.parametrize("answer", ['NR="1" START="x"\n', "garbage\n", 'NR="1"\n'])
def test_an_answer_that_is_not_understood_is_named(answer: str) -> None:
    with pytest.raises(Exception, match="partx said"):
        altered("partx", answer)


def test_a_partition_that_ends_beyond_the_disk_is_not_read() -> None:
    disk, commands = recorded("mbr-data")
    disk.size_bytes = 4 * MIB
    disk.known[(3 * MIB, MIB)] = bytes(MIB)
    contents = Examiner(commands).examine(disk)
    assert "Partition 1 ends beyond the disk" in contents.problems[0]
    assert len([argv for argv in commands.queries if "--offset" in argv]) == 0


def test_a_tool_that_hangs_is_an_answer_too(tmp_path: Path) -> None:
    image = tmp_path / "disk"
    image.write_bytes(bytes(MIB))
    commands = FakeCommands().on("blkid", CommandTimedOut(("blkid",), 15))
    reply = Examiner(commands).answer(ExamineRequest(str(image), MIB, 512))
    assert reply.contents is None
    assert "gave no answer in 15 s" in reply.problem


# ---- reservations ---------------------------------------------------------------------------------

# As sg_persist of sg3-utils 1.46 said in the lab, of a LUN of LIO.
FREE = "  PR generation=0x0, there is NO reservation held\n"
RESERVED = (
    "  PR generation=0x1, Reservation follows:\n    Key=0xabc\n    scope: LU_SCOPE,  type: Write Exclusive\n"
)
NO_KEYS = "  PR generation=0x0, there are NO registered reservation keys\n"
KEY = "  PR generation=0x1, 1 registered reservation key follows:\n    0xabc\n"
KEYS = "  PR generation=0x2, 2 registered reservation keys follow:\n    0xabc\n    0xdef\n"
FAILED = CommandFailed(("sg_persist",), 15, "open error: /dev/sda: No such device or address")


def test_a_reservation_and_its_holder() -> None:
    contents = examined("blank", ["sda"], reservation=[RESERVED], keys=[KEYS])
    assert contents.reservation == Reservation("0xabc", "Write Exclusive")
    assert contents.registered_keys == 2


def test_keys_without_a_reservation() -> None:
    contents = examined("blank", ["sda"], reservation=[FREE], keys=[KEY])
    assert (contents.reservation, contents.registered_keys) == (None, 1)


def test_nobody_registered() -> None:
    contents = examined("blank", ["sda"], reservation=[FREE], keys=[NO_KEYS])
    assert (contents.reservation, contents.registered_keys, contents.problems) == (None, 0, ())


def test_the_next_path_is_asked_where_one_does_not_answer() -> None:
    contents = examined("blank", ["sda", "sdb"], reservation=[FAILED, RESERVED], keys=[NO_KEYS])
    assert contents.reservation is not None
    assert contents.problems == ()


def test_no_path_that_answers_is_a_problem() -> None:
    contents = examined("blank", ["sda"], reservation=[FAILED], keys=[NO_KEYS])
    assert "reservations cannot be read" in contents.problems[0]


def test_an_array_without_reservations() -> None:
    illegal = Result(("sg_persist",), 5, "", "PR in (Read reservation): Illegal request\n")
    contents = examined("blank", ["sda"], reservation=[illegal], keys=[illegal])
    assert (contents.reservation, contents.problems) == (None, ())


class RefusingDisk(RecordedDisk):
    def __init__(self, number: int) -> None:
        self.number = number
        self.size_bytes, self.sector_size, self.physical_sector_size = MIB, 512, 512

    def read(self, offset: int, length: int) -> bytes:
        raise OSError(self.number, os.strerror(self.number))


def test_a_reservation_that_excludes_reading_is_one() -> None:
    contents = Examiner(FakeCommands()).examine(RefusingDisk(errno.EBADE))
    assert contents.reservation == Reservation("unknown", "reads are refused")


def test_a_read_error_is_none() -> None:
    with pytest.raises(OSError, match="Input/output error"):
        Examiner(FakeCommands()).examine(RefusingDisk(errno.EIO))


# ---- the real tools on a file, and the helper as a process ----------------------------------------


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An MBR with one partition of type 0x83, as sectors say it; nothing in it."""
    entry = bytes([0, 0, 0, 0, 0x83, 0, 0, 0]) + (2048).to_bytes(4, "little") + (2048).to_bytes(4, "little")
    path = tmp_path / "disk"
    path.write_bytes((bytes(446) + entry).ljust(510, b"\0") + b"\x55\xaa" + bytes(4 * MIB - 512))
    return path


def request(path: Path | str, size: int = 4 * MIB) -> ExamineRequest:
    return ExamineRequest(str(path), size, 512)


def test_the_real_tools_read_an_image(image: Path) -> None:
    reply = Examiner(SystemCommands()).answer(request(image))
    assert reply.contents is not None
    assert reply.contents.table is Table.MBR
    assert [(one.number, one.start_bytes) for one in reply.contents.partitions] == [(1, MIB)]


def test_a_disk_of_another_size_is_not_read(image: Path) -> None:
    reply = Examiner(FakeCommands()).answer(request(image, 8 * MIB))
    assert "its size has changed" in reply.problem


def test_a_disk_that_is_gone(tmp_path: Path) -> None:
    assert "No such file" in Examiner(FakeCommands()).answer(request(tmp_path / "gone")).problem


def test_what_waits_for_a_peer_is_not_waited_for(tmp_path: Path) -> None:
    """A FIFO stands for a device whose open blocks: O_NONBLOCK makes it a failure."""
    os.mkfifo(tmp_path / "fifo")
    assert Examiner(FakeCommands()).answer(request(tmp_path / "fifo")).problem


def test_the_helper_answers_until_the_channel_is_closed(image: Path) -> None:
    ours, theirs = SeqpacketChannel.pair()
    with ours:
        child = spawn(
            [sys.executable, "-m", "p2vd.discovery.examiner", "--channel", str(theirs.fileno())],
            theirs.fileno(),
        )
        theirs.close()
        assert ours.receive(60) == (examining.READY, [])
        for path in (image, image.with_name("gone")):
            ours.send(to_dict(request(path)))
            answer = ours.receive(60)
            assert answer is not None
            reply = from_dict(ExamineReply, answer[0])
            assert (reply.contents is None) is bool(reply.problem)
    assert child.wait(60) == 0


def test_reads_beyond_the_end_are_short(image: Path) -> None:
    disk = OpenedDisk(str(image))
    assert [len(disk.read(offset, 512)) for offset in (4 * MIB - 100, 4 * MIB, 1 << 63, 1 << 70)] == [
        100,
        0,
        0,
        0,
    ]
    disk.close()


@needs_loop
@pytest.mark.root
def test_a_block_device_is_opened_read_only_and_by_its_descriptor(tmp_path: Path, image: Path) -> None:
    with Loop(tmp_path / "backing", 4 * MIB) as loop:
        Path(loop.device).write_bytes(image.read_bytes())
        disk = OpenedDisk(loop.device)
        flags = Path(f"/proc/self/fdinfo/{disk.fd}").read_text()
        assert int(re.search(r"flags:\s+(\d+)", flags)[1], 8) & os.O_ACCMODE == os.O_RDONLY  # type: ignore[index]
        reply = Examiner(SystemCommands()).answer(request(loop.device))
        disk.close()
    assert reply.contents is not None
    assert reply.contents.table is Table.MBR
