"""What is durable, and that it is durable before anyone hears of it."""

import json
import os
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from p2vd.jobs.board import Board
from p2vd.jobs.events import Event, JobAdded, JobChanged, MachineAdded
from p2vd.jobs.store import Store, StoreDamaged, StoreNewer, StoreUnwritable
from p2vd.jobs.transitions import JobEvent
from p2vd.model.codec import to_dict
from p2vd.model.copying import Progress
from p2vd.model.disk import Portal
from p2vd.model.errors import IllegalTransition, NotFound
from p2vd.model.job import Activity, Hold, Job, JobError, Machine, MachineState, Stage
from p2vd.model.passport import Cpu, Nic, Passport, PassportDisk
from p2vd.model.plan import Firmware
from p2vd.model.portal import Node, PortalRecord
from tests.jobs.values import disk_plan, machine_and_job, plan


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def test_what_was_put_is_there_for_the_next_daemon(path: Path) -> None:
    machine, job = machine_and_job()
    job = replace(job, holds=frozenset({Hold.USER, Hold.POOL}), error=JobError("A", "b"))
    store = Store(path)
    store.put_plan(plan())
    store.add(machine, (job,))
    again = Store(path)
    assert again.plan(plan().id) == plan()
    assert again.jobs() == (job,)
    assert again.machines() == (machine,)


def test_plans_and_jobs_of_format_1_are_read(path: Path) -> None:
    """A plan was one disk's then, and a job had it whole."""
    machine, job = machine_and_job()
    store = Store(path)
    store.add(machine, (job,))
    store.close()
    one = to_dict(disk_plan()) | {"domain": to_dict(plan().domain)}
    for key in ("number", "of"):
        del one[key]
    old_job = to_dict(job) | {"plan": one}
    del old_job["finished"]
    db = sqlite3.connect(path)
    db.execute("INSERT INTO record (kind, id, value) VALUES ('plan', ?, ?)", (job.plan.id, json.dumps(one)))
    db.execute("UPDATE record SET value = ? WHERE kind = 'job'", (json.dumps(old_job),))
    db.execute("PRAGMA user_version=1")
    db.commit()
    for _ in range(2):
        store = Store(path)
        assert store.plan(plan().id) == plan()
        assert store.jobs() == (job,)
        store.close()


def test_a_plan_of_format_1_that_does_not_fit_is_named_and_nothing_is_changed(path: Path) -> None:
    Store(path).close()
    db = sqlite3.connect(path)
    db.execute("INSERT INTO record (kind, id, value) VALUES ('plan', 'x', '{}')")
    db.execute("PRAGMA user_version=1")
    db.commit()
    with pytest.raises(StoreDamaged, match="a plan of format 1"):
        Store(path)
    assert db.execute("PRAGMA user_version").fetchone() == (1,)


def test_portals_are_remembered_and_forgotten(path: Path) -> None:
    node = Node("iqn.x", "10.1.1.1", 3260, 1, record_made=True, session_boot="boot")
    record = PortalRecord(Portal("10.1.1.1", 3260), "ens4", ("iqn.x",), chap=True, nodes=(node,))
    store = Store(path)
    store.put_portal(record)
    assert Store(path).portals() == (record,)
    store.remove_portal(record.id)
    store.remove_portal(record.id)
    assert Store(path).portals() == store.portals() == ()


def test_passports_are_kept_by_name_and_forgotten(path: Path) -> None:
    first = Passport("erp1", cpu=Cpu("Xeon", sockets=2), disks=(PassportDisk("sda", 1 << 30, "3600a"),))
    second = Passport("erp2", nics=(Nic("eno1", mac="52:54:00:00:00:01"),), firmware=Firmware.UEFI)
    store = Store(path)
    store.put_passport(first)
    store.put_passport(second)
    assert Store(path).passports() == (first, second)
    store.put_passport(replace(first, memory_bytes=1 << 30))
    assert Store(path).passport("erp1").memory_bytes == 1 << 30
    store.remove_passport("erp1")
    store.remove_passport("erp1")
    assert Store(path).passports() == (second,)
    with pytest.raises(NotFound, match="erp1"):
        store.passport("erp1")


def test_what_is_not_there_is_said(path: Path) -> None:
    with pytest.raises(NotFound, match="no job 'x'"):
        Store(path).job("x")


def test_a_change_that_raises_changes_nothing(path: Path) -> None:
    machine, job = machine_and_job()
    store = Store(path)
    store.add(machine, (job,))

    def fail(job: Job) -> Job:
        raise ValueError(job.uuid)

    with pytest.raises(ValueError, match=job.uuid):
        store.change_job(job.uuid, fail)
    assert store.job(job.uuid) == job


