"""A state disk that is full or read-only for a while: no thread ends, and nothing is told that is not so."""

import resource
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from p2vd.jobs.again import Again
from p2vd.jobs.board import Board
from p2vd.jobs.contents_keeper import ContentsKeeper
from p2vd.jobs.control import TargetInUse
from p2vd.jobs.engine import Engine
from p2vd.jobs.events import Event, JobChanged
from p2vd.jobs.inventory_keeper import InventoryKeeper
from p2vd.jobs.policies import PolicyKeeper
from p2vd.jobs.portal_request import PortalRequest
from p2vd.jobs.runner import JobRunner
from p2vd.jobs.scheduler import Scheduler
from p2vd.jobs.services import Services
from p2vd.jobs.store import Store, StoreDamaged, StoreUnusable, StoreUnwritable
from p2vd.jobs.windows import WindowKeeper
from p2vd.model.boot_test import BootState, BootTest
from p2vd.model.contents import Examination
from p2vd.model.copying import Progress
from p2vd.model.disk import Portal
from p2vd.model.inventory import Inventory
from p2vd.model.job import Activity, Hold, Job, MachineState, Stage
from p2vd.model.limits import Limits
from p2vd.model.portal import PortalRecord, PortalState
from p2vd.model.verification import Verification, VerifyState
from tests.iscsi_host import IQN, IscsiHost
from tests.jobs.fake_disks import Disks, FakeHelper
from tests.jobs.machine_lab import MACHINE, MachineLab, settle
from tests.jobs.portal_desk import A, Desk, chap, no_portals
from tests.jobs.proven_machine import MACHINE as PROVEN
from tests.jobs.proven_machine import ProvenMachine
from tests.jobs.record_desk import no_records
from tests.jobs.test_windows import NIGHTS, NOON, ToldClock
from tests.jobs.values import machine_and_job, plan, source

MACHINE_OF_ONE, JOB = machine_and_job()
PATIENCE_S = 60.0


@contextmanager
def unwritable(store: Store) -> Iterator[None]:
    """SQLite itself refuses every change, with the words of a read-only filesystem."""
    with store._lock:
        store._db.execute("PRAGMA query_only=1")
    try:
        yield
    finally:
        with store._lock:
            store._db.execute("PRAGMA query_only=0")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "state.db")


def test_every_change_says_what_to_do_and_has_not_been(store: Store) -> None:
    store.add(MACHINE_OF_ONE, (JOB,))
    record = PortalRecord(Portal("10.1.1.1", 3260), "ens4")
    changes: list[Callable[[], object]] = [
        lambda: store.put_plan(plan()),
        lambda: store.add(replace(MACHINE_OF_ONE, uuid="other"), ()),
        lambda: store.change_job(JOB.uuid, lambda job: replace(job, stage=Stage.PROVEN)),
        lambda: store.change_machine(MACHINE_OF_ONE.uuid, lambda one: replace(one, name="x")),
        lambda: store.put_portal(record),
        lambda: store.remove_portal(record.id),
    ]
    with unwritable(store):
        for change in changes:
            with pytest.raises(StoreUnwritable, match=r"state\.db cannot be written: .*readonly.*Make room"):
                change()
        assert (store.jobs(), store.machines(), store.portals()) == ((JOB,), (MACHINE_OF_ONE,), ())


def test_a_full_disk_is_told_as_one(store: Store) -> None:
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(StoreUnwritable, match="disk is full"):
        store.add(replace(MACHINE_OF_ONE, uuid="large", name="x" * 65536), ())
    store._db.execute("PRAGMA max_page_count=100000")
    store.add(MACHINE_OF_ONE, (JOB,))
    assert store.jobs() == (JOB,)


def test_a_closed_store_is_no_full_disk(store: Store) -> None:
    store.close()
    with pytest.raises(Exception, match="closed") as caught:
        store.put_plan(plan())
    assert not isinstance(caught.value, StoreUnusable)


# ---- at the start ---------------------------------------------------------------------------------


def test_a_store_that_cannot_be_opened_is_not_said_to_be_damaged(tmp_path: Path) -> None:
    """An administrator who does as told would put an old store over a good one."""
    (tmp_path / "state.db").mkdir()
    with pytest.raises(StoreUnusable, match="not damaged") as caught:
        Store(tmp_path / "state.db")
    assert "Restore" not in str(caught.value)


