"""What each copy is granted as jobs begin, end and are held; by a clock that the test sets."""

from dataclasses import replace
from pathlib import Path

import pytest

from p2vd.jobs.bandwidth import Bandwidth
from p2vd.jobs.board import Board
from p2vd.jobs.events import Event, JobChanged
from p2vd.jobs.store import Store
from p2vd.jobs.transitions import JobEvent
from p2vd.model.copying import Progress, Verify
from p2vd.model.errors import InvalidArgument
from p2vd.model.job import Hold, Stage
from p2vd.model.size import MIB
from tests.fakes import StoppedClock
from tests.jobs.values import machine_and_job

TOTAL = 120 * MIB


class Lab:
    def __init__(self, total: int = TOTAL) -> None:
        self.board = Board(Store(Path(":memory:")))
        self.clock = StoppedClock()
        self.bandwidth = Bandwidth(total, self.clock)
        self.events: list[Event] = []
        self.bandwidth.watch(self.board)
        self.board.subscribe(self.events.append)

    def add(
        self, name: str, limit: int = 0, stage: Stage = Stage.COPYING, verify: Verify = Verify.READ_BACK
    ) -> None:
        machine, job = machine_and_job()
        copy = replace(job.plan.copy, bandwidth_bytes_per_s=limit, verify=verify)
        plan = replace(job.plan, copy=copy)
        job = replace(job, uuid=name, machine_uuid=f"m-{name}", plan=plan, stage=stage)
        self.board.add(replace(machine, uuid=job.machine_uuid, jobs=(name,)), (job,))

    def granted(self, *names: str) -> list[int]:
        """In MiB a second."""
        return [self.bandwidth.granted(self.board.job(name)).bytes_per_s // MIB for name in names]

    def reads(self, name: str, rate: int) -> None:
        self.board.progress(name, Progress(rate_bytes_per_s=rate))


@pytest.fixture
def lab() -> Lab:
    return Lab()


def test_shares_follow_the_jobs_that_copy(lab: Lab) -> None:
    lab.add("1")
    assert lab.granted("1") == [120]
    lab.add("2")
    lab.add("3", limit=20 * MIB)
    assert lab.granted("1", "2", "3") == [50, 50, 20]
    lab.board.advance("1", JobEvent.FAIL)
    assert lab.granted("2", "3") == [100, 20]


@pytest.mark.parametrize("hold", list(Hold))
def test_a_job_that_is_held_leaves_its_share_until_it_goes_on(lab: Lab, hold: Hold) -> None:
    lab.add("1")
    lab.add("2")
    lab.board.hold("1", hold)
    assert lab.granted("2") == [120]
    lab.board.release("1", hold)
    assert lab.granted("1", "2") == [60, 60]


@pytest.mark.parametrize("stage", [Stage.PLANNED, Stage.PROVISIONING])
def test_a_job_that_does_not_copy_yet_takes_nothing(lab: Lab, stage: Stage) -> None:
    lab.add("1")
    lab.add("2", stage=stage)
    assert lab.granted("1") == [120]


def test_a_job_has_its_share_before_anybody_hears_that_it_copies(lab: Lab) -> None:
    """Its worker is started after that."""
    lab.add("1")
    lab.add("2", stage=Stage.PROVISIONING)
    lab.board.advance("2", JobEvent.PROVISIONED)
    assert lab.granted("1", "2") == [60, 60]


def test_a_job_whose_grant_changed_is_news(lab: Lab) -> None:
    lab.add("1")
    lab.events.clear()
    lab.add("2")
    assert JobChanged("1") in lab.events


def test_the_total_changes_while_copies_run(lab: Lab) -> None:
    lab.add("1")
    lab.add("2")
    lab.bandwidth.set_total(60 * MIB)
    assert (lab.bandwidth.total, lab.granted("1", "2")) == (60 * MIB, [30, 30])
    lab.bandwidth.set_total(0)
    assert lab.granted("1", "2") == [0, 0]


@pytest.mark.parametrize("total", [-1, 1, MIB - 1, 1 << 60])
def test_a_total_that_makes_no_sense_changes_nothing(lab: Lab, total: int) -> None:
    with pytest.raises(InvalidArgument, match="bytes_per_second"):
        lab.bandwidth.set_total(total)
    assert lab.bandwidth.total == TOTAL


def test_a_limit_of_one_job_outlasts_its_worker_and_a_failure(lab: Lab) -> None:
    lab.add("1", limit=10 * MIB)
    lab.add("2")
    lab.bandwidth.limit(lab.board.job("1"), 30 * MIB)
    assert lab.granted("1", "2") == [30, 90]
    lab.board.advance("1", JobEvent.FAIL)
    lab.board.advance("1", JobEvent.RETRY)
    assert lab.granted("1", "2") == [30, 90]
    lab.bandwidth.limit(lab.board.job("1"), 0)
    assert lab.granted("1", "2") == [60, 60]


def test_without_a_total_the_limits_of_the_jobs_count() -> None:
    lab = Lab(total=0)
    lab.add("1", limit=10 * MIB)
    lab.add("2")
    assert lab.granted("1", "2") == [10, 0]
    lab.bandwidth.limit(lab.board.job("2"), 5 * MIB)
    assert lab.granted("1", "2") == [10, 5]


def test_what_a_slow_copy_leaves_is_given_away_once_that_is_seen(lab: Lab) -> None:
    lab.add("slow")
    lab.add("2")
    lab.reads("slow", 20 * MIB)
    lab.reads("2", 60 * MIB)
    assert lab.granted("slow", "2") == [60, 60]
    lab.clock.now_s += 13
    lab.reads("2", 60 * MIB)
    assert lab.granted("slow", "2") == [25, 95]
    assert lab.bandwidth.granted(lab.board.job("slow")).reason.startswith("It reads less than its share")


def test_a_copy_that_becomes_faster_has_its_share_again(lab: Lab) -> None:
    lab.add("1")
    lab.add("2")
    lab.reads("1", 20 * MIB)
    lab.clock.now_s += 13
    lab.reads("2", 60 * MIB)
    assert lab.granted("1", "2") == [25, 95]
    lab.clock.now_s += 13
    lab.reads("2", 95 * MIB)
    lab.reads("1", 25 * MIB)
    lab.clock.now_s += 5
    lab.reads("1", 25 * MIB)
    assert lab.granted("1", "2") == [60, 60]


def test_progress_in_between_computes_nothing(lab: Lab) -> None:
    lab.add("1")
    lab.add("2")
    lab.clock.now_s += 13
    lab.reads("2", 60 * MIB)
    before = lab.granted("1", "2")
    lab.clock.now_s += 4
    lab.reads("1", 60 * MIB)
    assert lab.granted("1", "2") == before


def test_a_job_that_reads_back_its_target_needs_little_of_the_source(lab: Lab) -> None:
    lab.add("reads back")
    lab.add("2")
    lab.board.advance("reads back", JobEvent.COPIED)
    assert lab.granted("reads back", "2") == [15, 105]
    lab.add("reads both", verify=Verify.BOTH)
    lab.board.advance("reads both", JobEvent.COPIED)
    assert lab.granted("reads back", "2", "reads both") == [10, 55, 55]


def test_jobs_that_were_at_work_when_the_daemon_stopped_share_from_the_start() -> None:
    lab = Lab()
    lab.add("1")
    lab.add("2")
    again = Bandwidth(TOTAL, lab.clock)
    again.watch(lab.board)
    assert [again.granted(lab.board.job(name)).bytes_per_s // MIB for name in "12"] == [60, 60]
