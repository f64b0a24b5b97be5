"""Who has reserved a LUN is asked by any of its paths; nothing is written while none of them tells."""

from pathlib import Path

import pytest

from p2vd.copying import block_endpoints
from p2vd.copying.errors import DeviceReserved, ExitCode, OpenFailed, ReservationUnknown
from p2vd.copying.opening import OpenReply, OpenRequest, TargetToOpen
from p2vd.copying.reservation import check_reservation
from p2vd.system.command import CommandFailed, CommandKilled, CommandNotStarted, CommandTimedOut, Result
from tests.copying.test_opener import FREE, LUN, MIB, RESERVED, WWID, opener
from tests.fakes import Answer, FakeCommands

ASKED = "sg_persist --in --no-inquiry --readonly --read-reservation /dev/"
HANGS = CommandTimedOut(("sg_persist",), 15.0)


def exits(status: int, said: str = "") -> Result:
    return Result(("sg_persist",), status, "", said)


# sg3_utils(8): a path that is passive or in transition, and one attention after another.
NOT_READY = exits(2, "sg_persist failed: Device not ready")
ATTENTION = exits(6, "sg_persist failed: Unit attention")


def paths(**answers: Answer | tuple[Answer, ...]) -> FakeCommands:
    """A LUN whose paths, `sda` and so on, say these one after another."""
    commands = FakeCommands().on("/lib/udev/scsi_id", WWID)
    for name, said in answers.items():
        commands.on(ASKED + name, *(said if isinstance(said, tuple) else (said,)))
    return commands


def check(commands: FakeCommands) -> list[str]:
    """The paths that were asked, in their order."""
    check_reservation(commands, "/dev/mapper/x", WWID, ("sda", "sdb"))
    return [argv[-1].removeprefix("/dev/") for argv in commands.queries]


@pytest.mark.parametrize("sick", [NOT_READY, exits(11), exits(99), HANGS], ids=str)
def test_a_path_that_does_not_tell_leaves_it_to_the_next(sick: Answer) -> None:
    assert check(paths(sda=sick, sdb=FREE)) == ["sda", "sdb"]
    with pytest.raises(DeviceReserved, match="Key=0xabc"):
        check(paths(sda=sick, sdb=RESERVED))


def test_a_unit_attention_comes_once_and_the_same_path_is_asked_again() -> None:
    assert check(paths(sda=(ATTENTION, ATTENTION, FREE))) == ["sda", "sda", "sda"]
    with pytest.raises(DeviceReserved):
        check(paths(sda=(ATTENTION, RESERVED)))


def test_attentions_without_end_leave_it_to_the_next_path() -> None:
    assert check(paths(sda=ATTENTION, sdb=FREE)) == ["sda"] * 4 + ["sdb"]


def test_where_no_path_tells_nothing_is_assumed() -> None:
    with pytest.raises(ReservationUnknown) as raised:
        check(paths(sda=NOT_READY, sdb=HANGS))
    message = str(raised.value)
    assert "sda: sg_persist exits with 2; sdb: no answer in 15 s" in message
    assert "multipath -ll" in message
    assert raised.value.exit_code is ExitCode.IO_FAILED


def test_a_path_that_could_not_be_asked_says_so() -> None:
    """It was said that it gave no answer in 0 s."""
    argv = ("sg_persist",)
    lack = CommandNotStarted(argv, 0.0, "Resource temporarily unavailable")
    with pytest.raises(ReservationUnknown) as raised:
        check(paths(sda=lack, sdb=CommandKilled(argv, 15.0, 9)))
    message = str(raised.value)
    assert "sda: sg_persist could not be started: Resource temporarily unavailable; " in message
    assert "sdb: sg_persist was ended by SIGKILL before it answered)" in message
    assert check(paths(sda=lack, sdb=FREE)) == ["sda", "sdb"]


def test_a_host_with_the_older_kind_of_reservation_refuses_too() -> None:
    """RESERVE(6) answers any other host's question with a conflict: that is an answer."""
    with pytest.raises(DeviceReserved, match="reservation conflict"):
        check(paths(sda=exits(24, "Reservation conflict"), sdb=FREE))


def test_an_answer_that_nobody_understands_is_not_asked_for_again() -> None:
    with pytest.raises(OpenFailed, match="does not tell"):
        check(paths(sda="what?", sdb=FREE))


def test_a_host_without_the_tool_says_so_and_waits_for_nothing() -> None:
    missing = CommandFailed(("sg_persist",), 127, "No such file or directory: 'sg_persist'")
    with pytest.raises(CommandFailed, match="127"):
        check(paths(sda=missing))


def test_a_lun_without_scsi_paths_is_not_asked() -> None:
    check_reservation(FakeCommands(), "/dev/nvme0n1", "", ())


def test_the_helper_tells_the_daemon_what_it_could_not_learn() -> None:
    target = TargetToOpen("/dev/mapper/x", MIB, 512, wwid=WWID, path_devices=("sda", "sdb"))
    for request in (OpenRequest(LUN), OpenRequest(None, target)):
        reply, fds = opener(paths(sda=NOT_READY, sdb=NOT_READY)).answer(request)
        assert reply.error is not None
        assert (reply.error.name, fds) == ("ReservationUnknown", [])
        assert opener(paths(sda=RESERVED, sdb=FREE)).answer(request)[0].error is not None
    assert opener(paths(sda=NOT_READY, sdb=FREE)).answer(OpenRequest(LUN)) == (OpenReply(ok=True), [])


def test_the_tool_asks_the_next_path_of_a_map(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run again while the map's first path is down, the copy goes on by the other."""
    disk = tmp_path / "mpatha"
    disk.touch()
    monkeypatch.setattr(block_endpoints, "scsi_disks", lambda _: ("sda", "sdb"))
    commands = paths(sda=exits(15, "error opening file: No such device or address"), sdb=FREE)
    block_endpoints._check_reservation(disk, WWID, opener(commands))
    assert [argv[-1] for argv in commands.queries] == ["/dev/sda", "/dev/sdb"]