@contextmanager
def no_room(bytes_a_file: int) -> Iterator[None]:
    """Nobody may write to a file beyond so many bytes: as on a full disk, for which it takes no disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_a_file, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_on_a_full_disk_it_is_opened_all_the_same(tmp_path: Path) -> None:
    """SQLite wants 32 KiB beside the file even to read it, if others are to read it, too."""
    path = tmp_path / "state.db"
    store = Store(path)
    store.add(MACHINE_OF_ONE, (JOB,))
    store.close()
    with no_room(path.stat().st_size + 1024):
        store = Store(path)
        assert store.jobs() == (JOB,)
        with pytest.raises(StoreUnwritable, match="Make room"):
            store.add(replace(MACHINE_OF_ONE, uuid="large", name="x" * 65536), ())
    store.add(replace(MACHINE_OF_ONE, uuid="large", name="x" * 65536), ())
    store.close()
    assert len(Store(path).machines()) == 2


def test_one_whose_content_is_none_is(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 8176)
    with pytest.raises(StoreDamaged, match="Restore it from a backup"):
        Store(tmp_path / "state.db")


# ---- the threads ----------------------------------------------------------------------------------


class Refusing(JobRunner):
    """A runner whose steps end in a change of the store; its pauses wait for the test."""

    def __init__(self, board: Board, store: Store) -> None:
        super().__init__(cast(Services, SimpleNamespace(board=board)), JOB.uuid, lambda: True, lambda _: None)
        self.board, self.store = board, store
        self.paused, self.go_on = threading.Event(), threading.Event()
        vars(self.signals)["pause"] = self.pause

    def pause(self, _: float | None) -> None:
        self.paused.set()
        assert self.go_on.wait(PATIENCE_S)

    def _do(self, job: Job) -> bool:
        self.board.hold(job.uuid, Hold.POOL)
        return True


def test_a_jobs_thread_waits_for_the_disk(store: Store) -> None:
    board = Board(store)
    board.add(MACHINE_OF_ONE, (replace(JOB, stage=Stage.COPYING),))
    runner = Refusing(board, store)
    with unwritable(store):
        runner.start()
        assert runner.paused.wait(PATIENCE_S)
        activity, why = board.activity(JOB.uuid)
        assert (activity, "cannot be written" in why) == (Activity.STALLED, True)
    runner.go_on.set()
    assert runner.join(PATIENCE_S)
    assert board.job(JOB.uuid).holds == {Hold.POOL}


class Failing(Refusing):
    """A runner whose steps fail the job."""

    def _do(self, job: Job) -> bool:
        if job.stage is Stage.FAILED:
            return True
        raise TargetInUse("/dev/x", 2)


def test_a_failure_that_cannot_be_stored_ends_no_thread(store: Store) -> None:
    """What is raised by the very handler of an error was caught by nobody."""
    board = Board(store)
    board.add(MACHINE_OF_ONE, (replace(JOB, stage=Stage.COPYING),))
    runner = Failing(board, store)
    with unwritable(store):
        runner.start()
        assert runner.paused.wait(PATIENCE_S)
    runner.go_on.set()
    assert runner.join(PATIENCE_S)
    assert board.job(JOB.uuid).stage is Stage.FAILED


def test_a_machine_is_registered_once_there_is_room(tmp_path: Path) -> None:
    lab = MachineLab(tmp_path)
    waits = threading.Event()
    change = lab.store.change_machine

    def full_once(*arguments: object) -> object:
        vars(lab.store).pop("change_machine")
        waits.set()
        with unwritable(lab.store):
            return change(*arguments)  # type: ignore[arg-type]  # as it is called

    vars(lab.store)["change_machine"] = full_once
    settle(lab, lab.desk.start, MachineState.REGISTERED)
    assert waits.is_set()
    assert list(lab.hypervisor.domains) == [MACHINE]


class Host:
    def scan(self) -> Inventory:
        return Inventory()

    def refresh(self, names: Collection[str]) -> Inventory:
        return Inventory()


def test_the_first_scan_with_a_job_that_may_work_now_does_not_end_the_looking(store: Store) -> None:
    board, later = Board(store), Later()
    keeper = InventoryKeeper(Host(), lambda *_: scheduler.decide())
    scheduler = Scheduler(board, keeper, Limits(in_all=1), lambda _: None, Again(later))
    board.add(MACHINE_OF_ONE, (replace(JOB, stage=Stage.COPYING, holds=frozenset({Hold.SLOT})),))
    with unwritable(store):
        keeper.start()
        keeper.fresh(PATIENCE_S)
        keeper.fresh(PATIENCE_S)
        assert board.job(JOB.uuid).holds == {Hold.SLOT}
    later.until(lambda: board.job(JOB.uuid).holds == frozenset(), board)
    keeper.stop()


class Later:
    """The main loop's timers: they go off when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def __call__(self, _: float, act: Callable[[], None]) -> None:
        self.waiting.append(act)

    def until(self, so: Callable[[], bool], board: Board) -> None:
        """Let them go off, and wait for what comes of it."""
        reached = threading.Event()

        def hear(_: Event) -> None:
            if so():
                reached.set()

        board.subscribe(hear)
        while self.waiting:
            self.waiting.pop()()
        assert reached.wait(PATIENCE_S)


