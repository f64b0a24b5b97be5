"""Which jobs leave the bus, and that the store keeps them."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from p2vd.jobs.board import Board
from p2vd.jobs.departures import Departures
from p2vd.jobs.events import Event, JobRemoved, MachineChanged
from p2vd.jobs.store import Store
from p2vd.model.errors import IllegalTransition, NotFound
from p2vd.model.job import JobError, MachineState, Stage
from tests.jobs.values import machine_and_job

MACHINE, JOB = machine_and_job()
DAY_US = 86_400_000_000
NOW_US = 1_700_000_000_000_000


class Desk:
    def __init__(self, directory: Path) -> None:
        self.store = Store(directory / "state.db")
        self.board = Board(self.store)
        self.told: list[Event] = []
        self.board.subscribe(self.told.append)
        self.departures = Departures(self.board, keep_days=7)

    def put(self, stage: Stage, state: MachineState, end_time_us: int = NOW_US) -> None:
        error = JobError("WriteFailed", "no") if stage is Stage.FAILED else None
        job = replace(JOB, stage=stage, end_time_us=end_time_us, error=error)
        self.store.add(replace(MACHINE, state=state), (job,))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.store.close()


FINISHED = [
    (Stage.CANCELLED, MachineState.CANCELLED, "cancelled"),
    (Stage.CANCELLED, MachineState.COPYING, "cancelled"),
    (Stage.PROVEN, MachineState.REGISTERED, "done"),
    (Stage.PROVEN, MachineState.ACCEPTED, "done"),
    (Stage.PROVEN, MachineState.ROLLED_BACK, "done"),
]


@pytest.mark.parametrize(("stage", "state", "result"), FINISHED)
def test_a_finished_job_leaves_and_stays_in_the_store(
    desk: Desk, stage: Stage, state: MachineState, result: str
) -> None:
    desk.put(stage, state)
    desk.departures.remove(JOB.uuid, NOW_US)
    assert desk.departures.jobs() == ()
    assert desk.told[-1] == JobRemoved(JOB.uuid, result)
    assert desk.store.job(JOB.uuid).removed_us == NOW_US
    with pytest.raises(NotFound):
        desk.departures.job(JOB.uuid)
    with pytest.raises(NotFound):
        desk.departures.remove(JOB.uuid, NOW_US)


UNFINISHED = [
    *((stage, MachineState.COPYING) for stage in Stage if stage is not Stage.CANCELLED),
    (Stage.PROVEN, MachineState.READY),
    (Stage.PROVEN, MachineState.REGISTERING),
]


@pytest.mark.parametrize(("stage", "state"), UNFINISHED)
def test_any_other_stays(desk: Desk, stage: Stage, state: MachineState) -> None:
    desk.put(stage, state)
    with pytest.raises(IllegalTransition, match="removal is not possible now"):
        desk.departures.remove(JOB.uuid, NOW_US)
    desk.departures.leave(NOW_US + 1000 * DAY_US)
    assert desk.departures.job(JOB.uuid).uuid == JOB.uuid
    assert desk.told == []


def test_it_leaves_by_itself_after_its_days_and_not_before(desk: Desk) -> None:
    desk.put(Stage.PROVEN, MachineState.REGISTERED)
    desk.departures.leave(NOW_US + 7 * DAY_US)
    assert len(desk.departures.jobs()) == 1
    desk.departures.leave(NOW_US + 7 * DAY_US + 1)
    assert desk.departures.jobs() == ()


def test_none_leaves_by_itself_where_that_is_configured(desk: Desk) -> None:
    desk.put(Stage.PROVEN, MachineState.REGISTERED)
    Departures(desk.board, keep_days=0).leave(NOW_US + 1000 * DAY_US)
    assert len(desk.departures.jobs()) == 1


def test_a_registered_machine_stays_for_its_rollback_and_goes_once_its_end_could_be_heard(desk: Desk) -> None:
    """Whoever accepts it long after waits for the end, and for the WWIDs that the array may unmap."""
    desk.put(Stage.PROVEN, MachineState.REGISTERED)
    desk.departures.remove(JOB.uuid, NOW_US)
    assert desk.departures.machine(MACHINE.uuid).jobs == ()
    assert desk.store.machine(MACHINE.uuid).jobs == (JOB.uuid,), "the store forgets nothing"
    desk.store.change_machine(MACHINE.uuid, lambda machine: replace(machine, state=MachineState.ACCEPTED))
    assert desk.departures.machine(MACHINE.uuid).state is MachineState.ACCEPTED
    desk.departures.leave(NOW_US)  # the end may have come a moment ago
    assert [machine.uuid for machine in desk.departures.machines()] == [MACHINE.uuid]
    desk.departures.leave(NOW_US)
    assert desk.told[-1] == MachineChanged(MACHINE.uuid)
    assert desk.departures.machines() == ()
    with pytest.raises(NotFound):
        desk.departures.machine(MACHINE.uuid)


def test_a_machine_that_is_over_goes_with_its_last_job(desk: Desk) -> None:
    desk.put(Stage.PROVEN, MachineState.ACCEPTED)
    assert len(desk.departures.machines()) == 1
    desk.departures.remove(JOB.uuid, NOW_US)
    assert desk.departures.machines() == ()
