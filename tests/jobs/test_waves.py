"""What a wave does with each machine: begun once, over crashes too; without room it waits."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from p2vd.jobs.board import Board
from p2vd.jobs.events import MachineChanged
from p2vd.jobs.planner import Planner, WaveStart
from p2vd.jobs.services import Services
from p2vd.jobs.store import STORE_FAILURES, Store
from p2vd.jobs.waves import Waves
from p2vd.model.errors import IllegalTransition, InvalidArgument, P2vdError, PlanOutdated, Reason, Refused
from p2vd.model.job import Caller, Machine
from p2vd.model.wave import Fate, Wave, WaveEntry, WaveItem, WaveState
from p2vd.system.clock import SystemClock
from tests.jobs.fake_disks import LONG_S

FULL = Refused("Machine b", (Reason("vg-too-small", "It is full."),))


class FakePlanner:
    """Makes machines in the store.

    `problems`: why it refuses, by plan, until that is taken away; `lacks`: what it meets of this host first.
    """

    def __init__(self, board: Board) -> None:
        self._board = board
        self.problems: dict[str, P2vdError] = {}
        self.lacks: list[P2vdError] = []
        self.made: list[tuple[str, int, int]] = []

    def make_machine(self, plan_id: str, caller: Caller, wave: WaveStart) -> Machine:
        if self.lacks:
            raise self.lacks.pop(0)
        if plan_id in self.problems:
            raise PlanOutdated(plan_id, "it would be refused now.") from self.problems[plan_id]
        machine = Machine(wave.machine_uuid, plan_id)
        self._board.add(machine, ())
        self.made.append((plan_id, wave.priority, caller.uid))
        return machine


class Sleeper(SystemClock):
    """The host's clock; `asked`: how long the waves want to sleep, in order."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    def sleep(self, seconds: float, until: threading.Event) -> bool:
        self.asked.append(seconds)
        return super().sleep(seconds, until)


class Desk:
    """A wave of the machines a, b, c, planned."""

    def __init__(self, path: Path) -> None:
        self.store = Store(path)
        self.board = Board(self.store)
        self.planner = FakePlanner(self.board)
        self.begun: list[str] = []
        self.changed = threading.Event()
        self.clock = Sleeper()
        self.store.put_wave(Wave("w", tuple(self.item(name) for name in "abc")))
        self.waves = self.make()

    @staticmethod
    def item(name: str, uuid: str = "") -> WaveItem:
        return WaveItem(WaveEntry(name), name, Fate.READY, name, priority=3, machine_uuid=uuid)

    def make(self) -> Waves:
        inventory = SimpleNamespace(scanned=True)
        parts: Any = SimpleNamespace(
            store=self.store, board=self.board, inventory=inventory, clock=self.clock
        )
        waves = Waves(cast(Services, parts), cast(Planner, self.planner), self._begin)
        self.board.subscribe(waves.hear)
        return waves

    def _begin(self, machine: Machine) -> None:
        self.begun.append(machine.name)
        self.changed.set()

    def until(self, so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LONG_S
        while not so():
            assert time.monotonic() < deadline, self.store.wave("w")
            self.changed.wait(0.05)
            self.changed.clear()

    def fates(self) -> str:
        return " ".join(item.fate.value for item in self.store.wave("w").items)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "state.db")
    yield desk
    desk.waves.stop()
    desk.store.close()


def test_machines_are_begun_in_order_for_who_asked(desk: Desk) -> None:
    desk.waves.go()
    desk.waves.start("w", 0, Caller(1234))
    desk.until(lambda: desk.store.wave("w").state is WaveState.DONE)
    assert desk.planner.made == [("a", 3, 1234), ("b", 3, 1234), ("c", 3, 1234)]
    assert desk.begun == ["a", "b", "c"]
    with pytest.raises(IllegalTransition):
        desk.waves.cancel("w", Caller())