def test_the_next_event_decides_again_what_could_not_be_stored(store: Store) -> None:
    board = Board(store)
    keeper = cast(InventoryKeeper, SimpleNamespace(scanned=True, current=Inventory))
    scheduler = Scheduler(board, keeper, Limits(in_all=1), lambda _: None, Again(lambda *_: None))
    board.add(MACHINE_OF_ONE, (replace(JOB, stage=Stage.COPYING, holds=frozenset({Hold.SLOT})),))
    board.subscribe(scheduler.hear)
    with unwritable(store):
        scheduler.decide()
    assert board.job(JOB.uuid).holds == {Hold.SLOT}
    board.progress(JOB.uuid, Progress(bytes_copied=1))
    assert board.job(JOB.uuid).holds == frozenset()


def test_a_subscriber_that_fails_keeps_the_news_from_no_other(store: Store) -> None:
    board = Board(store)
    heard: list[Event] = []

    def broken(_: Event) -> None:
        raise RuntimeError("a defect")

    board.subscribe(broken)
    board.subscribe(heard.append)
    board.add(MACHINE_OF_ONE, (JOB,))
    assert len(heard) == 2


def test_a_window_that_could_not_be_stored_is_shut_at_the_next_try(store: Store) -> None:
    """Else a job would work outside of it until the next one opens."""
    board, clock = Board(store), ToldClock(NOON)
    job = replace(JOB, plan=replace(JOB.plan, copy=replace(JOB.plan.copy, windows=NIGHTS)))
    board.add(MACHINE_OF_ONE, (replace(job, stage=Stage.COPYING),))
    windows = WindowKeeper(board, clock, lambda _: None)
    board.subscribe(windows.hear)
    with unwritable(store):
        windows.start()
        clock.await_sleep()
        assert board.job(JOB.uuid).holds == frozenset()
    board.publish(JobChanged(JOB.uuid))
    assert board.job(JOB.uuid).holds == {Hold.WINDOW}
    windows.stop()


def test_a_disk_whose_helper_cannot_be_started_keeps_no_other_waiting() -> None:
    disks, left = Disks(), iter([True, True, True])
    disks.gate.set()

    def start() -> FakeHelper:
        if next(left, False):
            raise OSError(12, "Cannot allocate memory")
        return disks.start()

    keeper = ContentsKeeper(start, lambda _: None)
    for name in ("first", "second", "third", "last"):
        keeper.refresh(replace(source(), id=name), PATIENCE_S)
    shown = keeper.attach(Inventory((replace(source(), id="first"), replace(source(), id="last"))))
    keeper.stop()
    first, last = shown.sources
    assert (first.examination, last.examination) == (Examination.FAILED, Examination.DONE)
    assert "Cannot allocate memory" in first.examination_problem


def test_the_daemon_starts_with_a_full_disk_and_says_what_it_could_not_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its jobs wait for room, and there is somebody who says so."""
    lab = ProvenMachine(tmp_path)
    running, old = BootTest(BootState.RUNNING, 1), Verification(VerifyState.RUNNING, 1)
    lab.board.change_machine(PROVEN.uuid, lambda one: replace(one, boot_test=running))
    windowed = replace(JOB.plan, copy=replace(JOB.plan.copy, windows=NIGHTS))
    lab.board.change(JOB.uuid, lambda job: replace(job, verification=old, plan=windowed, end_time_us=1))
    records = no_records(tmp_path, lab.services.store)
    services = replace(lab.services, again=Again(Later()))
    engine = Engine(services, PolicyKeeper(list), no_portals(tmp_path / "portals"), records)
    with unwritable(lab.services.store):
        engine.start()
        engine.tidy()
        assert engine.job(JOB.uuid).stage is Stage.PROVEN
        engine.stop()
    assert "how its boot test ended: The job store" in caplog.text
    assert "how its verification ended cannot be stored" in caplog.text
    assert "finished jobs cannot leave the bus" in caplog.text
    lab.services.store.close()


def test_a_portal_that_cannot_be_remembered_is_not_there(desk: Desk) -> None:
    with unwritable(desk.store), pytest.raises(StoreUnwritable):
        desk.portals.add(PortalRequest(A))
    assert desk.views() == {}
    desk.add(A)


def test_a_portal_that_cannot_be_taken_back_says_what_it_was_refused_for(
    desk: Desk, host: IscsiHost, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its thread ended, and it was `connecting` until the next start."""
    host.targets[IQN].failure = "login-wrong-secret"
    with monkeypatch.context() as patch:
        patch.setattr(desk.store, "remove_portal", full)
        view = desk.add(A, PortalState.REFUSED, **chap())
    assert view.error_name in ("LoginRefused", "LoginRejected")
    assert "that it is taken back is not stored: The job store" in caplog.text
    host.targets[IQN].failure = ""
    desk.add(A, PortalState.CONNECTED)


def full(*_: object) -> None:
    raise StoreUnwritable("/x/state.db", "database or disk is full")


def test_a_machine_whose_files_find_no_room_is_tried_again(tmp_path: Path) -> None:
    """What a conversion of its guest reads is written beside the store."""
    lab = MachineLab(tmp_path)
    lab.hypervisor.refuses.append(OSError(28, "No space left on device"))
    settle(lab, lab.desk.start, MachineState.REGISTERED)
    assert lab.hypervisor.asked.count("define") == 2
