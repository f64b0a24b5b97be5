"""Which jobs have the hold `slot`, and what they are told: after every change of any job, and a restart."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from p2vd.jobs.board import Board
from p2vd.jobs.events import Event, InventoryChanged, JobChanged
from p2vd.jobs.inventory_keeper import InventoryKeeper
from p2vd.jobs.scheduler import Scheduler, uses
from p2vd.jobs.store import Store
from p2vd.jobs.transitions import JobEvent
from p2vd.model.disk import Portal, ScsiPath, Source
from p2vd.model.inventory import Inventory
from p2vd.model.job import Activity, Hold, Job, Stage
from p2vd.model.limits import Limits, Waiting
from p2vd.planning.schedule import Kind, Resource
from tests.jobs.values import IQN, machine_and_job, scsi_path, source


class Seen:
    """Satisfies what the scheduler asks of an InventoryKeeper."""

    def __init__(self) -> None:
        self.scanned = True
        self.inventory = Inventory()

    def current(self) -> Inventory:
        return self.inventory


class Lab:
    """A board and a scheduler over it; no job's thread runs. `restart` is that of the daemon."""

    def __init__(self, tmp_path: Path, limits: Limits) -> None:
        self.path, self.limits = tmp_path / "state.db", limits
        self.seen = Seen()
        self.restart()

    def restart(self, limits: Limits | None = None) -> None:
        self.limits = limits or self.limits
        self.nudged: list[str] = []
        self.events: list[Event] = []
        self.board = Board(Store(self.path))
        keeper = cast(InventoryKeeper, self.seen)
        self.scheduler = Scheduler(self.board, keeper, self.limits, self.nudged.append)
        self.board.subscribe(self.events.append)
        self.board.subscribe(self.scheduler.hear)
        self.scheduler.decide()

    def add(self, name: str, disk: Source | None = None, priority: int = 0) -> None:
        """A job whose source is `disk`, or one that is not there; it is called `name`."""
        machine, job = machine_and_job()
        plan = replace(job.plan, copy=replace(job.plan.copy, priority=priority))
        plan = replace(plan, source=replace(plan.source, id=disk.id if disk else name))
        if disk:
            self.seen.inventory = replace(self.seen.inventory, sources=(*self.seen.inventory.sources, disk))
        job = replace(job, uuid=name, machine_uuid=f"m-{name}", plan=plan, stage=Stage.COPYING)
        self.board.add(replace(machine, uuid=f"m-{name}", jobs=(name,)), (job,))

    def waiting(self) -> list[str]:
        return [job.uuid for job in self.board.jobs() if Hold.SLOT in job.holds]

    def job(self, name: str) -> Job:
        return self.board.job(name)

    def reason(self, name: str) -> str:
        waiting = self.scheduler.waiting(name)
        return waiting.reason if waiting else ""


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path, Limits(in_all=1))


def disk(name: str, *paths: ScsiPath) -> Source:
    return replace(source(), id=name, wwid=name, paths=paths)


def by(portal: str, target: str) -> ScsiPath:
    return replace(scsi_path("sda"), portal=Portal(portal, 3260), target_iqn=target)


def test_the_second_job_waits_before_anybody_hears_of_it_and_goes_on_after_the_first(lab: Lab) -> None:
    lab.add("1")
    lab.add("2")
    assert lab.waiting() == ["2"]
    assert lab.scheduler.waiting("2") == Waiting("2", 1, "1 job works already (max_jobs = 1).")
    assert lab.scheduler.waiting("1") is None
    lab.nudged.clear()
    lab.board.advance("1", JobEvent.PROVEN)
    assert lab.waiting() == []
    assert lab.nudged == ["2"]
    assert lab.scheduler.waiting("2") is None


@pytest.mark.parametrize("event", [JobEvent.PROVEN, JobEvent.FAIL, JobEvent.CANCEL])
def test_every_end_of_a_job_makes_place(lab: Lab, event: JobEvent) -> None:
    lab.add("1")
    lab.add("2")
    lab.board.advance("1", event)
    assert lab.waiting() == []


@pytest.mark.parametrize("hold", [hold for hold in Hold if hold is not Hold.SLOT])
def test_a_held_job_makes_place_and_queues_again_when_it_is_released(lab: Lab, hold: Hold) -> None:
    lab.add("1")
    lab.add("2")
    lab.board.hold("1", hold)
    assert lab.waiting() == []
    lab.board.release("1", hold)
    assert lab.waiting() == ["1"]


def test_a_retried_job_queues(lab: Lab) -> None:
    lab.add("1")
    lab.board.advance("1", JobEvent.FAIL)
    lab.add("2")
    lab.board.advance("1", JobEvent.RETRY)
    assert lab.waiting() == ["1"]


