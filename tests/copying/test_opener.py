"""The helper that proves and opens devices."""

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from p2vd.copying.opener import Opener
from p2vd.copying.opening import OpenError, OpenReply, OpenRequest, SourceToOpen, TargetToOpen
from p2vd.model.codec import from_dict, to_dict
from p2vd.model.errors import P2vdError
from p2vd.system import block
from p2vd.system.command import CommandFailed, CommandKilled, CommandNotStarted, Result
from p2vd.system.descriptors import SeqpacketChannel, close_all
from p2vd.system.process import spawn
from tests.fakes import FakeCommands, SleepingClock
from tests.loop import Loop, needs_loop

MIB = 1 << 20
WWID = "36001405aaaa0000bbbb1111cccc2222d"


# As sg_persist 1.81 said in the lab, of a LUN of LIO.
FREE = "  PR generation=0x0, there is NO reservation held\n"
RESERVED = (
    "  PR generation=0x1, Reservation follows:\n    Key=0xabc\n"
    "    scope: LU_SCOPE,  type: Write Exclusive, registrants only\n"
)


def disk() -> FakeCommands:
    """A LUN that answers on every path and that nobody reserved."""
    return FakeCommands().on("/lib/udev/scsi_id", WWID + "\n").on("sg_persist", FREE)


def opener(commands: FakeCommands | None = None) -> Opener:
    return Opener(commands or FakeCommands(), clock=SleepingClock())


def failed(argv: tuple[str, ...]) -> CommandFailed:
    return CommandFailed(argv, 1, "no answer")


LUN = SourceToOpen("/dev/mapper/x", MIB, 512, "mpath-x", WWID, ("sda", "sdb"))


def test_the_wwid_is_read_from_every_path() -> None:
    commands = disk()
    assert opener(commands).answer(OpenRequest(LUN)) == (OpenReply(ok=True), [])
    asked = [argv[-1] for argv in commands.queries if argv[0].endswith("scsi_id")]
    assert asked == ["/dev/sda", "/dev/sdb"]


def test_a_reserved_lun_is_refused_with_holder_and_remedy() -> None:
    commands = FakeCommands().on("/lib/udev/scsi_id", WWID).on("sg_persist", RESERVED)
    reply, fds = opener(commands).answer(OpenRequest(LUN))
    assert fds == []
    assert reply.error is not None
    assert reply.error.name == "DeviceReserved"
    assert "Key=0xabc" in reply.error.message
    assert "Shut it down" in reply.error.message


def test_what_the_host_lacks_for_a_moment_is_told_by_its_name() -> None:
    """The daemon asks again for these names, and only for these."""
    argv = ("dmsetup", "info")
    for error in (CommandNotStarted(argv, 0.0, "no memory"), CommandKilled(argv, 30.0, 9)):
        reply, fds = opener(disk().on("dmsetup", error)).answer(OpenRequest(LUN, source_alone=True))
        assert reply.error == OpenError(type(error).__name__, str(error))
        assert fds == []


@pytest.mark.parametrize("answer", ["", "  PR generation=0x0, there is", "what?"])
def test_an_answer_about_reservations_that_nobody_understands_refuses(answer: str) -> None:
    commands = FakeCommands().on("/lib/udev/scsi_id", WWID).on("sg_persist", answer)
    error = opener(commands).answer(OpenRequest(LUN))[0].error
    assert error is not None
    assert error.name == "OpenFailed"


def test_the_reservation_is_read_on_a_path_that_answers() -> None:
    commands = disk().on("/lib/udev/scsi_id -g -u -d /dev/sda", failed)
    opener(commands).answer(OpenRequest(LUN))
    assert [argv[-1] for argv in commands.queries if argv[0] == "sg_persist"] == ["/dev/sdb"]


def test_an_array_without_reservations_has_none() -> None:
    illegal = Result(("sg_persist",), 5, "", "PR in (Read reservation): Illegal request\n")
    commands = FakeCommands().on("/lib/udev/scsi_id", WWID).on("sg_persist", illegal)
    assert opener(commands).answer(OpenRequest(LUN))[0].ok


def test_one_path_to_another_disk_is_refused() -> None:
    commands = (
        FakeCommands().on("/lib/udev/scsi_id", WWID).on("/lib/udev/scsi_id -g -u -d /dev/sdb", "3other")
    )
    reply, fds = opener(commands).answer(OpenRequest(LUN))
    assert fds == []
    assert reply.error is not None
    assert reply.error.name == "IdentityChanged"
    assert "/dev/sdb" in reply.error.message
    assert "3other" in reply.error.message


