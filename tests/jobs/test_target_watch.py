"""While a copy has its target, nobody else has it, and it stays what it was."""

from types import SimpleNamespace
from typing import cast

import pytest

from p2vd.jobs import target_watch
from p2vd.jobs.control import TargetChanged, TargetInUse
from p2vd.jobs.job_target import JobLun, JobLv, JobTarget
from p2vd.jobs.services import Services
from p2vd.jobs.target_watch import GLANCES, Glances
from p2vd.model.lvm import Lv, Vg
from p2vd.model.plan import LunTarget
from p2vd.model.size import GIB
from tests.fakes import FakeCommands
from tests.jobs.values import WWID, source

VG = Vg("vg-uuid", "vg_san", 1, 1, 1, 512)
LV = JobLv(VG, Lv("lv-uuid", "erp1", GIB))
LUN = JobLun(source(), LunTarget(WWID, WWID, "mpatha", GIB, 512, "/dev/disk/by-id/x"))
LV_TABLE, MAP_TABLE = "0 2097152 linear 253:1 2048", "0 2097152 multipath 0 0 1 1 round-robin 0 1 1 8:0 1"
OTHER = "36001405ffffffffffffffffffffffffff"
SEEN = TargetInUse("/dev/dm-1", 2)


def host(target: JobTarget, uuid: str = "", opens: int = 1, table: str = "") -> Services:
    """A host on which device-mapper says that of the target; what is left out is as it was."""
    lv = isinstance(target, JobLv)
    commands = FakeCommands().on("dmsetup info", f"{uuid or target.dm_uuid}:{opens}:Active:Writeable:x\n")
    commands.on("dmsetup table", f"{table or (LV_TABLE if lv else MAP_TABLE)}\n")
    return cast(Services, SimpleNamespace(commands=commands))


def look(services: Services, target: JobTarget, opens: int = 1) -> None:
    table = LV_TABLE if isinstance(target, JobLv) else ""
    target_watch.expect_ours(services, target, table, opens)


@pytest.mark.parametrize("target", [LV, LUN])
def test_a_target_that_is_as_it_was_is_ours(target: JobTarget) -> None:
    look(host(target), target)
    look(host(target, opens=0), target, opens=0)


def test_the_table_of_a_volume_is_the_one_that_it_had_when_it_was_opened() -> None:
    assert target_watch.table_of(host(LV), LV) == LV_TABLE
    shrunk = "0 32768 linear 253:1 2048"
    with pytest.raises(TargetChanged, match=f"its device-mapper table is now '{shrunk}'"):
        look(host(LV, table=shrunk), LV)


def test_a_map_gets_another_table_whenever_a_path_comes_or_goes() -> None:
    assert target_watch.table_of(host(LUN), LUN) == ""
    look(host(LUN, table="0 2097152 multipath 0 0 1 1 round-robin 0 2 1 8:0 1 8:16 1"), LUN)


@pytest.mark.parametrize("target", [LV, LUN])
def test_another_device_of_its_name_is_not_the_target(target: JobTarget) -> None:
    with pytest.raises(TargetChanged):
        look(host(target, uuid="LVM-another"), target)


@pytest.mark.parametrize("target", [LV, LUN])
@pytest.mark.parametrize("ours", [0, 1])
def test_one_open_more_than_ours_is_somebody_elses(target: JobTarget, ours: int) -> None:
    with pytest.raises(TargetInUse, match=f"{ours + 1} times in all"):
        look(host(target, opens=ours + 1), target, opens=ours)


def test_the_map_of_a_lun_is_found_whatever_its_name_is() -> None:
    services = host(LUN)
    look(services, LUN)
    asked = cast(FakeCommands, services.commands).queries
    assert [argv[-2:] for argv in asked] == [("-u", LUN.dm_uuid)] * 2


def test_every_path_of_a_lun_that_is_written_is_asked() -> None:
    commands = FakeCommands().on("/lib/udev/scsi_id", WWID).on("sg_turs", "")
    services = cast(Services, SimpleNamespace(commands=commands))
    target_watch.expect_same_lun(services, LUN)
    assert [argv[-1] for argv in commands.queries] == ["/dev/sda", "/dev/sdb"]
    commands.on("/lib/udev/scsi_id -g -u -d /dev/sdb", OTHER)
    with pytest.raises(TargetChanged, match=f"its path sdb leads to {OTHER} by now"):
        target_watch.expect_same_lun(services, LUN)
    target_watch.expect_same_lun(services, LV)


def test_who_only_looks_at_it_is_given_time_to_close_it() -> None:
    glances = Glances()
    assert [glances.are_over(SEEN, float(now_s)) for now_s in range(GLANCES + 2)] == [False] * GLANCES + [
        True
    ] * 2


def test_looks_in_quick_succession_are_one() -> None:
    glances = Glances()
    assert not any(glances.are_over(SEEN, now_s / 100) for now_s in range(250))
