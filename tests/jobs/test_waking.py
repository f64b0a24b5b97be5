"""A volume at rest that is activated to be read is at rest afterwards, wherever the daemon dies meanwhile."""

import contextlib
import itertools
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from p2vd.jobs import old_worker, verification
from p2vd.jobs.activation import make_startable
from p2vd.jobs.board import Board
from p2vd.jobs.boot_test import BootTests
from p2vd.jobs.job_target import JobLv
from p2vd.jobs.services import BootTester, Services
from p2vd.jobs.store import Store
from p2vd.jobs.verification import Verifications
from p2vd.jobs.waking import Recovery, awake
from p2vd.model.boot_test import BootReport, BootRequest, Sign
from p2vd.model.errors import IllegalTransition
from p2vd.model.job import Job, MachineState
from p2vd.model.verification import VerifyState
from p2vd.records.receipts import read_receipt
from p2vd.system.clock import boot_id
from p2vd.system.command import Result
from tests.jobs.machine_lab import Crash, Gate
from tests.jobs.proven_machine import JOB, MACHINE
from tests.jobs.test_verification import LONG_S, WHO, Lab

IN_USE = Result((), 5, "", "  Logical volume vg_san/erp1 in use.")


class Death(Gate):
    """Once the daemon is dead nothing of it goes on, its `finally` no more than the rest."""

    def __call__(self) -> None:
        self.passed += 1
        if 0 <= self.fatal < self.passed:
            raise Crash


class GatedStore(Store):
    """The store, whose changes of jobs pass the gate."""

    def __init__(self, path: Path, gate: Gate) -> None:
        super().__init__(path)
        self._gate = gate

    def change_job(self, uuid: str, change: Callable[[Job], Job]) -> Job:
        self._gate()
        job = super().change_job(uuid, change)
        self._gate()
        return job


class MortalVerifications(Verifications):
    """Their threads are just gone where the daemon dies."""

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self.gone = threading.Event()

    def _run(self, *arguments: Any) -> None:
        with contextlib.suppress(Crash):
            super()._run(*arguments)
        self.gone.set()


class MortalLab(Lab):
    """A daemon that dies at a passage of the gate; `again` is the next one."""

    def __init__(self, directory: Path, state: MachineState = MachineState.REGISTERED) -> None:
        self.gate = Death()
        super().__init__(directory, state)
        self.place = directory
        self.verifications: MortalVerifications = MortalVerifications(self.services)

    def _services(self, directory: Path, tester: BootTester) -> Services:
        services = super()._services(directory, tester)
        services.store.close()
        store = GatedStore(directory / "state.db", self.gate)
        return replace(services, store=store, board=Board(store))

    def _lvchange(self, argv: tuple[str, ...]) -> str:
        self.gate()
        said = super()._lvchange(argv)
        self.gate()
        return said

    @property
    def job(self) -> Job:
        return self.board.job(JOB.uuid)

    def again(self) -> "MortalLab":
        """The daemon that starts next, on the same host."""
        self.services.store.close()
        lab = MortalLab(self.place)
        lab.lv = self.lv
        return lab

    def found(self) -> JobLv:
        return JobLv(self.volume_group("vg-uuid"), self.lv)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[MortalLab]:
    lab = MortalLab(tmp_path)
    lab.lv = replace(lab.lv, active=False)
    yield lab
    lab.verifications.stop()
    lab.services.store.close()


def left_awake(lab: MortalLab, boot: str = "") -> None:
    """As a daemon leaves it that was killed while the volume was read."""
    lab.lv = replace(lab.lv, active=True)
    lab.board.change(JOB.uuid, lambda job: replace(job, woken_boot=boot or boot_id()))


def test_a_verification_that_died_anywhere_leaves_no_volume_active(tmp_path: Path) -> None:
    for fatal in itertools.count():
        (directory := tmp_path / str(fatal)).mkdir()
        lab = MortalLab(directory)
        lab.lv = replace(lab.lv, active=False)
        lab.gate.fatal = lab.gate.passed + fatal
        with contextlib.suppress(Crash):
            lab.verifications.start(JOB.uuid, WHO)
            assert lab.verifications.gone.wait(LONG_S)
        survived = lab.gate.passed <= lab.gate.fatal
        lab = lab.again()
        lab.verifications.recover()
        Recovery(lab.services, 0.0).run()
        assert not lab.lv.active
        assert lab.job.woken_boot == ""
        assert lab.job.verification is None or lab.job.verification.state is not VerifyState.RUNNING
        lab.services.store.close()
        if survived:
            assert fatal >= 10, "the gate was never passed"
            return


