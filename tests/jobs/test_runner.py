"""What a job's thread makes of a step's end."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from p2vd.jobs.board import Board
from p2vd.jobs.runner import JobRunner
from p2vd.jobs.services import Services
from p2vd.jobs.store import Store
from p2vd.jobs.transitions import JobEvent
from p2vd.model.errors import P2vdError, Refused
from p2vd.model.job import Activity, Job, Stage
from p2vd.provisioning.errors import VgStalled
from tests.jobs.values import machine_and_job


class Scripted(JobRunner):
    """A runner whose step does as the test says; it waits for nothing."""

    def __init__(self, board: Board, uuid: str, error: Exception, *, cancelled: bool) -> None:
        super().__init__(cast(Services, SimpleNamespace(board=board)), uuid, lambda: True, lambda _: None)
        self.board, self.uuid, self.error, self.cancelled = board, uuid, error, cancelled

    def _do(self, job: Job) -> bool:
        self.signals.nudge()
        if self.cancelled:
            self.board.advance(self.uuid, JobEvent.CANCEL)
            self.board.advance(self.uuid, JobEvent.PROVEN)
        raise self.error


class Ending(JobRunner):
    """A runner with nothing left to do, which writes down what it does."""

    def __init__(self, board: Board, uuid: str) -> None:
        services = cast(Services, SimpleNamespace(board=board))
        super().__init__(services, uuid, self.may_end, lambda _: self.did.append("end"))
        self.did: list[str] = []

    def may_end(self) -> bool:
        self.did.append("retire")
        return not self.signals.take_nudge()

    def _do(self, job: Job) -> bool:
        self.did.append("step")
        return True


def step(tmp_path: Path, error: Exception, *, cancelled: bool = False) -> tuple[Job, Activity]:
    machine, job = machine_and_job()
    board = Board(Store(tmp_path / "state.db"))
    board.add(machine, (replace(job, stage=Stage.COPYING),))
    assert Scripted(board, job.uuid, error, cancelled=cancelled)._step(board.job(job.uuid)) is False
    return board.job(job.uuid), board.activity(job.uuid)[0]


def test_a_copy_that_ends_while_it_is_cancelled_stays_cancelling(tmp_path: Path) -> None:
    """The worker's good end came behind the cancel: proven is illegal by then, and so is failed."""
    job, _ = step(tmp_path, P2vdError(), cancelled=True)
    assert job.stage is Stage.CANCELLING


def test_an_error_of_the_step_fails_the_job_with_its_name(tmp_path: Path) -> None:
    job, _ = step(tmp_path, Refused("Source x", ()))
    assert job.stage is Stage.FAILED
    assert job.error is not None
    assert job.error.name == "Refused"


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        TimeoutError("the scan"),
        VgStalled.by("vg_san", "another-create"),
    ],
)
def test_what_the_host_lacks_for_now_is_tried_again(tmp_path: Path, error: Exception) -> None:
    job, activity = step(tmp_path, error)
    assert (job.stage, activity) == (Stage.COPYING, Activity.STALLED)


def test_what_was_wanted_before_the_last_look_does_not_repeat_the_step(tmp_path: Path) -> None:
    """Of a proven job that would be a second attempt at registering its machine, unasked.

    And it retires last of all: the daemon's stop waits for no runner that has, and closes the store.
    """
    machine, job = machine_and_job()
    board = Board(Store(tmp_path / "state.db"))
    board.add(machine, (job,))
    runner = Ending(board, job.uuid)
    runner.signals.nudge()
    runner.start()
    assert runner.join(60.0)
    assert runner.did == ["step", "end", "retire"]
