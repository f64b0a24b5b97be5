"""Who answers at a path, by what scsi_id and sg_turs of Debian 12 said."""

from dataclasses import replace

import pytest

from p2vd.discovery import luns
from p2vd.discovery.luns import Answer, Found
from p2vd.model.disk import Source
from p2vd.system.command import CommandNotStarted, CommandTimedOut, Result
from tests.fakes import FakeCommands
from tests.iscsi_host import CAPTURED, captured
from tests.jobs.values import scsi_path, source

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


# ---- maps, all or none ---------------------------------------------------------------------------

NO_FORK = CommandNotStarted(("multipath",), 0.0, "Resource temporarily unavailable")
IN_USE = Result((), 1, "", "mpathc: map in use")


def maps() -> list[Source]:
    return [replace(source(), name=f"mpath{name}", paths=(scsi_path(f"sd{name}x"),)) for name in "abc"]


def test_maps_that_are_free_are_flushed() -> None:
    commands = FakeCommands().on("multipath -f")
    assert luns.flush_all(commands, maps()) is None
    assert [argv[2] for argv in commands.changes] == ["mpatha", "mpathb", "mpathc"]


@pytest.mark.parametrize("stays", [IN_USE, NO_FORK], ids=["in use", "no process left"])
@pytest.mark.parametrize(
    "made",
    [NO_FORK, CommandTimedOut(("multipath",), 30.0), IN_USE, ""],
    ids=["nor can it be begun", "no answer", "it fails", "it is made"],
)
def test_where_one_map_stays_each_other_is_made_again(
    stays: Result | Exception, made: Result | Exception | str, caplog: pytest.LogCaptureFixture
) -> None:
    """The host that cannot begin the flush cannot begin this either: none kept the next from its turn."""
    commands = FakeCommands().on("multipath -f").on("multipath -f mpathc", stays)
    commands.on("multipath -v1 /dev/sdax", made).on("multipath -v1 /dev/sdbx")
    left = luns.flush_all(commands, maps())
    assert left is not None
    assert left[0].name == "mpathc"
    assert left[1] is NO_FORK if stays is NO_FORK else "map in use" in str(left[1])
    assert [argv[2] for argv in commands.changes[3:]] == ["/dev/sdax", "/dev/sdbx"]
    assert ("make it: multipath -v1 /dev/sdax" in caplog.text) is (made != "")
