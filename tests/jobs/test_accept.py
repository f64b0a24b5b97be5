"""An accepted machine: its sources leave this host, all of them or none, and nothing else does."""

from dataclasses import replace
from pathlib import Path

import pytest

from p2vd.model.errors import Reason
from p2vd.model.job import Caller, Machine, MachineState, Stage
from p2vd.system.command import CommandNotStarted
from tests.jobs.machine_lab import MACHINE, MachineLab, lun, settle, wwid

S = MachineState
WHO = Caller(1000)


def accept(lab: MachineLab) -> Machine:
    settle(lab, lambda: lab.desk.accept(MACHINE, WHO), S.ACCEPTED, S.REGISTERED)
    return lab.machine


def test_accepting_flushes_every_map_then_deletes_the_paths_and_names_the_wwids(tmp_path: Path) -> None:
    lab = MachineLab(tmp_path, disks=2, state=S.REGISTERED)
    machine = accept(lab)
    assert machine.state is S.ACCEPTED
    assert machine.unmap == (wwid(0), wwid(1))
    assert lab.array.names() == [
        "multipath -f mpatha",
        "multipath -f mpathb",
        *("forget sdax", "forget sday", "forget sdbx", "forget sdby"),
    ]
    assert lab.array.sources == {}
    assert lab.released == [wwid(0), wwid(1)]
    assert list(lab.hypervisor.domains) == [MACHINE]


def test_other_disks_of_the_host_stay(tmp_path: Path) -> None:
    lab = MachineLab(tmp_path, disks=2, state=S.REGISTERED)
    lab.array.attach(lun(7))
    accept(lab)
    assert list(lab.array.sources) == [wwid(7)]


def in_use(lab: MachineLab, how: str) -> None:
    disk = lab.array.sources[wwid(1)]
    if how == "open":
        lab.array.opens["mpathb"] = 1
    elif how == "mounted":
        lab.array.sources[disk.id] = replace(disk, reasons=(Reason("mounted", "It is mounted on /mnt."),))
    else:
        _, job, _ = lab.jobs
        other = replace(job, uuid="other", machine_uuid="other", stage=Stage.COPYING)
        lab.store.add(Machine("other", "erp2", jobs=("other",)), (other,))


@pytest.mark.parametrize("how", ["open", "mounted", "another job"])
def test_a_source_that_somebody_uses_keeps_all_of_them(tmp_path: Path, how: str) -> None:
    lab = MachineLab(tmp_path, state=S.REGISTERED)
    in_use(lab, how)
    machine = accept(lab)
    assert (machine.state, machine.unmap) == (S.REGISTERED, ())
    assert machine.error is not None
    assert machine.error.name == "SourcesInUse"
    assert wwid(1) in machine.error.message or "mounted on /mnt" in machine.error.message
    assert lab.array.changes == []


def test_a_map_that_multipath_does_not_give_up_has_the_others_made_again(tmp_path: Path) -> None:
    """Somebody opened it after it was looked at."""
    lab = MachineLab(tmp_path, disks=2, state=S.REGISTERED)
    lab.array.replace("dmsetup info", "0:mpatha\n0:mpathb\n")
    lab.array.opens["mpathb"] = 1
    machine = accept(lab)
    assert machine.state is S.REGISTERED
    assert machine.error is not None
    assert "map in use" in machine.error.message
    assert lab.array.names() == ["multipath -f mpatha", "multipath -f mpathb", "multipath -v1 /dev/sdax"]
    assert all(disk.dm_uuid for disk in lab.array.sources.values())


@pytest.mark.parametrize("makes", [True, False], ids=["the other is made again", "nor can the other be made"])
def test_a_host_without_a_process_left_is_waited_for(tmp_path: Path, makes: bool) -> None:
    """It is no use of the sources: what was flushed is made again, and the machine is accepted later."""
    lab = MachineLab(tmp_path, disks=2, state=S.REGISTERED)
    lack = CommandNotStarted(("multipath",), 0.0, "Resource temporarily unavailable")
    lab.array.on("multipath -f mpathb", lack, lab.array._multipath)
    if not makes:
        lab.array.on("multipath -v1", lack)
    machine = accept(lab)
    assert (machine.state, machine.unmap) == (S.ACCEPTED, (wwid(0), wwid(1)))
    assert lab.array.names()[:3] == ["multipath -f mpatha", "multipath -f mpathb", "multipath -v1 /dev/sdax"]
    assert ("multipath -f mpatha" in lab.array.names()[3:]) is makes
    assert lab.array.sources == {}


def test_a_path_that_leads_to_another_lun_is_never_deleted(tmp_path: Path) -> None:
    lab = MachineLab(tmp_path, disks=2, state=S.REGISTERED)
    lab.array.replace("/lib/udev/scsi_id -g -u -d /dev/sdby", f"{wwid(9)}\n").on("sg_turs", "")
    machine = accept(lab)
    assert machine.state is S.REGISTERED
    assert machine.error is not None
    assert machine.error.name == "PathElsewhere"
    assert lab.array.changes == []


def test_a_source_that_comes_back_is_not_to_be_unmapped_yet(tmp_path: Path) -> None:
    lab = MachineLab(tmp_path, disks=1, state=S.REGISTERED)
    lab.array.comes_back = True
    machine = accept(lab)
    assert (machine.state, machine.unmap) == (S.REGISTERED, ())
    assert machine.error is not None
    assert machine.error.name == "SourcesStay"
    lab.array.comes_back = False
    lab.array.sources.clear()
    lab.boot()
    assert accept(lab).unmap == (wwid(0),)


def test_a_source_that_is_away_already_may_be_unmapped(tmp_path: Path) -> None:
    lab = MachineLab(tmp_path, disks=1, state=S.REGISTERED)
    lab.array.sources.clear()
    machine = accept(lab)
    assert (machine.state, machine.unmap, lab.array.changes) == (S.ACCEPTED, (wwid(0),), [])


def test_a_local_disk_is_no_lun_of_an_array(tmp_path: Path) -> None:
    lab = MachineLab(tmp_path, disks=1, state=S.REGISTERED)
    (job,) = lab.jobs
    local = replace(job.plan.source, transport=job.plan.source.transport.__class__.LOCAL)
    lab.change(0, plan=replace(job.plan, source=local))
    machine = accept(lab)
    assert (machine.state, machine.unmap, lab.array.changes) == (S.ACCEPTED, (), [])
    assert lab.array.sources
