"""What is measured on copies is kept durably, and tells what plans take; by a clock that the test sets."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from p2vd.jobs.bandwidth import Bandwidth
from p2vd.jobs.board import Board
from p2vd.jobs.rates import Rates
from p2vd.jobs.services import Services
from p2vd.jobs.store import Store
from p2vd.jobs.transitions import JobEvent
from p2vd.model.copying import Progress
from p2vd.model.inventory import Inventory
from p2vd.model.job import Activity, Hold, Stage
from p2vd.model.rates import CopyRate
from p2vd.model.size import MIB
from tests.fakes import StoppedClock
from tests.jobs.values import IQN, machine_and_job, plan, source


class Lab:
    """One job that copies; `copy` lets it, for so many seconds at so many MiB a second."""

    def __init__(self, path: Path, total: int = 0) -> None:
        self.store = Store(path)
        self.board, self.clock = Board(self.store), StoppedClock()
        self.bandwidth = Bandwidth(total, self.clock)
        services = SimpleNamespace(
            store=self.store,
            board=self.board,
            bandwidth=self.bandwidth,
            clock=self.clock,
            inventory=SimpleNamespace(current=lambda: Inventory((source(),))),
        )
        self.rates = Rates(cast(Services, services))
        self.board.subscribe(self.rates.hear)
        self.bandwidth.watch(self.board)
        machine, job = machine_and_job()
        self.uuid = job.uuid
        if not self.board.machines():
            self.board.add(machine, (replace(job, stage=Stage.COPYING),))
        self.board.set_activity(self.uuid, Activity.RUNNING)

    def copy(self, seconds: float, mib_per_s: int) -> None:
        for _ in range(round(seconds * 2)):
            self.clock.now_s += 0.5
            before = self.board.job(self.uuid).progress
            more = mib_per_s * MIB // 2
            if self.board.job(self.uuid).stage is Stage.COPYING:
                now = replace(before, bytes_copied=before.bytes_copied + more)
            else:
                now = replace(before, bytes_verified=before.bytes_verified + more)
            self.board.progress(self.uuid, now)

    def estimate(self) -> str:
        return self.rates.estimated(plan()).estimate.text


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path / "state.db")


def test_a_copy_is_measured_while_it_runs_and_kept_when_it_ends(lab: Lab, tmp_path: Path) -> None:
    assert lab.estimate().startswith("Not known")
    lab.copy(30, 100)
    assert "at 100 MiB/s, measured on 1 copy from this array to this place." in lab.estimate()
    assert lab.store.rates() == ()
    lab.board.advance(lab.uuid, JobEvent.COPIED)
    lab.copy(20, 400)
    lab.board.advance(lab.uuid, JobEvent.PROVEN)
    (kept,) = Store(tmp_path / "state.db").rates()
    assert kept.place == (IQN, "vg-uuid")
    assert kept.copied_bytes // kept.copied_ms * 1000 == pytest.approx(100 * MIB, rel=0.01)
    assert kept.verified_bytes // kept.verified_ms * 1000 == pytest.approx(400 * MIB, rel=0.1)
    assert "at 100 MiB/s" in lab.estimate()


@pytest.mark.parametrize(
    "interrupt",
    [
        lambda lab: lab.board.hold(lab.uuid, Hold.USER),
        lambda lab: lab.board.hold(lab.uuid, Hold.WINDOW),
        lambda lab: lab.board.set_activity(lab.uuid, Activity.STALLED, "a read"),
    ],
)
def test_time_in_which_it_did_not_copy_counts_for_nothing(
    lab: Lab, interrupt: Callable[[Lab], object]
) -> None:
    lab.copy(30, 100)
    interrupt(lab)
    lab.copy(300, 0)
    lab.board.release(lab.uuid, Hold.USER)
    lab.board.release(lab.uuid, Hold.WINDOW)
    lab.board.set_activity(lab.uuid, Activity.RUNNING)
    lab.copy(30, 100)
    assert "at 100 MiB/s" in lab.estimate()


def test_a_worker_that_begins_again_is_no_copying(lab: Lab) -> None:
    lab.copy(30, 100)
    lab.board.progress(lab.uuid, Progress(bytes_copied=MIB))
    lab.clock.now_s += 60
    lab.copy(30, 100)
    assert "at 100 MiB/s" in lab.estimate()


def test_what_a_limit_slows_down_says_nothing_of_the_array(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "state.db", total=50 * MIB)
    lab.copy(60, 50)
    assert lab.estimate().startswith("At least")
    lab.bandwidth.set_total(0)
    lab.copy(60, 120)
    assert "at 120 MiB/s" in lab.estimate()


def test_a_moment_says_nothing(lab: Lab) -> None:
    lab.copy(1, 100)
    lab.board.advance(lab.uuid, JobEvent.FAIL)
    assert lab.store.rates() == ()


def test_the_plans_id_is_what_it_was(lab: Lab) -> None:
    before = lab.rates.estimated(plan())
    lab.copy(30, 100)
    after = lab.rates.estimated(plan())
    assert before.estimate != after.estimate
    assert (
        (before.id, before.digest_parts) == (after.id, after.digest_parts) == (plan().id, plan().digest_parts)
    )
    assert after.disks[0].estimate == after.estimate


def test_a_store_that_fails_costs_an_estimate_and_no_copy(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: CopyRate) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lab.store, "put_rate", fail)
    lab.copy(30, 100)
    lab.board.advance(lab.uuid, JobEvent.FAIL)
    assert lab.board.job(lab.uuid).stage is Stage.FAILED