def test_a_machine_is_kept_with_all_its_jobs_or_not_at_all(path: Path) -> None:
    machine, job = machine_and_job()
    store = Store(path)
    unserialisable = replace(job, uuid="3", plan=object())  # type: ignore[arg-type]  # provokes a failure midway
    with pytest.raises(AttributeError):
        store.add(machine, (job, unserialisable))
    assert store.machines() == ()
    assert store.jobs() == ()


class Full:
    """A database on a disk that is full when a transaction ends."""

    def __init__(self, inner: sqlite3.Connection) -> None:
        self.inner = inner

    def execute(self, text: str, *more: Any) -> sqlite3.Cursor:
        if text == "COMMIT":
            self.inner.execute("ROLLBACK")  # as SQLite does by itself
            raise sqlite3.OperationalError("database or disk is full")
        return self.inner.execute(text, *more)

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)


def test_what_could_not_be_committed_is_not_remembered(path: Path) -> None:
    machine, job = machine_and_job()
    store = Store(path)
    inner, vars(store)["_db"] = store._db, Full(store._db)
    with pytest.raises(StoreUnwritable, match="disk is full"):
        store.add(machine, (job,))
    vars(store)["_db"] = inner
    assert (store.machines(), store.jobs()) == ((), ())
    with pytest.raises(NotFound):
        store.job(job.uuid)
    store.add(machine, (job,))
    assert store.jobs() == (job,)


@pytest.mark.parametrize("garbage", [b"not a database at all" * 400, os.urandom(8192)], ids=["text", "noise"])
def test_a_damaged_store_is_refused_with_its_path(path: Path, garbage: bytes) -> None:
    path.write_bytes(garbage)
    with pytest.raises(StoreDamaged, match=r"state\.db"):
        Store(path)


def test_a_store_of_a_newer_p2vd_is_refused(path: Path) -> None:
    Store(path).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version=99")
    db.commit()
    with pytest.raises(StoreNewer, match="newer p2vd"):
        Store(path)


def test_a_record_that_does_not_fit_is_named(path: Path) -> None:
    machine, job = machine_and_job()
    store = Store(path)
    store.add(machine, (job,))
    store.close()
    db = sqlite3.connect(path)
    db.execute("UPDATE record SET value = '{\"uuid\": 3}' WHERE kind = 'job'")
    db.commit()
    with pytest.raises(StoreDamaged, match=job.uuid):
        Store(path).jobs()


def test_a_subscriber_finds_in_the_file_what_it_was_told(path: Path) -> None:
    machine, job = machine_and_job()
    board = Board(Store(path))
    seen: list[tuple[Event, Stage]] = []
    board.subscribe(lambda event: seen.append((event, Store(path).job(job.uuid).stage)))
    board.add(machine, (job,))
    board.advance(job.uuid, JobEvent.START)
    assert seen[:2] == [(MachineAdded(machine.uuid), Stage.PLANNED), (JobAdded(job.uuid), Stage.PLANNED)]
    assert (JobChanged(job.uuid), Stage.PROVISIONING) in seen


def test_an_illegal_event_tells_nobody(path: Path) -> None:
    machine, job = machine_and_job()
    board = Board(Store(path))
    board.add(machine, (job,))
    seen: list[Event] = []
    board.subscribe(seen.append)
    with pytest.raises(IllegalTransition):
        board.advance(job.uuid, JobEvent.PROVEN)
    assert seen == []


def test_progress_is_of_this_moment_and_is_written_with_the_next_transition(path: Path) -> None:
    machine, job = machine_and_job()
    board = Board(Store(path))
    board.add(machine, (replace(job, stage=Stage.COPYING),))
    board.progress(job.uuid, Progress(bytes_copied=7))
    assert board.job(job.uuid).progress.bytes_copied == 7
    assert Store(path).job(job.uuid).progress.bytes_copied == 0
    board.advance(job.uuid, JobEvent.COPIED)
    assert Store(path).job(job.uuid).progress.bytes_copied == 7


def test_holds_are_durable_idempotent_and_outlive_each_other(path: Path) -> None:
    machine, job = machine_and_job()
    board = Board(Store(path))
    board.add(machine, (job,))
    board.hold(job.uuid, Hold.USER)
    board.hold(job.uuid, Hold.WINDOW)
    seen: list[Event] = []
    board.subscribe(seen.append)
    board.hold(job.uuid, Hold.USER)
    assert seen == []
    board.release(job.uuid, Hold.WINDOW)
    assert Store(path).job(job.uuid).holds == {Hold.USER}