def test_nothing_wakes_while_no_wave_is_under_way(desk: Desk) -> None:
    desk.waves.go()
    desk.until(lambda: desk.clock.asked[-1:] == [threading.TIMEOUT_MAX])
    before = len(desk.clock.asked)
    desk.waves.start("w", 0, Caller())
    desk.until(lambda: desk.store.wave("w").state is WaveState.DONE)
    desk.until(lambda: desk.clock.asked[before:][-1:] == [threading.TIMEOUT_MAX])


def test_one_without_room_waits_and_one_that_may_not_run_is_told(desk: Desk) -> None:
    desk.planner.problems = {"a": Refused("a", (Reason("reserved", "A host has it."),)), "b": FULL}
    desk.waves.go()
    desk.waves.start("w", 0, Caller())
    desk.until(lambda: desk.fates() == "refused waits started")
    assert [[reason.code for reason in item.reasons] for item in desk.store.wave("w").items] == [
        ["reserved"],
        ["vg-too-small"],
        [],
    ]
    assert desk.store.wave("w").state is WaveState.RUNNING
    desk.planner.problems.clear()
    desk.board.publish(MachineChanged("x"))
    desk.until(lambda: desk.store.wave("w").state is WaveState.DONE)
    assert desk.fates() == "refused started started"


@pytest.mark.parametrize("error", STORE_FAILURES)
def test_a_store_that_cannot_be_used_refuses_no_machine(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, error: Callable[[str, str], P2vdError]
) -> None:
    """That tells nothing of the machine: its wave tries again."""
    monkeypatch.setattr("p2vd.jobs.waves._RETRY_S", 0.01)
    desk.planner.lacks = [error("state.db", "disk I/O error")] * 2
    desk.waves.go()
    desk.waves.start("w", 0, Caller(0))
    desk.until(lambda: desk.store.wave("w").state is WaveState.DONE)
    assert desk.fates() == "started started started"


def test_a_machine_that_was_made_before_a_crash_is_made_no_second_time(desk: Desk) -> None:
    desk.board.add(Machine("made", "a"), ())
    items = (desk.item("a", "made"), desk.item("b", "not-made"), desk.item("c"))
    desk.store.put_wave(Wave("w", items, WaveState.RUNNING, started_by=Caller(7)))
    desk.waves.go()
    desk.until(lambda: desk.store.wave("w").state is WaveState.DONE)
    assert desk.planner.made == [("b", 3, 7), ("c", 3, 7)]
    assert desk.store.wave("w").items[1].machine_uuid == "not-made"


def test_a_wave_none_of_which_may_run_is_refused_and_a_time_that_is_over(desk: Desk) -> None:
    with pytest.raises(InvalidArgument):
        desk.waves.start("w", 1, Caller())
    refused = WaveItem(WaveEntry("a"), "a", Fate.REFUSED, reasons=FULL.reasons)
    desk.store.put_wave(Wave("w", (refused,)))
    with pytest.raises(Refused, match="It is full"):
        desk.waves.start("w", 0, Caller())


def test_a_wave_that_is_started_while_it_is_planned_again_stays_started(desk: Desk) -> None:
    """Somebody looks at the list once more, and somebody else lets it go."""
    planned = desk.store.wave("w")
    starting: list[threading.Thread] = []

    def start_now(known: Wave) -> bool:
        starting.append(threading.Thread(target=desk.waves.start, args=("w", 2**60, Caller(7))))
        starting[0].start()
        return known.state is not WaveState.PLANNED

    assert desk.store.put_wave(planned, unless=start_now) == planned
    starting[0].join()
    assert desk.store.wave("w").state is WaveState.SCHEDULED
    assert desk.store.put_wave(planned, unless=lambda known: True).state is WaveState.SCHEDULED
    assert desk.store.wave("w").started_by == Caller(7)


def test_a_cancelled_wave_begins_nothing(desk: Desk) -> None:
    desk.waves.start("w", 2**60, Caller())
    assert desk.waves.cancel("w", Caller()).state is WaveState.CANCELLED
    desk.waves.go()
    desk.waves.stop()
    assert desk.begun == []
