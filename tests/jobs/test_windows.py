"""The hold `window`: set and released at the right moment, and by nothing else."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from p2vd.jobs.board import Board
from p2vd.jobs.events import Event, JobAdded, JobChanged
from p2vd.jobs.store import Store
from p2vd.jobs.transitions import JobEvent
from p2vd.jobs.windows import WindowKeeper
from p2vd.model.job import Hold, Stage
from p2vd.model.window import Window
from tests.jobs.values import machine_and_job

LONG_S = 60.0
NIGHTS = (Window(tuple(range(7)), 22 * 60, 5 * 60, "Europe/Berlin"),)
NOON, NIGHT, MORNING = "2026-11-27T12:00+01:00", "2026-11-27T22:00+01:00", "2026-11-28T05:00+01:00"


class ToldClock:
    """Satisfies Clock: it is as late as the test says; who sleeps wakes when his time has come."""

    def __init__(self, at: str) -> None:
        self._at_us = self._us(at)
        self._wakes: tuple[int, threading.Event] | None = None
        self.slept: list[float] = []
        self._asleep = threading.Semaphore(0)

    @staticmethod
    def _us(at: str) -> int:
        return int(datetime.fromisoformat(at).astimezone(UTC).timestamp() * 1_000_000)

    def monotonic(self) -> float:
        return self._at_us / 1e6

    def now_us(self) -> int:
        return self._at_us

    def sleep(self, seconds: float, until: threading.Event) -> bool:
        self.slept.append(seconds)
        self._wakes = self._at_us + round(seconds * 1e6), until
        self._asleep.release()
        return until.wait(LONG_S)

    def await_sleep(self) -> None:
        """Wait until somebody sleeps who did not when this was called last."""
        assert self._asleep.acquire(timeout=LONG_S)

    def set(self, at: str) -> None:
        """Let it be that late; returns when whoever was woken sleeps again."""
        self._at_us = self._us(at)
        assert self._wakes is not None
        wakes_us, until = self._wakes
        if self._at_us >= wakes_us:
            until.set()
            self.await_sleep()


class Lab:
    def __init__(self, tmp_path: Path, at: str, stage: Stage = Stage.COPYING) -> None:
        self.path = tmp_path / "state.db"
        self.board = Board(Store(self.path))
        self.add("windowed", NIGHTS, stage)
        self.add("free", (), stage)
        self.start(at)

    def start(self, at: str) -> None:
        """The daemon's start, also its next one."""
        self.board = Board(Store(self.path))
        self.nudged: list[str] = []
        self.clock = ToldClock(at)
        self.keeper = WindowKeeper(self.board, self.clock, self.nudged.append)
        self.board.subscribe(self.keeper.hear)
        self.keeper.start()
        self.clock.await_sleep()

    def add(self, name: str, windows: tuple[Window, ...], stage: Stage = Stage.PLANNED) -> None:
        machine, job = machine_and_job()
        plan = replace(job.plan, copy=replace(job.plan.copy, windows=windows))
        machine = replace(machine, uuid=f"m-{name}", jobs=(name,))
        self.board.add(machine, (replace(job, uuid=name, machine_uuid=machine.uuid, plan=plan, stage=stage),))

    def holds(self, name: str = "windowed") -> set[Hold]:
        return set(self.board.job(name).holds)

    def waiting(self) -> str:
        return self.keeper.waiting(self.board.job("windowed"))


@pytest.fixture
def labs(tmp_path: Path) -> Iterator[list[Lab]]:
    """What is in it is stopped in the end."""
    labs: list[Lab] = []
    yield labs
    for lab in labs:
        lab.keeper.stop()


@pytest.fixture
def lab(tmp_path: Path, labs: list[Lab]) -> Lab:
    labs.append(Lab(tmp_path, NOON))
    return labs[0]


def test_a_job_is_held_while_its_window_is_shut_and_nudged_when_it_opens(lab: Lab) -> None:
    assert (lab.holds(), lab.holds("free")) == ({Hold.WINDOW}, set())
    assert lab.waiting() == "Its window opens on Fri 2026-11-27 22:00 Europe/Berlin."
    lab.nudged.clear()
    lab.clock.set(NIGHT)
    assert (lab.holds(), lab.nudged, lab.waiting()) == (set(), ["windowed"], "")
    lab.clock.set(MORNING)
    assert (lab.holds(), lab.nudged) == ({Hold.WINDOW}, ["windowed", "windowed"])


def test_it_sleeps_until_the_next_change_and_looks_at_the_clock_now_and_then(lab: Lab) -> None:
    """The clock may be set while it sleeps."""
    assert lab.clock.slept == [300.0]
    lab.clock.set("2026-11-27T21:59:30+01:00")
    assert lab.clock.slept == [300.0, 30.0]