def test_a_waiting_job_that_is_paused_is_not_in_the_queue(lab: Lab) -> None:
    for name in "123":
        lab.add(name)
    lab.board.hold("2", Hold.USER)
    assert lab.scheduler.waiting("2") is None
    assert lab.scheduler.waiting("3") == Waiting("3", 1, "1 job works already (max_jobs = 1).")
    lab.board.advance("1", JobEvent.PROVEN)
    assert lab.waiting() == ["2"]
    lab.board.release("2", Hold.USER)
    assert lab.waiting() == ["2"]
    lab.board.advance("3", JobEvent.PROVEN)
    assert lab.waiting() == []


def test_the_higher_priority_starts_first(lab: Lab) -> None:
    lab.add("1")
    lab.add("2")
    lab.add("urgent", priority=3)
    lab.board.advance("1", JobEvent.PROVEN)
    assert lab.waiting() == ["2"]


def test_what_a_job_does_meanwhile_is_no_news_of_the_others(lab: Lab) -> None:
    for name in "123":
        lab.add(name)
    lab.events.clear()
    lab.board.set_activity("1", Activity.RUNNING)
    assert lab.events == [JobChanged("1")]
    lab.board.advance("1", JobEvent.PROVEN)
    assert {event.uuid for event in lab.events if isinstance(event, JobChanged)} == {"1", "2", "3"}


def test_changes_on_many_threads_at_once_leave_as_many_at_work_as_may(tmp_path: Path) -> None:
    lab = Lab(tmp_path, Limits(in_all=3))
    names = "12345678"
    for name in names:
        lab.add(name)

    def toggle(name: str) -> None:
        for _ in range(25):
            lab.board.hold(name, Hold.POOL)
            lab.board.release(name, Hold.POOL)

    threads = [threading.Thread(target=toggle, args=(name,), daemon=True) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)
        assert not thread.is_alive(), "a deadlock"
    assert len(lab.waiting()) == len(names) - 3
    assert sorted(lab.waiting()) == sorted(name for name in names if lab.scheduler.waiting(name))


def test_a_restart_changes_nothing(tmp_path: Path) -> None:
    lab = Lab(tmp_path, Limits(in_all=2))
    for name in "1234":
        lab.add(name)
    lab.board.advance("1", JobEvent.PROVEN)  # 2 and 3 work
    lab.board.hold("2", Hold.USER)  # 4 too
    lab.board.release("2", Hold.USER)
    assert lab.waiting() == ["2"]
    lab.restart()
    assert lab.waiting() == ["2"]
    assert lab.nudged == []


def test_with_a_lower_limit_after_a_restart_the_last_ones_wait(tmp_path: Path) -> None:
    lab = Lab(tmp_path, Limits(in_all=3))
    for name in "123":
        lab.add(name)
    lab.restart(Limits(in_all=1))
    assert lab.waiting() == ["2", "3"]


def test_nobody_is_let_in_before_the_host_was_looked_at(tmp_path: Path) -> None:
    """What jobs use is not known then; those that worked go on."""
    lab = Lab(tmp_path, Limits(per_array=1))
    for name in "12":
        lab.add(name, disk(name, by("10.0.0.1", IQN)))
    assert lab.waiting() == ["2"]
    full, lab.seen.inventory, lab.seen.scanned = lab.seen.inventory, Inventory(), False
    lab.restart()
    assert (lab.waiting(), lab.reason("2")) == (["2"], "This host has not been looked at yet.")
    lab.seen.inventory, lab.seen.scanned = full, True
    lab.board.publish(InventoryChanged())
    assert lab.waiting() == ["2"]
    assert lab.reason("2") == f"The array {IQN} has 1 at work already (limits.per_array = 1)."


def test_paths_that_come_back_stop_no_job_that_works(tmp_path: Path) -> None:
    lab = Lab(tmp_path, Limits(per_portal=1))
    lab.add("1", disk("1", by("10.0.0.1", IQN)))
    lab.add("2", disk("2", by("10.0.0.2", IQN)))
    assert lab.waiting() == []
    second = disk("2", by("10.0.0.1", IQN), by("10.0.0.2", IQN))
    lab.seen.inventory = Inventory((lab.seen.inventory.sources[0], second))
    lab.board.publish(InventoryChanged())
    lab.add("3")
    assert lab.waiting() == []
    lab.add("4", disk("4", by("10.0.0.1", IQN)))
    assert lab.waiting() == ["4"]


def test_what_a_job_uses_is_read_off_its_paths() -> None:
    _, job = machine_and_job()
    group = Resource(Kind.VOLUME_GROUP, "vg-uuid")
    assert uses(job, None) == {group}
    portal, array = Resource(Kind.PORTAL, "10.98.1.1:3260"), Resource(Kind.ARRAY, IQN)
    assert uses(job, source()) == {group, portal, array}
    fc = replace(
        scsi_path("sda"), portal=None, target_iqn="", target_wwpn="50:06:01:60:1", target_wwnn="50:06:0"
    )
    assert uses(job, replace(source(), paths=(fc,))) == {
        group,
        Resource(Kind.PORTAL, "50:06:01:60:1"),
        Resource(Kind.ARRAY, "50:06:0"),
    }
    local = replace(fc, target_wwpn="", target_wwnn="")
    assert uses(job, replace(source(), paths=(local,))) == {group}
