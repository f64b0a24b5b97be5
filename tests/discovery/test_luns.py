"""Who answers at a path, by what scsi_id and sg_turs of Debian 12 said."""

import pytest

from p2vd.discovery import luns
from p2vd.discovery.luns import Answer, Found
from p2vd.system.command import CommandTimedOut, Result
from tests.fakes import FakeCommands
from tests.iscsi_host import CAPTURED, captured

SECOND = CAPTURED["identity"]["stdout"].strip()
THIRD = CAPTURED["identity-other"]["stdout"].strip()


def lun(identity: str, *turs: str) -> FakeCommands:
    commands = FakeCommands().on("/lib/udev/scsi_id -g -u -d /dev/sdc", captured(identity))
    return commands.on("sg_turs /dev/sdc", *[captured(name) for name in turs]) if turs else commands


def test_the_same_lun_is_asked_once() -> None:
    commands = lun("identity")
    assert luns.ask(commands, "sdc", SECOND) == Answer(Found.SAME)
    assert len(commands.calls) == 1


def test_a_lun_that_is_no_longer_mapped() -> None:
    assert luns.ask(lun("identity-gone", "turs-gone", "turs-gone-again"), "sdc", SECOND).found is Found.GONE


def test_a_number_that_another_lun_has_now() -> None:
    """The kernel still shows the old identity (captured as sysfs-identity-other)."""
    assert SECOND.removeprefix("3") in CAPTURED["sysfs-identity-other"]["stdout"]
    assert luns.ask(lun("identity-other", "turs-other"), "sdc", SECOND) == Answer(Found.OTHER, THIRD)


def test_a_unit_attention_is_not_the_answer() -> None:
    attention = Result((), 6, "", "device reported unit attention")
    commands = FakeCommands().on("/lib/udev/scsi_id", Result((), 1, "", ""))
    commands.on("sg_turs", attention, attention, captured("turs-gone-again"))
    assert luns.ask(commands, "sdc", SECOND).found is Found.GONE


@pytest.mark.parametrize(
    "turs",
    [
        Result((), 0, "", ""),
        Result((), 2, "", "device not ready"),
        Result((), 15, "", "No such device"),
        Result((), 33, "", "timed out"),
        Result((), 6, "", "unit attention, for ever"),
        CommandTimedOut(("sg_turs",), 15),
    ],
)
def test_silence_says_nothing_about_a_lun(turs: Result | Exception) -> None:
    commands = FakeCommands().on("/lib/udev/scsi_id", Result((), 1, "", "")).on("sg_turs", turs)
    assert luns.ask(commands, "sdc", SECOND) == Answer(Found.SILENT)


def test_another_kind_of_identity_is_no_other_lun() -> None:
    """A t10 designator and a NAA one cannot be compared."""
    commands = FakeCommands().on("/lib/udev/scsi_id", "1LIO-ORG_disk\n").on("sg_turs", "")
    assert luns.ask(commands, "sdc", SECOND) == Answer(Found.SILENT)


def test_only_scsi_disks_are_forgotten() -> None:
    commands = FakeCommands().on("sh")
    for name in ("dm-0", "../sda", "sda1", ""):
        with pytest.raises(ValueError, match="no SCSI disk"):
            luns.remove_path(commands, name)
    luns.remove_path(commands, "sdaa")
    (argv,) = commands.changes
    assert argv[-1] == "/sys/block/sdaa/device/delete"
