"""A job's file: the daemon dies before and after every step and comes back, and nothing is taken twice."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from p2vd.jobs import file_target
from p2vd.jobs.board import Board
from p2vd.jobs.control import MustWait
from p2vd.jobs.job_target import JobFile
from p2vd.jobs.services import Services
from p2vd.jobs.store import Store
from p2vd.jobs.targets import find_target
from p2vd.model.codec import from_json, to_json
from p2vd.model.forms import TargetFormat
from p2vd.model.inventory import Inventory
from p2vd.model.job import Hold, Job, Stage
from p2vd.model.plan import FileTarget, LvTarget
from p2vd.model.size import MIB
from p2vd.provisioning.errors import FileNameTaken, FileNotOurs
from p2vd.provisioning.files import Files, temporary_path
from p2vd.system import image_file
from p2vd.system.command import Result, SystemCommands
from tests.jobs.values import machine_and_job


class Crash(BaseException):
    """The daemon is gone at this line."""


class Dying(SystemCommands):
    """The steps of files, in this process; at the `fatal`-th passage, before or after a step, all ends."""

    def __init__(self, fatal: int = -1) -> None:
        super().__init__()
        self.fatal = fatal
        self.passed = 0

    def query(self, argv: Sequence[str], *, timeout_s: float = 30.0, ok: Sequence[int] = (0,)) -> Result:
        self._pass()
        text = json.dumps(image_file.answer(json.loads(argv[-1])))
        self._pass()
        return Result(tuple(argv), 0, text, "")

    def _pass(self) -> None:
        self.passed += 1
        if self.passed - 1 == self.fatal:
            raise Crash


class Desk:
    """A daemon with one job, whose store outlives it."""

    def __init__(self, directory: Path, commands: SystemCommands) -> None:
        self.images = directory / "images"
        self.target = FileTarget(str(self.images), "erp1.raw", TargetFormat.RAW, 8 * MIB)
        self.path = directory / "state.db"
        if not self.path.exists():
            self.images.mkdir()
            machine, job = machine_and_job()
            store = Store(self.path)
            store.add(machine, (replace(job, plan=replace(job.plan, target=self.target)),))
            store.close()
        self.board = Board(Store(self.path))
        self.files = Files(commands)
        self.services = cast(
            Services,
            SimpleNamespace(
                board=self.board, image_files=self.files, inventory=SimpleNamespace(current=Inventory)
            ),
        )

    @property
    def job(self) -> Job:
        (job,) = self.board.jobs()
        return job

    @property
    def temporary(self) -> Path:
        return Path(temporary_path(self.target, self.job.uuid))

    def names(self) -> list[str]:
        return sorted(path.name for path in self.images.iterdir())


def make(desk: Desk) -> None:
    file_target.make(desk.services, desk.job, desk.target)


def finish(desk: Desk) -> None:
    file_target.finish(desk.services, desk.job, desk.target)


def remove(desk: Desk) -> None:
    file_target.remove(desk.services, desk.job, desk.target)


def survive(tmp_path: Path, step: Callable[[Desk], None]) -> Desk:
    """Do a step with a death at each of its gaps in turn, and a new daemon after each."""
    for fatal in range(100):
        commands = Dying(fatal)
        desk = Desk(tmp_path, commands)
        try:
            step(desk)
        except Crash:
            continue
        commands.fatal = -1
        return desk
    raise AssertionError("it never came to its end")


def test_one_file_is_made_whenever_the_daemon_dies(tmp_path: Path) -> None:
    desk = survive(tmp_path, make)
    assert desk.names() == [desk.temporary.name]
    found = find_target(desk.services, desk.job)
    assert isinstance(found, JobFile)
    assert (found.path, found.file_id) == (str(desk.temporary), desk.job.target_file_id)
    assert desk.temporary.stat().st_size == 8 * MIB


def test_it_gets_its_name_whenever_the_daemon_dies(tmp_path: Path) -> None:
    make(Desk(tmp_path, Dying()))
    desk = survive(tmp_path, finish)
    assert desk.names() == ["erp1.raw"]
    found = find_target(desk.services, desk.job)
    assert found.devnode == desk.target.path
    finish(desk)


@pytest.mark.parametrize("proven", [False, True])
def test_it_is_removed_whenever_the_daemon_dies(tmp_path: Path, proven: bool) -> None:
    first = Desk(tmp_path, Dying())
    make(first)
    if proven:
        finish(first)
    (first.images / "another").touch()
    assert survive(tmp_path, remove).names() == ["another"]


def test_a_job_that_made_nothing_removes_nothing(tmp_path: Path) -> None:
    desk = Desk(tmp_path, Dying())
    (desk.images / "erp1.raw").touch()
    remove(desk)
    assert desk.names() == ["erp1.raw"]


def test_a_file_with_data_that_the_job_does_not_know_is_not_taken(tmp_path: Path) -> None:
    desk = Desk(tmp_path, Dying())
    desk.temporary.write_text("somebody's")
    with pytest.raises(FileNotOurs):
        make(desk)
    with pytest.raises(FileNotOurs):
        remove(desk)
    assert desk.temporary.read_text() == "somebody's"


def test_a_name_that_is_taken_meanwhile_is_told(tmp_path: Path) -> None:
    desk = Desk(tmp_path, Dying())
    make(desk)
    (desk.images / "erp1.raw").write_text("somebody's")
    with pytest.raises(FileNameTaken):
        finish(desk)
    assert (desk.images / "erp1.raw").read_text() == "somebody's"


def test_a_file_that_is_not_there_may_be_unmounted(tmp_path: Path) -> None:
    desk = Desk(tmp_path, Dying())
    make(desk)
    desk.images.rename(tmp_path / "elsewhere")
    with pytest.raises(MustWait) as wait:
        find_target(desk.services, desk.job)
    assert wait.value.hold is Hold.TARGET_ABSENT
    with pytest.raises(MustWait, match="cannot be used"):
        remove(desk)


def test_a_directory_must_be_on_the_mount_that_the_policy_names(tmp_path: Path) -> None:
    desk = Desk(tmp_path, Dying())
    target = replace(desk.target, mount=str(desk.images))
    with pytest.raises(MustWait, match=f"nothing is mounted at {desk.images}"):
        file_target.expect_mounted(desk.services, target)
    file_target.expect_mounted(desk.services, desk.target)


def test_a_target_without_a_kind_is_a_volume() -> None:
    """So the store was before there were kinds."""
    _, job = machine_and_job()
    text = to_json(replace(job, stage=Stage.PROVEN)).replace('"kind":"lv",', "")
    assert '"kind"' not in text
    read = from_json(Job, text)
    assert read == replace(job, stage=Stage.PROVEN)
    assert isinstance(read.plan.target, LvTarget)
