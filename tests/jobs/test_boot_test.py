"""Boot tests as jobs see them: when one may be, what is started, what is kept of it, how it ends."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from p2vd.jobs import boot_test
from p2vd.jobs.boot_test import BootTests
from p2vd.jobs.events import Event, MachineChanged
from p2vd.jobs.store import Store
from p2vd.model.boot_test import BootReport, BootRequest, BootState, BootTest, Sign
from p2vd.model.domain import MachineType
from p2vd.model.errors import IllegalTransition, InvalidArgument, P2vdError
from p2vd.model.job import Machine, MachineState
from p2vd.model.plan import DiskBus
from p2vd.model.size import GIB
from p2vd.registration.errors import BootTestInterrupted, VolumeInUse
from tests.jobs.proven_machine import JOB, MACHINE, ProvenMachine
from tests.jobs.values import plan

LONG_S = 60.0
REPORT = BootReport(True, Sign.SERIAL, "The guest lives.", "login:", b"\x89PNG", "kvm")


class FakeTester:
    """Reports what a test puts into `outcomes`, or waits there until it is stopped."""

    def __init__(self) -> None:
        self.requests: list[BootRequest] = []
        self.outcomes: Queue[BootReport | P2vdError] = Queue()
        self.entered = threading.Event()
        self.waits = False

    def run(self, request: BootRequest, stop: threading.Event) -> BootReport:
        self.requests.append(request)
        self.entered.set()
        if self.waits:
            stop.wait(LONG_S)
            raise BootTestInterrupted(request.machine.name)
        outcome = self.outcomes.get(timeout=LONG_S)
        if isinstance(outcome, P2vdError):
            raise outcome
        return outcome


class Lab(ProvenMachine):
    """A machine that is tested by a fake."""

    def __init__(self, directory: Path, state: MachineState = MachineState.REGISTERED) -> None:
        self.tester = FakeTester()
        super().__init__(directory, state, self.tester)
        self.commands.on("lvchange", self._lvchange)
        self.changed = threading.Semaphore(0)
        self.board.subscribe(self._hear)
        self.tests = BootTests(self.services)

    def _lvchange(self, argv: tuple[str, ...]) -> str:
        self.lv = replace(self.lv, active=argv[argv.index("--activate") + 1] == "y")
        return ""

    def _hear(self, event: Event) -> None:
        if isinstance(event, MachineChanged):
            self.changed.release()

    def result(self) -> BootTest:
        """Wait for the end of the test."""
        while True:
            assert self.changed.acquire(timeout=LONG_S)
            test = self.board.machine(MACHINE.uuid).boot_test
            if test is not None and test.state is not BootState.RUNNING:
                return test


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    lab.tests.stop()
    lab.services.store.close()


def test_a_machine_is_started_as_it_is_defined(lab: Lab) -> None:
    lab.tester.outcomes.put(REPORT)
    lab.tests.start(MACHINE.uuid, {"expect": "login:", "timeout": 60})
    lab.result()
    (request,) = lab.tester.requests
    assert (request.expect, request.timeout_s) == ("login:", 60)
    (disk,) = request.machine.disks
    assert (disk.devnode, disk.dm_name) == ("/dev/mapper/vg_san-erp1", "vg_san-erp1")
    assert disk.serial == JOB.plan.source.wwid[-20:]
    assert request.machine.memory_bytes == 2 * GIB
    assert request.machine.kvm


@pytest.mark.parametrize(
    ("asked", "bus", "chipset"),
    [
        pytest.param({"bus": DiskBus.AUTO}, DiskBus.SATA, MachineType.Q35, id="of a guest nothing is known"),
        pytest.param(
            {"bus": DiskBus.IDE, "machine_type": MachineType.PC}, DiskBus.IDE, MachineType.PC, id="old"
        ),
    ],
)
def test_what_the_policy_leaves_open_is_as_the_definition_has_it(
    lab: Lab, asked: dict[str, Any], bus: DiskBus, chipset: MachineType
) -> None:
    lab.services.store.put_plan(replace(plan("0ther"), domain=replace(plan().domain, **asked)))
    lab.board.change_machine(MACHINE.uuid, lambda machine: replace(machine, plan_id="0ther"))
    lab.tester.outcomes.put(REPORT)
    lab.tests.start(MACHINE.uuid, {})
    lab.result()
    (request,) = lab.tester.requests
    assert (request.machine.bus, request.machine.machine_type) == (bus, chipset)


def test_what_was_seen_is_kept_with_its_picture(lab: Lab, tmp_path: Path) -> None:
    lab.tester.outcomes.put(REPORT)
    lab.tests.start(MACHINE.uuid, {})
    test = lab.result()
    assert (test.state, test.sign, test.seen, test.serial) == (
        BootState.BOOTED,
        Sign.SERIAL,
        "The guest lives.",
        "login:",
    )
    assert Path(test.screenshot).read_bytes() == b"\x89PNG"
    assert Path(test.screenshot).is_relative_to(tmp_path)
    assert test.started_us <= test.ended_us
    again = Store(tmp_path / "state.db")
    assert again.machine(MACHINE.uuid).boot_test == test
    again.close()


def test_a_guest_that_shows_nothing_has_not_booted(lab: Lab) -> None:
    lab.tester.outcomes.put(replace(REPORT, booted=False, sign=Sign.NONE, screen=b""))
    lab.tests.start(MACHINE.uuid, {})
    test = lab.result()
    assert (test.state, test.screenshot) == (BootState.NOT_BOOTED, "")


def test_a_test_that_cannot_be_carried_out_says_nothing_of_the_machine(lab: Lab) -> None:
    lab.tester.outcomes.put(VolumeInUse("erp1", "/dev/vg_san/erp1", "1"))
    lab.tests.start(MACHINE.uuid, {})
    test = lab.result()
    assert (test.state, test.error) == (BootState.FAILED, "VolumeInUse")
    assert "is open already" in test.seen


def test_a_machine_that_runs_is_not_started_a_second_time(lab: Lab) -> None:
    lab.hypervisor.running = True
    lab.tests.start(MACHINE.uuid, {})
    assert lab.result().error == "MachineRuns"
    assert not lab.tester.requests


def test_a_volume_is_activated_for_the_test_and_left_as_it_was(lab: Lab) -> None:
    lab.lv = replace(lab.lv, active=False)
    lab.tester.outcomes.put(REPORT)
    lab.tests.start(MACHINE.uuid, {})
    assert lab.result().state is BootState.BOOTED
    verbs = [argv[argv.index("--activate") + 1] for argv in lab.commands.changes]
    assert verbs == ["y", "n"]
    assert all(f'lv_tags="p2vd.job={JOB.uuid}"' in " ".join(argv) for argv in lab.commands.changes)


def test_an_active_volume_stays_so(lab: Lab) -> None:
    lab.tester.outcomes.put(REPORT)
    lab.tests.start(MACHINE.uuid, {})
    lab.result()
    assert not lab.commands.changes


@pytest.mark.parametrize("state", [MachineState.COPYING, MachineState.REGISTERING, MachineState.ROLLED_BACK])
def test_only_a_machine_whose_disks_are_proven_is_tested(tmp_path: Path, state: MachineState) -> None:
    lab = Lab(tmp_path, state)
    with pytest.raises(IllegalTransition, match=state.value):
        lab.tests.start(MACHINE.uuid, {})
    assert lab.board.machine(MACHINE.uuid).boot_test is None


def test_one_test_a_machine_at_a_time(lab: Lab) -> None:
    lab.tester.waits = True
    lab.tests.start(MACHINE.uuid, {})
    with pytest.raises(IllegalTransition, match="being tested"):
        lab.tests.start(MACHINE.uuid, {})


def test_a_picture_that_cannot_be_kept_costs_no_result(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    lab.tester.outcomes.put(REPORT)
    lab.tests.start(MACHINE.uuid, {})
    test = lab.result()
    assert (test.state, test.screenshot) == (BootState.BOOTED, "")


def test_how_it_ended_is_stored_once_that_can_be(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then it is not over: nobody is told that it still runs for ever."""
    monkeypatch.setattr(boot_test, "_AGAIN_S", 0.01)
    change, left = lab.services.store.change_machine, iter(["ok", "full", "full", "ok"])

    def change_machine(uuid: str, how: Callable[[Machine], Machine]) -> Machine:
        if next(left) == "full":
            raise sqlite3.OperationalError("database or disk is full")
        return change(uuid, how)

    monkeypatch.setattr(lab.services.store, "change_machine", change_machine)
    lab.tester.outcomes.put(REPORT)
    lab.tests.start(MACHINE.uuid, {})
    assert lab.result().state is BootState.BOOTED
    assert next(left, "") == ""