def test_the_note_is_durable_before_the_volume_is_active(lab: MortalLab) -> None:
    seen = []

    def lvchange(argv: tuple[str, ...]) -> str:
        seen.append(lab.job.woken_boot)
        return lab._lvchange(argv)

    lab.commands.replace("lvchange", lvchange)
    with awake(lab.services, lab.job, lab.found()) as target:
        assert target.lv.active
    assert seen == [boot_id(), boot_id()]
    assert lab.job.woken_boot == ""


def test_an_activation_that_fails_is_taken_back(lab: MortalLab) -> None:
    lab.commands.replace("lvchange", Result((), 5, "", "  activation failed"))
    lab.lv = replace(lab.lv, active=False)
    lab.verifications.start(JOB.uuid, WHO)
    assert lab.result().error == "CommandFailed"
    assert lab.job.woken_boot == ""


def test_who_ends_last_puts_it_to_rest(lab: MortalLab) -> None:
    with awake(lab.services, lab.job, lab.found()):
        with awake(lab.services, lab.job, lab.found()):
            pass
        assert lab.lv.active
    assert not lab.lv.active


def test_what_was_active_stays_so(lab: MortalLab) -> None:
    lab.lv = replace(lab.lv, active=True)
    with awake(lab.services, lab.job, lab.found()):
        assert lab.job.woken_boot == ""
    assert not lab.commands.changes


def test_a_volume_that_is_opened_meanwhile_costs_no_result_and_is_told(
    lab: MortalLab, caplog: pytest.LogCaptureFixture
) -> None:
    lab.commands.replace("lvchange", lab._lvchange, IN_USE)
    lab.verifications.start(JOB.uuid, WHO)
    assert lab.result().state is VerifyState.UNCHANGED
    assert lab.job.woken_boot == boot_id()
    assert "its LV stays active till p2vd's next start: /dev/vg_san/erp1 is in use" in caplog.text


