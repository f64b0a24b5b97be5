"""A store whose file is damaged while the daemon runs: it is said to be, and no thread ends by it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from p2vd.jobs import mistrust
from p2vd.jobs.again import Again
from p2vd.jobs.board import Board
from p2vd.jobs.control import TargetInUse
from p2vd.jobs.inventory_keeper import InventoryKeeper, ScanFailed
from p2vd.jobs.scheduler import Scheduler
from p2vd.jobs.services import Services
from p2vd.jobs.store import Store, StoreDamaged
from p2vd.model.job import Activity, Hold, Job, JobError, Machine, MachineState, Stage
from p2vd.model.limits import Limits
from p2vd.model.portal import PortalRecord, PortalState
from tests.jobs.machine_lab import MACHINE, MachineLab, settle
from tests.jobs.portal_desk import A, Desk
from tests.jobs.test_store_unwritable import PATIENCE_S, Host, Later, Refusing
from tests.jobs.values import machine_and_job, plan

MACHINE_OF_ONE, JOB = machine_and_job()
PAGE_BYTES = 4096


class File:
    """The store's file, all of it in its place; what is written there SQLite reads."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "state.db"
        self.store = Store(self.path)
        self.store.add(MACHINE_OF_ONE, (replace(JOB, stage=Stage.COPYING),))
        self.store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.whole = self.path.read_bytes()

    def damage(self, at: int = PAGE_BYTES) -> None:
        self._write(self.whole[:at] + b"\xff" * (len(self.whole) - at))

    def heal(self) -> None:
        self._write(self.whole)

    def _write(self, contents: bytes) -> None:
        with self.store._lock, self.path.open("r+b") as file:
            file.write(contents)
            file.flush()
            self.store._db.execute("PRAGMA shrink_memory")  # what it has read before


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "state.db")


@pytest.mark.parametrize("at", [PAGE_BYTES, 0], ids=["in its pages", "in its header"])
def test_it_is_said_to_be_damaged_and_not_to_be_full(file: File, at: int) -> None:
    file.damage(at)
    uses: list[Callable[[], object]] = [
        file.store.jobs,
        lambda: file.store.plan("another"),
        lambda: file.store.put_plan(plan()),
        lambda: file.store.add(replace(MACHINE_OF_ONE, uuid="other"), ()),
        lambda: file.store.remove_portal("10.1.1.1:3260"),
    ]
    for use in uses:
        with pytest.raises(StoreDamaged, match=r"state\.db is damaged: .*Restore it from a backup"):
            use()


def test_the_looking_at_the_host_goes_on(file: File) -> None:
    def hear(*_: object) -> None:
        file.store.jobs()

    keeper = InventoryKeeper(Host(), hear)
    file.damage()
    keeper.start()
    for _ in range(2):
        with pytest.raises(ScanFailed, match="is damaged"):
            keeper.fresh(PATIENCE_S)
    file.heal()
    keeper.fresh(PATIENCE_S)
    keeper.stop()


def test_a_jobs_thread_waits(file: File) -> None:
    board = Board(file.store)
    runner = Refusing(board, file.store)
    file.damage()
    runner.start()
    assert runner.paused.wait(PATIENCE_S)
    activity, why = board.activity(JOB.uuid)
    assert (activity, "is damaged" in why) == (Activity.STALLED, True)
    file.heal()
    runner.go_on.set()
    assert runner.join(PATIENCE_S)
    assert board.job(JOB.uuid).stage is Stage.COPYING
    assert board.job(JOB.uuid).holds == {Hold.POOL}


class Reading(Refusing):
    """A runner whose step finds the record of something else damaged, the first time."""

    def _do(self, job: Job) -> bool:
        if not self.paused.is_set():
            raise StoreDamaged("/x/state.db", "machine: what it holds is none")
        return super()._do(job)


def test_a_job_does_not_fail_by_it(store: Store) -> None:
    """It waits also where its own record could be written."""
    board = Board(store)
    board.add(MACHINE_OF_ONE, (replace(JOB, stage=Stage.COPYING),))
    runner = Reading(board, store)
    runner.start()
    runner.go_on.set()
    assert runner.join(PATIENCE_S)
    assert (board.job(JOB.uuid).stage, board.job(JOB.uuid).error) == (Stage.COPYING, None)


def test_who_may_work_is_decided_later(file: File) -> None:
    board, later = Board(file.store), Later()
    keeper = InventoryKeeper(Host(), lambda *_: None)
    scheduler = Scheduler(board, keeper, Limits(in_all=1), lambda _: None, Again(later))
    file.damage()
    scheduler.decide()
    assert len(later.waiting) == 1


def test_a_machine_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = MachineLab(tmp_path)
    change, left = lab.store.change_machine, iter(["damaged"])

    def damaged_once(uuid: str, step: Callable[[Machine], Machine]) -> Machine:
        if next(left, ""):
            raise StoreDamaged("/x/state.db", "database disk image is malformed")
        return change(uuid, step)

    monkeypatch.setattr(lab.store, "change_machine", damaged_once)
    settle(lab, lab.desk.start, MachineState.REGISTERED)
    assert list(lab.hypervisor.domains) == [MACHINE]


def test_what_is_mistrusted_is_kept_in_memory(file: File) -> None:
    """Nothing is gone on with, and the reason is not hidden by the store's own."""
    board = Board(file.store)
    services, error = cast(Services, SimpleNamespace(board=board)), TargetInUse("/dev/vg_san/erp1", 2)
    job = board.job(JOB.uuid)
    file.damage()
    mistrust.mistrust(services, job, error)
    assert board.job(JOB.uuid).mistrust == JobError(error.name, str(error))


def test_a_portal_is_tried_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    put, left = desk.store.put_portal, iter(["", "damaged"])

    def damaged_once(record: PortalRecord) -> None:
        if next(left, ""):
            raise StoreDamaged("/x/state.db", "database disk image is malformed")
        put(record)

    monkeypatch.setattr(desk.store, "put_portal", damaged_once)
    desk.add(A, PortalState.CONNECTED)
    assert next(left, "over") == "over"
