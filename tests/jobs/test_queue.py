"""Hundreds of jobs in the queue: who starts when, that nobody is passed over, and what a change costs."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from p2vd.jobs.board import Board
from p2vd.jobs.events import Event, JobChanged
from p2vd.jobs.transitions import JobEvent
from p2vd.model.disk import Source
from p2vd.model.inventory import Inventory
from p2vd.model.job import Hold, Job, Stage
from p2vd.model.limits import Limits
from tests.jobs.test_scheduler import Lab, by, disk
from tests.jobs.values import machine_and_job

JOBS = 500
AT_ONCE = 4


@pytest.fixture
def in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that no disk slows down: what is tested is who starts, not what is durable."""
    monkeypatch.setattr("tests.jobs.test_scheduler.Lab.restart", _restart_in_memory)


def _restart_in_memory(lab: Lab, limits: Limits | None = None) -> None:
    lab.path = Path(":memory:")
    _restart(lab, limits)


_restart = Lab.restart


def add_all(lab: Lab, priorities: dict[str, int], disks: dict[str, Source] | None = None) -> None:
    """Jobs of one machine, that come at once."""
    machine, job = machine_and_job()
    jobs = []
    for name, priority in priorities.items():
        source_id = disks[name].id if disks else name
        plan = replace(
            job.plan,
            copy=replace(job.plan.copy, priority=priority),
            source=replace(job.plan.source, id=source_id),
        )
        jobs.append(replace(job, uuid=name, plan=plan, stage=Stage.COPYING))
    lab.seen.inventory = Inventory(tuple(disks.values()) if disks else ())
    lab.board.add(replace(machine, jobs=tuple(priorities)), tuple(jobs))


def running(lab: Lab) -> list[str]:
    return [job.uuid for job in lab.board.jobs() if job.stage is Stage.COPYING and Hold.SLOT not in job.holds]


def starts(lab: Lab) -> Iterator[str]:
    """End one job after the other, the one that began first; yields each as it starts."""
    at_work = running(lab)
    yield from at_work
    while at_work:
        lab.nudged.clear()
        lab.board.advance(at_work.pop(0), JobEvent.PROVEN)
        begun = [name for name in lab.nudged if Hold.SLOT not in lab.job(name).holds]
        yield from begun
        at_work += begun


def test_500_jobs_start_by_priority_then_by_age_and_all_of_them(in_memory: None, tmp_path: Path) -> None:
    lab = Lab(tmp_path, Limits(in_all=AT_ONCE))
    priorities = {f"{number:03}": number % 3 for number in range(JOBS)}
    add_all(lab, priorities)
    waiting = [lab.scheduler.waiting(name) for name in lab.waiting()]
    assert sorted(each.place for each in waiting if each) == list(range(1, JOBS - AT_ONCE + 1))
    assert list(starts(lab)) == sorted(priorities, key=lambda name: (-priorities[name], name))


def test_500_jobs_of_five_arrays_get_even_turns(in_memory: None, tmp_path: Path) -> None:
    """One array has most of the jobs, and the oldest; with two of each at once the others need not wait."""
    lab = Lab(tmp_path, Limits(in_all=10, per_array=2))
    arrays = ["big"] * 300 + [f"small{number % 4}" for number in range(200)]
    of = {f"{number:03}": array for number, array in enumerate(arrays)}
    add_all(
        lab,
        dict.fromkeys(of, 0),
        {name: disk(name, by("10.0.0.1", f"iqn.{array}")) for name, array in of.items()},
    )
    order = list(starts(lab))
    assert sorted(order) == sorted(of)
    # While the small ones have any left, each array has its two of ten at a time.
    first = Counter(of[name] for name in order[: 5 * 50])
    assert set(first) == set(arrays)
    assert max(first.values()) - min(first.values()) <= 2
    for array in set(arrays):
        assert [name for name in order if of[name] == array] == [name for name in of if of[name] == array]


class Counted(Board):
    """A board that counts how often it is asked for a job."""

    asked = 0

    def job(self, uuid: str) -> Job:
        Counted.asked += 1
        return super().job(uuid)


def cost_of_one_end(tmp_path: Path, jobs: int, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """How many jobs are looked up, and how many events sent, when one ends and the next begins."""
    monkeypatch.setattr("tests.jobs.test_scheduler.Board", Counted)
    lab = Lab(tmp_path, Limits(in_all=AT_ONCE))
    add_all(lab, {f"{number:03}": 0 for number in range(jobs)})
    events: list[Event] = []
    lab.board.subscribe(events.append)
    Counted.asked = 0
    lab.board.advance("000", JobEvent.PROVEN)
    assert all(isinstance(event, JobChanged) for event in events)
    return Counted.asked, len(events)


def test_what_a_change_costs_grows_with_the_queue_and_no_faster(
    in_memory: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each that waits moves up by one, and that is told; nothing is done for each pair of them."""
    few, many = (cost_of_one_end(tmp_path, jobs, monkeypatch) for jobs in (50, 500))
    assert many[0] <= 11 * few[0]
    assert many[1] <= 500 + 10