def test_the_end_of_a_job_has_a_time_until_it_is_tried_again(path: Path) -> None:
    machine, job = machine_and_job()
    board = Board(Store(path))
    board.add(machine, (replace(job, stage=Stage.COPYING),))
    assert board.advance(job.uuid, JobEvent.FAIL, JobError("A", "b")).end_time_us > 0
    assert board.advance(job.uuid, JobEvent.RETRY).end_time_us == 0


def test_activity_is_told_once(path: Path) -> None:
    machine, job = machine_and_job()
    board = Board(Store(path))
    board.add(machine, (job,))
    seen: list[Event] = []
    board.subscribe(seen.append)
    board.set_activity(job.uuid, Activity.STALLED, "read at 0")
    board.set_activity(job.uuid, Activity.STALLED, "read at 0")
    assert seen == [JobChanged(job.uuid)]
    assert board.activity(job.uuid) == (Activity.STALLED, "read at 0")


class Meanwhile(Store):
    """A store in which something else is tried right after a machine was read."""

    attempt: Callable[[], object] | None = None
    other: threading.Thread | None = None

    def machine(self, uuid: str) -> Machine:
        found = super().machine(uuid)
        attempt, self.attempt = self.attempt, None
        if attempt is not None:
            self.other = threading.Thread(target=attempt)
            self.other.start()
            self.other.join(0.3)  # as far as it gets
        return found


def ready_machine(path: Path) -> tuple[Meanwhile, Board, Job]:
    machine, job = machine_and_job()
    store = Meanwhile(path)
    board = Board(store)
    board.add(replace(machine, state=MachineState.READY), (replace(job, stage=Stage.PROVEN),))
    return store, board, job


def together(store: Meanwhile, first: Callable[[], object]) -> None:
    """Two threads do the same; the other one begins when the first has read the machine."""
    store.attempt = first
    first()
    assert store.other is not None
    store.other.join()


def test_of_two_jobs_that_start_at_once_one_starts_the_machine(path: Path) -> None:
    """The other one was failed by that: the machine was copying already."""
    machine, job = machine_and_job()
    store = Meanwhile(path)
    board = Board(store)
    board.add(machine, (job,))
    errors: list[IllegalTransition] = []

    def start() -> None:
        try:
            board.start_machine(machine.uuid)
        except IllegalTransition as error:
            errors.append(error)

    together(store, start)
    assert (errors, board.machine(machine.uuid).state) == ([], MachineState.COPYING)


def test_of_two_jobs_that_end_cancelled_at_once_one_ends_the_machine(path: Path) -> None:
    machine, job = machine_and_job()
    store = Meanwhile(path)
    board = Board(store)
    second = replace(job, uuid="second", stage=Stage.CANCELLED)
    board.add(replace(machine, jobs=(job.uuid, "second"), state=MachineState.COPYING), (job, second))
    board.cancel_machine(machine.uuid)
    assert board.machine(machine.uuid).state is MachineState.COPYING
    board.change(job.uuid, lambda one: replace(one, stage=Stage.CANCELLED))
    together(store, lambda: board.cancel_machine(machine.uuid))
    assert board.machine(machine.uuid).state is MachineState.CANCELLED


def test_a_cancel_comes_first_and_the_machine_is_not_registered(path: Path) -> None:
    store, board, job = ready_machine(path)
    store.attempt = lambda: board.begin_registration(job.machine_uuid)
    board.cancel(job.uuid, keep_target=False)
    assert store.other is not None
    store.other.join()
    assert board.job(job.uuid).stage is Stage.CANCELLING
    assert board.machine(job.machine_uuid).state is MachineState.READY


def test_the_registration_comes_first_and_the_job_cannot_be_cancelled(path: Path) -> None:
    """Its target would be removed under a defined domain."""
    store, board, job = ready_machine(path)
    refusals: list[IllegalTransition] = []

    def cancel() -> None:
        try:
            board.cancel(job.uuid, keep_target=False)
        except IllegalTransition as refusal:
            refusals.append(refusal)

    store.attempt = cancel
    assert board.begin_registration(job.machine_uuid).state is MachineState.REGISTERING
    assert store.other is not None
    store.other.join()
    assert "machine registering" in str(refusals[0])
    assert board.job(job.uuid).stage is Stage.PROVEN