def test_a_machine_that_is_taken_while_a_test_begins_is_not_tested(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever takes it has seen no test to be ended."""
    machine, told = lab.board.machine, iter([MachineState.READY, MachineState.REGISTERING])
    monkeypatch.setattr(lab.board, "machine", lambda uuid: replace(machine(uuid), state=next(told)))
    with pytest.raises(IllegalTransition):
        lab.tests.start(MACHINE.uuid, {})
    monkeypatch.undo()
    assert lab.board.machine(MACHINE.uuid).boot_test is None
    assert not lab.tester.requests


def test_a_machine_that_is_taken_while_a_test_is_being_noted_is_not_tested(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever takes it has ended the test, and found no thread of it to wait for: its volumes are free."""
    change = lab.services.store.change_machine

    def taken_now(uuid: str, how: Callable[[Machine], Machine]) -> Machine:
        machine = change(uuid, how)
        lab.tests.end(MACHINE.uuid)
        return machine

    with monkeypatch.context() as patch:
        patch.setattr(lab.services.store, "change_machine", taken_now)
        with pytest.raises(IllegalTransition, match="wanted otherwise"):
            lab.tests.start(MACHINE.uuid, {})
    assert lab.board.machine(MACHINE.uuid).boot_test is None
    assert not lab.tester.requests
    lab.tester.outcomes.put(REPORT)
    lab.tests.start(MACHINE.uuid, {})
    assert lab.result().state is BootState.BOOTED


def test_a_stop_waits_no_longer_than_it_is_given(lab: Lab) -> None:
    """A boot test may hang beside workers that have a checkpoint to commit."""
    lab.tests.start(MACHINE.uuid, {})
    assert lab.tester.entered.wait(LONG_S)
    lab.tests.stop(0.0)
    test = lab.board.machine(MACHINE.uuid).boot_test
    assert test is not None
    assert test.state is BootState.RUNNING
    lab.tester.outcomes.put(BootTestInterrupted(MACHINE.name))
    lab.tests.stop(LONG_S)
    assert lab.result().error == "BootTestInterrupted"


def test_one_that_cannot_be_begun_may_be_asked_for_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk of the store is full: nothing is noted, and nothing left as running."""

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(lab.services.store, "change_machine", full)
        with pytest.raises(sqlite3.OperationalError):
            lab.tests.start(MACHINE.uuid, {})
    assert lab.board.machine(MACHINE.uuid).boot_test is None
    lab.tester.outcomes.put(REPORT)
    lab.tests.start(MACHINE.uuid, {})
    assert lab.result().state is BootState.BOOTED


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"expect": "("}, "option expect"),
        ({"timeout": 0}, "option timeout"),
        ({"timeout": 999_999}, "option timeout"),
        ({"memory": 4096}, "option memory"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_noted(
    lab: Lab, options: dict[str, object], place: str
) -> None:
    with pytest.raises(InvalidArgument, match=place):
        lab.tests.start(MACHINE.uuid, options)
    assert lab.board.machine(MACHINE.uuid).boot_test is None


def test_more_memory_than_the_machine_has_is_refused(lab: Lab) -> None:
    lab.tests.start(MACHINE.uuid, {"memory": 64 * GIB})
    assert lab.result().error == "InvalidArgument"


def test_a_volume_group_that_is_not_there_is_said(lab: Lab) -> None:
    lab.absent = True
    lab.tests.start(MACHINE.uuid, {})
    test = lab.result()
    assert test.error == "BootTestCannotRun"
    assert test.seen.endswith("volume group vg_san (vg-uuid) is not attached.")


def test_the_end_of_a_test_frees_the_volumes_before_it_returns(lab: Lab) -> None:
    """What is to start the machine in earnest ends its test first."""
    lab.tester.waits = True
    lab.lv = replace(lab.lv, active=False)
    lab.tests.start(MACHINE.uuid, {})
    assert lab.tester.entered.wait(LONG_S)
    lab.tests.end(MACHINE.uuid)
    assert not lab.lv.active
    assert lab.result().error == "BootTestInterrupted"


def test_after_a_stop_none_begins(lab: Lab) -> None:
    lab.tests.stop()
    with pytest.raises(IllegalTransition):
        lab.tests.start(MACHINE.uuid, {})


def test_a_test_that_ended_with_its_daemon_is_said_to_have_seen_nothing(lab: Lab) -> None:
    lab.board.change_machine(
        MACHINE.uuid, lambda machine: replace(machine, boot_test=BootTest(BootState.RUNNING, 1))
    )
    BootTests(lab.services).recover()
    test = lab.result()
    assert (test.state, test.error, test.started_us) == (BootState.FAILED, "BootTestInterrupted", 1)