def test_a_process_of_the_earlier_daemon_is_waited_for(
    lab: MortalLab, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    left_awake(lab)
    lab.commands.replace("lvchange", IN_USE, IN_USE, lab._lvchange)
    Recovery(lab.services, 0.0).run()
    assert not lab.lv.active
    assert lab.job.woken_boot == ""
    assert "vg_san/erp1, which was activated to be read, is at rest again" in caplog.text


def test_what_somebody_has_open_is_theirs(lab: MortalLab, caplog: pytest.LogCaptureFixture) -> None:
    left_awake(lab)
    lab.commands.replace("lvchange", IN_USE)
    Recovery(lab.services, 0.0).run()
    assert lab.lv.active
    assert lab.job.woken_boot == ""
    assert "somebody has it open: it stays active" in caplog.text
    assert "lvchange -an /dev/vg_san/erp1" in caplog.text


def test_what_a_hung_verification_has_open_is_ours_still(
    lab: MortalLab, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its paths are down, say: the next start looks again, and nobody is told that it is theirs."""
    left_awake(lab)
    lab.commands.replace("lvchange", IN_USE)
    monkeypatch.setattr(old_worker, "find", lambda uuid, what: 4711 if what == old_worker.VERIFIER else None)
    Recovery(lab.services, 0.0).run()
    assert lab.job.woken_boot == boot_id()
    assert "process 4711 of an earlier verification still has its LV open" in caplog.text
    assert "lvchange -an" not in caplog.text


def test_a_volume_that_is_no_longer_ours_is_not_touched(
    lab: MortalLab, caplog: pytest.LogCaptureFixture
) -> None:
    left_awake(lab)
    lab.lv = replace(lab.lv, tags=frozenset())
    Recovery(lab.services, 0.0).run()
    assert not lab.commands.changes
    assert lab.job.woken_boot == ""
    assert "is no longer in vg_san" in caplog.text


def test_what_the_hosts_boot_has_activated_is_not_touched(lab: MortalLab) -> None:
    left_awake(lab, "an earlier boot")
    Recovery(lab.services, 0.0).run()
    assert not lab.commands.changes
    assert lab.job.woken_boot == ""


def test_a_volume_group_that_is_away_is_looked_at_at_the_next_start(
    lab: MortalLab, caplog: pytest.LogCaptureFixture
) -> None:
    left_awake(lab)
    lab.absent = True
    Recovery(lab.services, 0.0).run()
    assert lab.job.woken_boot == boot_id()
    assert "its LV may still be active" in caplog.text
    lab.absent = False
    Recovery(lab.services, 0.0).run()
    assert not lab.lv.active


def test_an_activation_that_outlives_its_daemon_is_waited_for(
    lab: MortalLab, caplog: pytest.LogCaptureFixture
) -> None:
    left_awake(lab)
    lab.commands.running = frozenset({f"{JOB.uuid}-activate"})
    Recovery(lab.services, 0.0).run()
    assert not lab.commands.changes
    assert lab.job.woken_boot == boot_id()
    assert f"p2vd-change-{JOB.uuid}-activate.service still runs" in caplog.text


def test_a_machine_that_is_started_keeps_its_volumes(lab: MortalLab) -> None:
    left_awake(lab)
    make_startable(lab.services, MACHINE)
    assert lab.job.woken_boot == ""
    Recovery(lab.services, 0.0).run()
    assert lab.lv.active


def test_a_stopped_daemon_leaves_the_rest_to_the_next(lab: MortalLab) -> None:
    left_awake(lab)
    recovery = Recovery(lab.services, 0.0)
    recovery.stop()
    recovery.run()
    assert lab.lv.active
    assert lab.job.woken_boot == boot_id()


def test_a_boot_test_has_its_note_too(lab: MortalLab) -> None:
    notes = []

    class Tester:
        def run(self, request: BootRequest, stop: threading.Event) -> BootReport:
            notes.append(lab.job.woken_boot)
            return BootReport(True, Sign.SERIAL, "The guest lives.", "", b"", "kvm")

    tests = BootTests(replace(lab.services, boot_tester=Tester()))
    tests.start(MACHINE.uuid, {})
    tests.end(MACHINE.uuid)
    assert notes == [boot_id()]
    assert not lab.lv.active
    assert lab.job.woken_boot == ""


def test_the_note_outlives_an_activation_that_is_not_over(lab: MortalLab) -> None:
    """Of an earlier daemon, whose unit has the name: LVM has not said yet that the volume is active."""
    left_awake(lab)
    lab.lv = replace(lab.lv, active=False)
    lab.commands.running = frozenset({f"{JOB.uuid}-activate"})
    lab.commands.replace("lvchange", Result((), 1, "", "Unit p2vd-change.service was already loaded"))
    lab.verifications.start(JOB.uuid, WHO)
    assert lab.result().error == "CommandFailed"
    assert lab.job.woken_boot == boot_id()
    lab.lv = replace(lab.lv, active=True)
    lab.commands.running = frozenset()
    lab.commands.replace("lvchange", lab._lvchange)
    Recovery(lab.services, 0.0).run()
    assert not lab.lv.active


def full(lab: MortalLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the store has no room for the end of a note."""
    change = lab.services.store.change_job

    def change_job(uuid: str, how: Callable[[Job], Job]) -> Job:
        before = lab.services.store.job(uuid)
        if before.woken_boot and not how(before).woken_boot:
            raise sqlite3.OperationalError("database or disk is full")
        return change(uuid, how)

    monkeypatch.setattr(lab.services.store, "change_job", change_job)


def test_a_note_that_cannot_be_ended_costs_no_result(lab: MortalLab, monkeypatch: pytest.MonkeyPatch) -> None:
    full(lab, monkeypatch)
    lab.verifications.start(JOB.uuid, WHO)
    assert lab.result().state is VerifyState.UNCHANGED
    assert not lab.lv.active


def test_one_that_cannot_be_put_to_rest_ends_no_recovery_of_others(
    lab: MortalLab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    left_awake(lab)
    full(lab, monkeypatch)
    Recovery(lab.services, 0.0).run()
    assert not lab.lv.active
    assert "its LV may still be active" in caplog.text


def test_who_looks_at_it_when_a_recovery_comes_is_waited_for(lab: MortalLab) -> None:
    left_awake(lab)
    recovery = Recovery(lab.services, 0.0)
    with awake(lab.services, lab.job, lab.found()):
        assert recovery._is_left(JOB.uuid, False)
    assert not recovery._is_left(JOB.uuid, False)
    assert not lab.lv.active


@pytest.mark.parametrize("taken", [MachineState.REGISTERING, MachineState.ROLLING_BACK])
def test_a_machine_that_is_taken_while_a_verification_begins_is_not_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: MachineState
) -> None:
    lab = MortalLab(tmp_path, MachineState.READY)
    lab.lv = replace(lab.lv, active=False)

    def slowly(jobs: Path, uuid: str) -> str:
        lab.board.change_machine(MACHINE.uuid, lambda machine: replace(machine, state=taken))
        lab.verifications.end(MACHINE.uuid)  # its volumes are free, as far as that can tell
        return read_receipt(jobs, uuid)

    monkeypatch.setattr(verification, "read_receipt", slowly)
    with pytest.raises(IllegalTransition):
        lab.verifications.start(JOB.uuid, WHO)
    assert lab.job.woken_boot == ""
    assert not lab.commands.changes
    lab.services.store.close()
