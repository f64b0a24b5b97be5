"""What is asked of a job reaches it, also in the moment in which its runner ends."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from p2vd.jobs.board import Board
from p2vd.jobs.crew import Crew
from p2vd.jobs.services import Services
from p2vd.jobs.store import Store
from p2vd.model.inventory import Inventory
from p2vd.model.job import Job, Machine, Stage
from tests.jobs.values import machine_and_job

LONG_S = 60.0


class LastLook:
    """The inventory, which a runner reads in the last step of a failed job that has its source to set back.

    Then something is asked.
    """

    def __init__(self) -> None:
        self.ask: Callable[[], None] | None = None

    def scanned_once(self) -> Inventory:
        ask, self.ask = self.ask, None
        if ask is not None:
            ask()
        return Inventory()


class Lab:
    def __init__(self, tmp_path: Path) -> None:
        self.machine: Machine
        self.job: Job
        self.machine, self.job = machine_and_job()
        self.board = Board(Store(tmp_path / "state.db"))
        failed = replace(self.job, stage=Stage.FAILED, failed_stage=Stage.COPYING)
        self.board.add(self.machine, (replace(failed, source_set_read_only=("/dev/dm-0",)),))
        self.look = LastLook()
        self.ends = threading.Semaphore(0)
        services = cast(
            Services, SimpleNamespace(board=self.board, inventory=self.look, sysfs=tmp_path / "sys")
        )
        self.crew = Crew(services, lambda _: self.ends.release())

    def cancel(self) -> None:
        self.board.cancel(self.job.uuid, keep_target=True)
        self.crew.nudge(self.job.uuid)

    def wait_cancelled(self) -> None:
        """Wait for the end of each look until it is; a runner that would never look again fails the test."""
        while self.board.job(self.job.uuid).stage is not Stage.CANCELLED:
            assert self.ends.acquire(timeout=LONG_S), self.board.job(self.job.uuid).stage


def test_a_cancel_in_the_last_step_of_a_failed_job_is_carried_out(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.look.ask = lab.cancel
    lab.crew.nudge(lab.job.uuid)
    lab.wait_cancelled()


def test_a_cancel_after_the_end_is_carried_out_by_another_runner(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.crew.nudge(lab.job.uuid)
    assert lab.ends.acquire(timeout=LONG_S)
    assert lab.board.job(lab.job.uuid).stage is Stage.FAILED
    lab.cancel()
    lab.wait_cancelled()


def test_cancels_at_any_moment_of_the_end_are_carried_out(tmp_path: Path) -> None:
    """The threads' own timing finds the moments that no hook does."""
    for number in range(200):
        directory = tmp_path / str(number)
        directory.mkdir()
        lab = Lab(directory)
        lab.crew.nudge(lab.job.uuid)
        lab.cancel()
        lab.wait_cancelled()


def test_after_a_stop_no_runner_is_started(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.crew.stop(0.0)
    lab.cancel()
    assert not lab.ends.acquire(timeout=0.2)
    assert lab.board.job(lab.job.uuid).stage is Stage.CANCELLING