def test_a_path_that_is_silent_is_named() -> None:
    commands = disk().on("/lib/udev/scsi_id -g -u -d /dev/sdb", failed)
    assert opener(commands).answer(OpenRequest(LUN))[0] == OpenReply(ok=True, silent_paths=("sdb",))


def test_a_disk_of_which_no_path_answers_is_absent() -> None:
    reply, _ = opener(FakeCommands().on("/lib/udev/scsi_id", failed)).answer(OpenRequest(LUN))
    assert reply.error is not None
    assert reply.error.name == "DeviceAbsent"


def test_a_device_that_is_not_there_is_absent(tmp_path: Path) -> None:
    source = SourceToOpen(str(tmp_path / "none"), MIB, 512, image=True)
    reply, _ = opener().answer(OpenRequest(source, TargetToOpen("/none", MIB, 512)))
    assert reply.error is not None
    assert reply.error.name == "DeviceAbsent"


def test_over_the_channel_with_descriptors(tmp_path: Path) -> None:
    """The real process; a file stands for a source, and as a target is refused."""
    image = tmp_path / "image"
    image.write_bytes(bytes(MIB))
    ours, theirs = SeqpacketChannel.pair()
    words = [sys.executable, "-m", "p2vd.copying.opener", "--channel", str(theirs.fileno())]
    child = spawn(words, theirs.fileno())
    theirs.close()
    request = OpenRequest(SourceToOpen(str(image), MIB, 512, image=True), TargetToOpen(str(image), MIB, 512))
    ours.send(to_dict(request))
    packet = ours.receive(60)
    assert packet is not None
    reply = from_dict(OpenReply, packet[0])
    assert reply.error is not None
    assert (reply.error.name, packet[1]) == ("IdentityChanged", [])
    assert child.wait(60) == 0


def change(**fields: object) -> Callable[[TargetToOpen], TargetToOpen]:
    return lambda target: replace(target, **fields)  # type: ignore[arg-type]  # the fields' own types


@pytest.mark.root
@needs_loop
class TestBlockDevices:
    """Loop devices: real exclusive opens."""

    def test_one_alone_is_opened_exclusively_for_reading(self, tmp_path: Path) -> None:
        with Loop(tmp_path / "a", MIB) as volume:
            request = OpenRequest(SourceToOpen(volume.device, MIB, 512), source_alone=True)
            reply, fds = opener().answer(request)
            assert (reply, len(fds)) == (OpenReply(ok=True), 1)
            assert not block.is_writable(fds[0])
            with pytest.raises(OSError, match="busy"):
                os.open(volume.device, os.O_RDONLY | os.O_EXCL)
            close_all(fds)

    def test_both_are_opened_exclusively(self, tmp_path: Path) -> None:
        with Loop(tmp_path / "a", MIB) as source, Loop(tmp_path / "b", 2 * MIB) as target:
            request = OpenRequest(
                SourceToOpen(source.device, MIB, 512),
                TargetToOpen(target.device, 0, 512, min_size_bytes=MIB),
            )
            reply, fds = opener().answer(request)
            assert (reply, len(fds)) == (OpenReply(ok=True), 2)
            for path in (source.device, target.device):
                with pytest.raises(OSError, match="busy"):
                    os.open(path, os.O_RDONLY | os.O_EXCL)
            again, none = opener().answer(request)
            assert again.error is not None
            assert (again.error.name, none) == ("DeviceInUse", [])
            close_all(fds)

    @pytest.mark.parametrize(
        ("alter", "word"),
        [
            (change(size_bytes=2 * MIB), "size"),
            (change(size_bytes=0, min_size_bytes=2 * MIB), "at least"),
            (change(sector_size=4096), "sector size"),
        ],
    )
    def test_another_device_than_meant_is_refused(
        self, tmp_path: Path, alter: Callable[[TargetToOpen], TargetToOpen], word: str
    ) -> None:
        with Loop(tmp_path / "a", MIB) as loop:
            target = alter(TargetToOpen(loop.device, MIB, 512))
            with pytest.raises(P2vdError, match=word):
                opener().open(target, os.O_RDWR, "target", 0)
            os.close(os.open(loop.device, os.O_RDWR | os.O_EXCL))

    def test_an_open_count_that_is_not_ours_is_refused(self, tmp_path: Path) -> None:
        with Loop(tmp_path / "a", MIB) as loop:
            target = TargetToOpen(loop.device, MIB, 512, dm_uuid="LVM-x")
            with pytest.raises(P2vdError, match="in use"):
                opener(FakeCommands().on("dmsetup", "1\n")).open(target, os.O_RDWR, "target", 0)
            with pytest.raises(P2vdError, match="device-mapper UUID"):
                opener(FakeCommands().on("dmsetup", "0\n", "1\n")).open(target, os.O_RDWR, "target", 0)
