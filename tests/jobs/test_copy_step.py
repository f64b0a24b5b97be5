"""What the end of a worker means for its job."""

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from p2vd.copying.protocol import Stalled
from p2vd.copying.terms import Failure, Report
from p2vd.jobs import copy_step, source_guard, target_watch
from p2vd.jobs.board import Board
from p2vd.jobs.control import MustWait
from p2vd.jobs.copy_step import _conclude, _Copy
from p2vd.jobs.job_target import JobTarget
from p2vd.jobs.path_watch import PathWatch
from p2vd.jobs.services import Services
from p2vd.jobs.session import Opened
from p2vd.jobs.signals import Signals
from p2vd.jobs.store import Store
from p2vd.model.copying import Progress
from p2vd.model.disk import Source
from p2vd.model.job import Activity, Hold, Stage
from p2vd.model.nbd import NbdExport
from p2vd.system.command import CommandTimedOut
from tests.fakes import FakeCommands
from tests.jobs.values import machine_and_job, source

KILLED = -9
NO_PATHS = PathWatch(FakeCommands(), (), (), 0.0)


class Hasty(Signals):
    """Waits for nothing."""

    def pause(self, seconds: float | None) -> None:
        del seconds


@pytest.fixture
def board(tmp_path: Path) -> Board:
    machine, job = machine_and_job()
    board = Board(Store(tmp_path / "state.db"))
    board.add(machine, (replace(job, stage=Stage.COPYING),))
    return board


def end(board: Board, *committed_bytes: int) -> Stage:
    """Workers of the one job are killed one after another, each after it had committed so much in all."""
    (job,) = board.jobs()
    services = cast(Services, SimpleNamespace(board=board))
    for committed in committed_bytes:
        now = board.job(job.uuid)
        attempt = _Copy(now, cast(Source, "the source"), cast(JobTarget, "the target"), "table", NO_PATHS)
        attempt.committed_bytes = committed
        _conclude(services, Hasty(), attempt, KILLED)
        board.progress(job.uuid, replace(now.progress, committed_bytes=committed))
    return board.job(job.uuid).stage


def test_three_workers_in_a_row_without_progress_fail_the_job(board: Board) -> None:
    assert end(board, 0, 0) is Stage.COPYING
    assert end(board, 0) is Stage.FAILED


def test_a_copy_that_lost_its_export_is_held_and_the_export_asked(board: Board) -> None:
    (job,) = board.jobs()
    doubted: list[str] = []
    exports = SimpleNamespace(doubt=doubted.append)
    export = replace(source(), id="nbd://a:10809/", export=NbdExport("nbd://a/"))
    attempt = _Copy(job, export, cast(JobTarget, "the target"), "table", NO_PATHS)
    attempt.report = Report(2, job.progress, failure=Failure("ConnectionLost", "nbd://a/ was lost."))
    services = cast(Services, SimpleNamespace(board=board, exports=exports))
    with pytest.raises(MustWait, match="was lost") as raised:
        _conclude(services, Hasty(), attempt, 2)
    assert (raised.value.hold, doubted) == (Hold.SOURCE_ABSENT, ["nbd://a:10809/"])
    assert board.job(job.uuid).stage is Stage.COPYING


def test_one_that_made_progress_is_not_counted(board: Board) -> None:
    assert end(board, 0, 0, 100, 100, 100) is Stage.COPYING
    assert end(board, 100) is Stage.FAILED


@pytest.mark.parametrize(
    ("failure", "hold"),
    [
        ("PoolFull", Hold.POOL),
        ("CheckpointUnwritable", Hold.CHECKPOINT_STORE),
        ("ConnectionLost", Hold.SOURCE_ABSENT),
        ("TargetLocked", Hold.OLD_WORKER),
    ],
)
def test_what_ends_by_itself_holds_the_job(board: Board, failure: str, hold: Hold) -> None:
    (job,) = board.jobs()
    services = cast(Services, SimpleNamespace(board=board))
    attempt = _Copy(job, source(), cast(JobTarget, "the target"), "table", NO_PATHS)
    attempt.report = Report(2, Progress(), failure=Failure(failure, "It says why."))
    with pytest.raises(MustWait, match="It says why") as held:
        _conclude(services, Hasty(), attempt, 2)
    assert held.value.hold is hold
    assert board.job(job.uuid).stage is Stage.COPYING


def test_devices_are_not_held_open_where_no_worker_starts(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exclusive open of the daemon's own would refuse every attempt after this one."""
    (job,) = board.jobs()
    opened = [os.open(tmp_path, os.O_RDONLY), os.open(tmp_path, os.O_RDONLY)]

    def hangs(*_: object) -> str:
        raise CommandTimedOut(("dmsetup", "table"), 30.0)

    monkeypatch.setattr(copy_step, "open_devices", lambda *_: Opened(opened))
    guarded: list[object] = []
    monkeypatch.setattr(source_guard, "protect", lambda *told: guarded.append(told[-1]))
    monkeypatch.setattr(target_watch, "table_of", hangs)
    services = cast(Services, SimpleNamespace(board=board))
    with pytest.raises(CommandTimedOut):
        copy_step._begin(services, Hasty(), job, source(), cast(JobTarget, "the target"))
    for fd in opened:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    assert guarded == [source()]  # it was open, and no worker had begun


@pytest.mark.parametrize(
    ("operation", "says"),
    [
        ("read", "read of mpatha at offset 512 outstanding since"),
        ("write", "write of /dev/vg_san/erp1 at offset 512 outstanding since"),
        ("commit", "commit of the checkpoint in /var/lib/p2vd/jobs/J outstanding since"),
    ],
)
def test_what_hangs_is_named(board: Board, operation: str, says: str) -> None:
    (job,) = board.jobs()
    services = cast(
        Services, SimpleNamespace(board=board, job_directory=lambda _: Path("/var/lib/p2vd/jobs/J"))
    )
    target = cast(JobTarget, SimpleNamespace(devnode="/dev/vg_san/erp1"))
    attempt = _Copy(job, cast(Source, "mpatha"), target, "table", NO_PATHS)
    copy_step._note_stall(services, attempt, Stalled(operation, 512, 1))
    activity, why = board.activity(job.uuid)
    assert activity is Activity.STALLED
    assert why.startswith(says)