def test_a_clock_that_is_set_back_shuts_the_window_again(lab: Lab) -> None:
    lab.clock.set("2026-11-27T23:00+01:00")
    assert lab.holds() == set()
    lab.clock._at_us = lab.clock._us(NOON)
    lab.add("another", NIGHTS)
    assert lab.holds("another") == {Hold.WINDOW}


def test_a_users_pause_outlives_a_window(lab: Lab) -> None:
    lab.clock.set(NIGHT)
    lab.clock.set(MORNING)
    lab.board.hold("windowed", Hold.USER)
    lab.clock.set("2026-11-28T22:00+01:00")
    assert lab.holds() == {Hold.USER}


def test_a_new_job_is_held_before_anybody_hears_of_it(lab: Lab) -> None:
    heard: list[set[Hold]] = []

    def hear(event: Event) -> None:
        if isinstance(event, JobAdded | JobChanged):
            heard.append(set(lab.board.job(event.uuid).holds))

    lab.board.subscribe(hear)
    lab.add("new", NIGHTS)
    assert heard
    assert all(holds == {Hold.WINDOW} for holds in heard)


def test_a_new_job_in_the_night_works_and_is_held_in_the_morning(tmp_path: Path, labs: list[Lab]) -> None:
    labs.append(lab := Lab(tmp_path, NIGHT))
    lab.add("new", NIGHTS)
    lab.clock.await_sleep()
    assert lab.holds("new") == set()
    lab.clock.set(MORNING)
    assert lab.holds("new") == {Hold.WINDOW}


def test_a_job_that_is_retried_by_day_is_held(lab: Lab) -> None:
    lab.clock.set(NIGHT)
    lab.board.advance("windowed", JobEvent.FAIL)
    lab.clock.await_sleep()
    lab.clock.set(MORNING)
    assert lab.holds() == set()
    lab.board.advance("windowed", JobEvent.RETRY)
    assert lab.holds() == {Hold.WINDOW}


@pytest.mark.parametrize("event", [JobEvent.CANCEL, JobEvent.FAIL, JobEvent.PROVEN])
def test_a_job_that_ends_is_held_no_longer(lab: Lab, event: JobEvent) -> None:
    assert lab.holds() == {Hold.WINDOW}
    lab.board.advance("windowed", event)
    assert lab.holds() == set()


@pytest.mark.parametrize(
    ("stopped", "started", "held"), [(NIGHT, MORNING, True), (NIGHT, NIGHT, False), (NOON, NIGHT, False)]
)
def test_a_restart_sets_the_holds_as_they_must_be_before_it_returns(
    tmp_path: Path, labs: list[Lab], stopped: str, started: str, held: bool
) -> None:
    labs.append(lab := Lab(tmp_path, stopped))
    lab.keeper.stop()
    lab.start(started)
    assert (Hold.WINDOW in lab.holds()) is held


def test_progress_of_a_job_computes_nothing(lab: Lab) -> None:
    lab.clock._at_us = lab.clock._us(NIGHT)  # and the sleeper does not know it yet
    lab.board.publish(JobChanged("windowed"))
    assert lab.holds() == {Hold.WINDOW}


def test_a_time_zone_that_is_gone_holds_the_job_and_says_so(tmp_path: Path, labs: list[Lab]) -> None:
    labs.append(lab := Lab(tmp_path, NIGHT))
    lab.add("old", (replace(NIGHTS[0], timezone="Europe/Atlantis"),))
    assert lab.holds("old") == {Hold.WINDOW}
    said = lab.keeper.waiting(lab.board.job("old"))
    assert "'Europe/Atlantis' is no time zone that this host knows. Install tzdata" in said


def test_a_store_that_fails_for_the_moment_ends_nothing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    settle = lab.board.settle_hold
    with monkeypatch.context() as patch:

        def fail(*_: object) -> bool:
            raise OSError(28, "No space left on device")

        patch.setattr(lab.board, "settle_hold", fail)
        lab.clock.set(NIGHT)
        assert lab.clock.slept[-1] == 5.0
    assert lab.board.settle_hold == settle
    lab.clock.set("2026-11-27T22:00:05+01:00")
    assert lab.holds() == set()


def test_a_job_that_is_let_go_needs_no_window_any_more_also_after_a_restart(lab: Lab) -> None:
    lab.board.change("windowed", lambda job: replace(job, ignores_window=True))
    assert (lab.holds(), lab.nudged[-1]) == (set(), "windowed")
    lab.keeper.stop()
    lab.start(NOON)
    assert lab.holds() == set()
