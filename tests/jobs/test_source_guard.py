"""The source is set read-only and back: what the kernel says is its own, and nothing else."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from p2vd.jobs import source_guard
from p2vd.jobs.board import Board
from p2vd.jobs.runner import JobRunner
from p2vd.jobs.services import Services
from p2vd.jobs.store import Store
from p2vd.model.disk import Source
from p2vd.model.inventory import Inventory
from p2vd.model.job import Job, Stage
from p2vd.system.command import CommandFailed, Result
from tests.jobs.values import WWID, machine_and_job, scsi_path, source

OTHER = "36001405ffffffffffffffffffffffffff"


class Kernel:
    """Block devices in sysfs, whose flags blockdev sets; `stuck`: those that cannot be opened."""

    def __init__(self, root: Path) -> None:
        self.sysfs = root / "sys"
        self.stuck: set[str] = set()
        self.set: list[str] = []

    def disk(self, name: str, wwid: str = WWID, *, ro: bool = False) -> None:
        self._write(name, "ro", f"{int(ro)}\n")
        self._write(name, "device/wwid", f"naa.{wwid[1:]}\n")

    def map(self, name: str, *paths: str, wwid: str = WWID, ro: bool = False) -> None:
        self._write(name, "ro", f"{int(ro)}\n")
        self._write(name, "dm/uuid", f"mpath-{wwid}\n")
        for path in paths:
            self._write(path, f"holders/{name}", "")

    def remove(self, name: str) -> None:
        (self.sysfs / "class/block" / name).rename(self.sysfs / f"{name}-was")

    def read_only(self) -> set[str]:
        flags = sorted(self.sysfs.glob("class/block/*/ro"))
        return {flag.parent.name for flag in flags if flag.read_text() == "1\n"}

    def query(self, argv: Sequence[str], *, timeout_s: float = 30.0, ok: Sequence[int] = (0,)) -> Result:
        del timeout_s, ok
        program, flag, *devices = argv
        assert program == "blockdev"
        for device in devices:
            name = device.removeprefix("/dev/")
            if name in self.stuck or not (self.sysfs / "class/block" / name).exists():
                raise CommandFailed(tuple(argv), 1, f"blockdev: cannot open {device}")
            self.set.append(f"{flag} {name}")
            self._write(name, "ro", "1\n" if flag == "--setro" else "0\n")
        return Result(tuple(argv), 0, "", "")

    def _write(self, name: str, attribute: str, text: str) -> None:
        path = self.sysfs / "class/block" / name / attribute
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


class Guard:
    """A job whose source is the map dm-0 over sda and sdb."""

    def __init__(self, root: Path) -> None:
        self.kernel = Kernel(root)
        self.seen = (source(),)
        machine, job = machine_and_job()
        self.board = Board(Store(root / "state.db"))
        self.board.add(machine, (job,))
        self.services = cast(
            Services,
            SimpleNamespace(
                board=self.board,
                sysfs=self.kernel.sysfs,
                commands=self.kernel,
                # The daemon has just started: its first look is under way.
                inventory=SimpleNamespace(current=Inventory, scanned_once=lambda: Inventory(self.seen)),
            ),
        )

    @property
    def job(self) -> Job:
        (job,) = self.board.jobs()
        return job

    def noted(self) -> set[str]:
        return {device.removeprefix("/dev/") for device in self.job.source_set_read_only}

    def protect(self, seen: Source | None = None) -> None:
        source_guard.protect(self.services, self.job, seen or source())

    def release(self, seen: Source | None) -> None:
        source_guard.release(self.services, self.job, seen)


@pytest.fixture
def guard(tmp_path: Path) -> Guard:
    guard = Guard(tmp_path)
    guard.kernel.disk("sda")
    guard.kernel.disk("sdb")
    guard.kernel.map("dm-0", "sda", "sdb")
    return guard


def test_the_map_and_its_paths_are_set_read_only_and_back(guard: Guard) -> None:
    guard.protect()
    assert guard.kernel.read_only() == guard.noted() == {"dm-0", "sda", "sdb"}
    guard.release(source())
    assert guard.kernel.read_only() == guard.noted() == set()
    # A map over a read-only path stays read-only.
    assert guard.kernel.set[3:] == ["--setrw sda", "--setrw sdb", "--setrw dm-0"]


def test_what_was_read_only_before_stays_so(guard: Guard) -> None:
    guard.kernel.disk("sdb", ro=True)
    guard.protect()
    assert guard.noted() == {"dm-0", "sda"}
    guard.release(source())
    assert guard.kernel.read_only() == {"sdb"}


def test_a_foreign_device_that_got_the_maps_name_is_left_as_it_is(guard: Guard) -> None:
    guard.kernel.map("dm-0", wwid=OTHER)
    guard.protect()
    assert "dm-0" not in guard.kernel.read_only()
    assert "dm-0" not in guard.noted()


def test_a_foreign_disk_that_got_a_paths_name_is_left_as_it_is(guard: Guard) -> None:
    guard.kernel.disk("sdc", OTHER)
    guard.protect(replace(source(), paths=tuple(map(scsi_path, ("sda", "sdb", "sdc")))))
    assert guard.kernel.read_only() == guard.noted() == {"dm-0", "sda", "sdb"}


def test_a_path_that_no_map_holds_is_known_by_its_own_wwid(guard: Guard) -> None:
    """multipathd left it out; it leads to the disk all the same."""
    guard.kernel.disk("sdc")
    guard.protect(replace(source(), paths=tuple(map(scsi_path, ("sda", "sdb", "sdc")))))
    assert guard.kernel.read_only() == {"dm-0", "sda", "sdb", "sdc"}


def test_a_path_of_the_map_is_its_own_whatever_wwid_sysfs_shows(guard: Guard) -> None:
    """multipathd may be told to take another identifier than the kernel does."""
    guard.kernel.disk("sdb", OTHER)
    guard.protect()
    assert guard.kernel.read_only() == {"dm-0", "sda", "sdb"}


def test_a_path_that_comes_in_mid_job_is_set_read_only_too_and_set_back(guard: Guard) -> None:
    guard.protect()
    guard.kernel.disk("sdc")
    guard.kernel.map("dm-0", "sdc", ro=True)
    more = replace(source(), paths=tuple(map(scsi_path, ("sda", "sdb", "sdc"))))
    guard.protect(more)
    assert guard.kernel.read_only() == guard.noted() == {"dm-0", "sda", "sdb", "sdc"}
    said = list(guard.kernel.set)
    guard.protect(more)
    assert guard.kernel.set == said
    guard.release(more)
    assert guard.kernel.read_only() == set()


def test_what_cannot_be_opened_is_passed_over_and_set_back_once_it_can(guard: Guard) -> None:
    guard.protect()
    guard.kernel.stuck = {"sdb"}
    guard.release(source())
    assert guard.kernel.read_only() == guard.noted() == {"sdb"}
    guard.kernel.stuck = set()
    guard.release(source())
    assert guard.kernel.read_only() == guard.noted() == set()


def test_a_lun_that_no_look_shows_is_set_back_all_the_same(guard: Guard) -> None:
    guard.protect()
    guard.release(None)
    assert guard.kernel.read_only() == guard.noted() == set()


def test_what_is_gone_or_anothers_by_now_is_forgotten(guard: Guard) -> None:
    guard.protect()
    guard.kernel.remove("dm-0")
    guard.kernel.remove("sda")
    guard.kernel.disk("sdb", OTHER, ro=True)
    (guard.kernel.sysfs / "class/block/sdb/holders/dm-0").unlink()
    guard.release(None)
    assert guard.noted() == set()
    assert guard.kernel.read_only() == {"sdb"}


def test_a_disk_without_wwid_is_known_by_its_name_while_it_is_seen(tmp_path: Path) -> None:
    guard = Guard(tmp_path)
    plan = guard.job.plan
    bound = replace(plan.source, id="virtio-A", wwid="")
    guard.board.change(guard.job.uuid, lambda job: replace(job, plan=replace(plan, source=bound)))
    disk = replace(source(), id="virtio-A", wwid="", device="vdb", dm_uuid="", paths=())
    guard.kernel._write("vdb", "ro", "0\n")
    guard.protect(disk)
    assert guard.kernel.read_only() == guard.noted() == {"vdb"}
    guard.release(None)  # it may be another disk of that name
    assert guard.kernel.read_only() == guard.noted() == {"vdb"}
    guard.release(disk)
    assert guard.kernel.read_only() == guard.noted() == set()
    guard.protect(disk)
    guard.release(replace(disk, device="vdc"))
    assert guard.noted() == set()
    assert guard.kernel.read_only() == {"vdb"}


@pytest.mark.parametrize("stage", [Stage.FAILED, Stage.CANCELLED, Stage.PROVEN])
def test_a_job_that_is_over_sets_back_what_it_could_not_as_soon_as_the_host_was_looked_at(
    guard: Guard, stage: Stage
) -> None:
    """Before its first look the daemon knows of no source: that one is gone does not follow."""
    guard.board.change(guard.job.uuid, lambda job: replace(job, stage=stage, finished=stage is Stage.PROVEN))
    guard.protect()
    runner = JobRunner(guard.services, guard.job.uuid, lambda: True, lambda _: None)
    guard.kernel.stuck = {"dm-0"}
    assert runner._do(guard.job)
    assert guard.kernel.read_only() == guard.noted() == {"dm-0"}
    guard.kernel.stuck = set()
    assert runner._do(guard.job)
    assert guard.kernel.read_only() == guard.noted() == set()


def test_a_disk_without_wwid_is_set_back_by_the_first_look(tmp_path: Path) -> None:
    guard = Guard(tmp_path)
    plan = guard.job.plan
    bound = replace(plan.source, id="virtio-A", wwid="")
    guard.board.change(
        guard.job.uuid, lambda job: replace(job, plan=replace(plan, source=bound), stage=Stage.FAILED)
    )
    disk = replace(source(), id="virtio-A", wwid="", device="vdb", dm_uuid="", paths=())
    guard.kernel._write("vdb", "ro", "0\n")
    guard.protect(disk)
    guard.seen = (disk,)
    assert JobRunner(guard.services, guard.job.uuid, lambda: True, lambda _: None)._do(guard.job)
    assert guard.kernel.read_only() == guard.noted() == set()


def test_an_image_is_nothing_of_the_kernels(guard: Guard) -> None:
    guard.protect(replace(source(), device="", paths=()))
    assert guard.kernel.set == []
