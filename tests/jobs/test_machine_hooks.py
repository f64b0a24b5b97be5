"""Hooks around the registration of a machine: what keeps it from it, what warns, what runs again."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from p2vd.jobs.control import Interrupted
from p2vd.jobs.machine_step import go_on
from p2vd.model.hook import HookFailure, HookStep
from p2vd.model.job import MachineState
from tests.jobs.machine_lab import MACHINE, Crash, MachineLab, settle
from tests.jobs.test_hooks import SAVE, Desk, desk

__all__ = ["desk"]  # a fixture

NEVER = threading.Event()


def test_a_named_directory_that_is_not_there_keeps_a_machine_from_its_registration(
    tmp_path: Path, desk: Desk
) -> None:
    lab = MachineLab(tmp_path, hooks=replace(desk.hooks, may_be_absent=False))
    go_on(lab.services, MACHINE, NEVER)
    assert (lab.machine.state, lab.hypervisor.asked) == (MachineState.READY, [])
    assert lab.machine.error is not None
    assert "is not there (mkdir it, or mend hooks_dir)" in lab.machine.error.message
    desk.directory.mkdir()
    settle(lab, lambda: lab.desk.retry(lab.machine), MachineState.REGISTERED)
    assert lab.machine.error is None


def test_a_registration_that_was_cut_off_behind_the_definition_does_not_begin_again(
    tmp_path: Path, desk: Desk
) -> None:
    """The hook before it has run; what is defined may run, and may have been stopped again."""
    desk.put(HookStep.BEFORE_REGISTER, "10-a", SAVE)
    desk.put(HookStep.AFTER_REGISTER, "10-a", SAVE)

    def crash_at_the_last(*one: Any) -> None:
        if "after-register" in one[2]:
            raise Crash

    lab = MachineLab(tmp_path, state=MachineState.READY, hooks=replace(desk.hooks, record=crash_at_the_last))
    lab.board.cutover(MACHINE, start=True)
    with pytest.raises(Crash):
        go_on(lab.services, MACHINE, NEVER)
    assert (lab.machine.state, lab.machine.domain_uuid) == (MachineState.REGISTERING, MACHINE)
    assert lab.hypervisor.running == {MACHINE}
    lab.hypervisor.running.clear()  # somebody shut it down before p2vd was back
    lab.store.close()
    lab.hooks = desk.hooks
    lab.boot()
    settle(lab, lab.desk.start, MachineState.REGISTERED)
    assert lab.hypervisor.asked == ["define", "start"]
    assert lab.hypervisor.running == set()
    assert [told["step"] for told in desk.heard()] == ["before-register", *["after-register"] * 2]


def test_a_machine_whose_hook_fails_stays_ready_until_it_is_retried(tmp_path: Path, desk: Desk) -> None:
    desk.put(HookStep.BEFORE_REGISTER, "10-a", "echo no address; exit 1")
    lab = MachineLab(tmp_path, hooks=desk.hooks)
    go_on(lab.services, MACHINE, NEVER)
    assert (lab.machine.state, lab.hypervisor.asked) == (MachineState.READY, [])
    assert lab.machine.error is not None
    assert lab.machine.error.name == "HookFailed"
    assert lab.machine.error.message.endswith(
        "10-a failed with exit status 1: no address Mend the cause, then: p2vctl retry erp1"
    )
    desk.put(HookStep.BEFORE_REGISTER, "10-a", SAVE)
    settle(lab, lambda: lab.desk.retry(lab.machine), MachineState.REGISTERED)
    assert lab.machine.error is None
    (told,) = desk.heard()
    assert [job["uuid"] for job in told["jobs"]] == list(lab.machine.jobs)


def test_one_after_the_registration_warns_and_the_machine_shows_it(tmp_path: Path, desk: Desk) -> None:
    desk.put(HookStep.AFTER_REGISTER, "10-a", SAVE + "; exit 1")
    lab = MachineLab(tmp_path, hooks=desk.hooks)
    for number in range(3):
        plan = lab.jobs[number].plan
        lab.change(number, plan=replace(plan, copy=replace(plan.copy, hook_failure=HookFailure.HOLD)))
    go_on(lab.services, MACHINE, NEVER)
    assert (lab.machine.state, list(lab.hypervisor.domains)) == (MachineState.REGISTERED, [MACHINE])
    assert lab.machine.error is not None
    assert lab.machine.error.message.startswith("It is registered. The after-register hook ")
    assert desk.heard()[0]["machine"]["domain"] == MACHINE


def test_a_stop_ends_the_hook_and_the_next_start_runs_it_again(tmp_path: Path, desk: Desk) -> None:
    desk.put(HookStep.AFTER_REGISTER, "10-a", SAVE + "; exec sleep 1000")
    lab = MachineLab(tmp_path, hooks=desk.hooks)
    stop = threading.Event()
    desk.put(HookStep.BEFORE_REGISTER, "10-a", "exit 0")
    caught: list[BaseException] = []

    def register() -> None:
        try:
            go_on(lab.services, MACHINE, stop)
        except Interrupted as error:
            caught.append(error)

    thread = threading.Thread(target=register)
    thread.start()
    while not desk.told.exists():
        thread.join(0.05)
    stop.set()
    thread.join(60.0)
    assert len(caught) == 1
    assert lab.machine.state is MachineState.REGISTERING
    lab.store.close()
    desk.put(HookStep.AFTER_REGISTER, "10-a", SAVE)
    lab.boot()
    settle(lab, lab.desk.start, MachineState.REGISTERED)
    assert (list(lab.hypervisor.domains), len(desk.heard())) == ([MACHINE], 2)


def test_a_machine_that_is_not_started_has_its_volumes_for_itself_too(tmp_path: Path) -> None:
    """An earlier daemon's note of a volume that it had activated to be read ends: nobody puts it to rest."""
    lab = MachineLab(tmp_path, state=MachineState.REGISTERING)
    for job in lab.machine.jobs:
        lab.board.change(job, lambda stored: replace(stored, woken_boot="a boot"))
    go_on(lab.services, MACHINE, NEVER)
    assert (lab.machine.state, lab.machine.start) == (MachineState.REGISTERED, False)
    assert lab.ended_tests == [MACHINE]
    assert {lab.board.job(job).woken_boot for job in lab.machine.jobs} == {""}
