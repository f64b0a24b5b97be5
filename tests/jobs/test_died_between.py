"""A daemon that died between the commits of a job and of its machine: the next one ends what was begun."""

import itertools
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from p2vd.jobs.board import Board
from p2vd.jobs.engine import Engine
from p2vd.jobs.events import Event
from p2vd.jobs.policies import PolicyKeeper
from p2vd.jobs.runner import JobRunner
from p2vd.jobs.services import Services
from p2vd.jobs.store import Store
from p2vd.model.inventory import Inventory
from p2vd.model.job import Job, Machine, MachineState, Stage
from p2vd.model.plan import Cutover
from tests.jobs.machine_lab import PATIENCE_S, Crash, Gate, GatedStore
from tests.jobs.portal_desk import no_portals
from tests.jobs.proven_machine import ProvenMachine
from tests.jobs.record_desk import no_records
from tests.jobs.values import machine_and_job, plan

MACHINE, JOB = machine_and_job()


class FatalStore(GatedStore):
    """The store, whose changes of jobs pass the gate too."""

    def change_job(self, uuid: str, change: Callable[[Job], Job]) -> Job:
        self._gate()
        job = super().change_job(uuid, change)
        self._gate()
        return job


def keep(path: Path, machine: Machine, job: Job) -> None:
    store = Store(path)
    store.put_plan(plan())
    store.add(replace(machine, cutover=Cutover.MANUAL), (job,))
    store.close()


def run_until_the_gate(path: Path, gate: Gate) -> bool:
    """Do one step of the job; return whether the daemon died in it."""
    store = FatalStore(path, gate)
    board = Board(store)
    inventory = SimpleNamespace(current=Inventory)
    services = cast(Services, SimpleNamespace(board=board, inventory=inventory))
    runner = JobRunner(services, JOB.uuid, lambda: True, lambda _: None)
    try:
        runner._do(board.job(JOB.uuid))
    except Crash:
        return True
    finally:
        store.close()
    return False


def restarted(directory: Path, *states: MachineState) -> ProvenMachine:
    """Start a daemon's engine over what is stored, and wait until the machine is in one of the states."""
    lab = ProvenMachine(directory)
    records = no_records(directory, lab.services.store)
    engine = Engine(lab.services, PolicyKeeper(list), no_portals(directory / "portals"), records)
    reached = threading.Event()

    def hear(_: Event | None) -> None:
        if lab.board.machine(MACHINE.uuid).state in states:
            reached.set()

    lab.board.subscribe(hear)
    engine.start()
    hear(None)
    found = reached.wait(PATIENCE_S)
    engine.stop()
    assert found, lab.board.machine(MACHINE.uuid)
    return lab


def test_a_start_that_died_anywhere_leaves_no_machine_planned(tmp_path: Path) -> None:
    for fatal in itertools.count():
        directory = tmp_path / str(fatal)
        directory.mkdir()
        keep(directory / "state.db", MACHINE, JOB)
        died = run_until_the_gate(directory / "state.db", Gate(fatal))
        restarted(directory, MachineState.COPYING).services.store.close()
        if not died:
            assert fatal >= 4, "the gate was never passed"
            return


def test_a_cancel_that_died_anywhere_ends_the_machine(tmp_path: Path) -> None:
    for fatal in itertools.count():
        directory = tmp_path / str(fatal)
        directory.mkdir()
        machine = replace(MACHINE, state=MachineState.COPYING)
        keep(directory / "state.db", machine, replace(JOB, stage=Stage.CANCELLING, keep_target=True))
        died = run_until_the_gate(directory / "state.db", Gate(fatal))
        restarted(directory, MachineState.CANCELLED).services.store.close()
        if not died:
            assert fatal >= 4, "the gate was never passed"
            return


@pytest.mark.parametrize("stage", [Stage.PROVISIONING, Stage.COPYING, Stage.VERIFYING, Stage.PROVEN])
def test_a_machine_that_an_older_daemon_left_planned_is_on_its_way(tmp_path: Path, stage: Stage) -> None:
    """It had died between the two commits, and its job went on by itself."""
    keep(tmp_path / "state.db", MACHINE, replace(JOB, stage=stage, lv_uuid="lv-uuid"))
    restarted(tmp_path, MachineState.COPYING, MachineState.READY).services.store.close()


def test_a_machine_that_was_left_planned_and_is_all_proven_waits_for_its_cutover(tmp_path: Path) -> None:
    keep(tmp_path / "state.db", MACHINE, replace(JOB, stage=Stage.PROVEN, finished=True))
    restarted(tmp_path, MachineState.READY).services.store.close()


def test_a_machine_with_a_disk_that_was_cancelled_and_one_that_waits_stays(tmp_path: Path) -> None:
    """Only its last disk ends it."""
    store = Store(tmp_path / "state.db")
    other = replace(JOB, uuid="other", stage=Stage.CANCELLED)
    waits = replace(JOB, stage=Stage.FAILED, failed_stage=Stage.COPYING)
    machine = replace(MACHINE, jobs=(JOB.uuid, "other"), state=MachineState.COPYING)
    store.add(machine, (waits, other))
    store.close()
    restarted(tmp_path, MachineState.COPYING).services.store.close()
