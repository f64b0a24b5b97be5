"""Hooks around the steps of a job and of a machine: what holds, what warns, what runs again."""

import json
import os
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from p2vd.jobs import runner as runner_module
from p2vd.jobs.board import Board
from p2vd.jobs.control import Interrupted
from p2vd.jobs.hooks import Hooks
from p2vd.jobs.machine_step import go_on
from p2vd.jobs.runner import JobRunner
from p2vd.jobs.services import Services
from p2vd.jobs.signals import Signals
from p2vd.jobs.store import Store
from p2vd.jobs.transitions import JobEvent
from p2vd.model.hook import HookFailed, HookFailure, HookStep
from p2vd.model.job import Activity, Hold, Job, MachineState, Stage
from p2vd.policy.model import PolicyText
from p2vd.policy.parse import load
from p2vd.records.report import build_report
from tests.jobs.machine_lab import MACHINE, Crash, MachineLab, settle
from tests.jobs.values import machine_and_job
from tests.policy.test_parse import SHORT

NEVER = threading.Event()
SAVE = 'cat >> "{told}"'


class Desk:
    """Hooks in a directory, and what was recorded of them."""

    def __init__(self, directory: Path) -> None:
        directory.chmod(0o755)
        self.directory = directory / "hooks.d"
        self.told = directory / "told"
        self.recorded: list[tuple[str, str]] = []
        self.hooks = Hooks(
            self.directory, 20.0, os.getuid(), lambda *one: self.recorded.append((Path(one[2]).name, one[3]))
        )

    def put(self, step: HookStep, name: str, text: str) -> Path:
        path = self.directory / step.value / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text.format(told=self.told)}\n")
        path.chmod(0o755)
        return path

    def heard(self) -> list[dict[str, Any]]:
        """What hooks were told, in their order."""
        return [json.loads(line) for line in self.told.read_text().splitlines()]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


class Disk:
    """A job that is to be provisioned; provisioning is of this test, everything else is not."""

    def __init__(self, directory: Path, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = directory / "state.db"
        self.desk = desk
        self.provisioned = 0
        machine, job = machine_and_job()
        store = Store(self.path)
        store.add(machine, (replace(job, stage=Stage.PROVISIONING),))
        store.close()
        self.uuid = job.uuid
        monkeypatch.setattr(runner_module, "provision", self._provision)
        self.boot()

    def boot(self) -> None:
        """Start the daemon; what was only in memory is gone."""
        self.board = Board(Store(self.path))
        services = SimpleNamespace(board=self.board, hooks=self.desk.hooks)
        self.runner = JobRunner(cast(Services, services), self.uuid, lambda: True, lambda _: None)

    def _provision(self, services: Services, signals: Signals, job: Job) -> None:
        self.provisioned += 1
        self.board.advance(job.uuid, JobEvent.PROVISIONED)

    @property
    def job(self) -> Job:
        return self.board.job(self.uuid)

    def failure(self, failure: HookFailure) -> None:
        plan = self.job.plan
        plan = replace(plan, copy=replace(plan.copy, hook_failure=failure))
        self.board.change(self.uuid, lambda job: replace(job, plan=plan))

    def step(self) -> None:
        self.runner.signals.nudge()  # so that it waits for nothing
        self.runner._step(self.job)

    def run(self) -> None:
        """Let the job's thread do what there is to do, until the job is held."""
        self.runner.start()
        assert self.runner.join(20.0)


@pytest.fixture
def disk(tmp_path: Path, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(tmp_path, desk, monkeypatch)


# ---- a job ---------------------------------------------------------------------------------------


def test_hooks_before_the_copy_run_in_order_and_are_told_of_the_job(disk: Disk, desk: Desk) -> None:
    desk.put(HookStep.BEFORE_COPY, "20-b", "echo '{{\"b\": 1}}' >> {told}")
    desk.put(HookStep.BEFORE_COPY, "10-a", SAVE)
    disk.step()
    first, second = desk.heard()
    assert second == {"b": 1}
    assert (first["version"], first["step"]) == (1, "before-copy")
    assert first["machine"]["name"] == "erp1"
    assert [job["uuid"] for job in first["jobs"]] == [disk.uuid]
    assert first["jobs"][0]["source"]["wwid"] == disk.job.plan.source.wwid
    assert first["jobs"][0]["target"]["path"] == "/dev/vg_san/erp1"
    assert (disk.job.stage, disk.job.prepared) == (Stage.COPYING, True)
    assert desk.recorded == [("10-a", "ended"), ("20-b", "ended")]


def test_one_that_fails_holds_the_job_with_its_words_until_it_is_released(disk: Disk, desk: Desk) -> None:
    hook = desk.put(HookStep.BEFORE_COPY, "10-a", "echo the array is busy; exit 3")
    desk.put(HookStep.BEFORE_COPY, "20-b", SAVE)
    disk.run()
    assert (disk.job.stage, disk.job.holds) == (Stage.PROVISIONING, frozenset({Hold.HOOK}))
    assert disk.provisioned == 0
    words = f"The before-copy hook {hook} failed with exit status 3: the array is busy"
    then = f"Mend the cause, then: p2vctl retry {disk.uuid}"
    assert disk.board.activity(disk.uuid) == (Activity.IDLE, f"{words} {then}")
    assert not desk.told.exists()
    assert desk.recorded == [("10-a", "failed")]
    (line,) = build_report([disk.job], {}, {}, 0, 1).lines
    assert (line.outcome.value, line.cause, line.advice) == ("held", words, then)

    disk.board._store.close()
    disk.boot()
    disk.run()
    assert disk.board.activity(disk.uuid) == (Activity.IDLE, f"{words} {then}")  # nothing ran again
    assert desk.recorded == [("10-a", "failed")]

    desk.put(HookStep.BEFORE_COPY, "10-a", "exit 0")
    assert disk.board.release_hook(disk.uuid)
    assert not disk.board.release_hook(disk.uuid)
    disk.step()
    assert (disk.job.stage, disk.job.holds, disk.job.hook_error) == (Stage.COPYING, frozenset(), "")
    assert len(desk.heard()) == 1


def test_where_the_policy_says_so_a_failure_is_a_warning(disk: Disk, desk: Desk) -> None:
    disk.failure(HookFailure.WARN)
    desk.put(HookStep.BEFORE_COPY, "10-a", "exit 3")
    desk.put(HookStep.BEFORE_COPY, "20-b", SAVE)
    disk.step()
    assert (disk.job.stage, disk.job.holds, len(desk.heard())) == (Stage.COPYING, frozenset(), 1)
    assert desk.recorded == [("10-a", "failed"), ("20-b", "ended")]


def test_a_hook_that_others_may_write_is_not_run_and_holds(disk: Disk, desk: Desk) -> None:
    hook = desk.put(HookStep.BEFORE_COPY, "10-a", SAVE)
    hook.chmod(0o777)
    disk.step()
    assert f"{hook} may be written by others than its owner" in disk.job.hook_error
    assert disk.job.holds == {Hold.HOOK}
    assert (disk.provisioned, desk.told.exists()) == (0, False)


def test_one_that_was_interrupted_runs_again_and_none_that_ended(disk: Disk, desk: Desk) -> None:
    """The daemon is gone before it could note that the hook ended: the next one runs it again, once."""
    desk.put(HookStep.BEFORE_COPY, "10-a", SAVE)

    def crash(*_: object) -> None:
        raise Crash

    disk.desk.hooks, hooks = replace(desk.hooks, record=crash), desk.hooks
    disk.boot()
    with pytest.raises(Crash):
        disk.step()
    assert (disk.job.stage, disk.job.prepared, disk.provisioned) == (Stage.PROVISIONING, False, 0)
    disk.desk.hooks = hooks
    disk.boot()
    disk.step()
    assert (len(desk.heard()), disk.provisioned) == (2, 1)
    disk.board.change(disk.uuid, lambda job: replace(job, stage=Stage.PROVISIONING))
    disk.step()
    assert (len(desk.heard()), disk.provisioned) == (2, 2)


def test_a_cancel_ends_the_hook_that_runs(disk: Disk, desk: Desk) -> None:
    desk.put(HookStep.BEFORE_COPY, "10-a", "echo >> {told}; exec sleep 1000")
    disk.runner.signals.nudge()
    thread = threading.Thread(target=disk.runner._step, args=(disk.job,))
    thread.start()
    while not desk.told.exists():
        thread.join(0.05)
    disk.board.advance(disk.uuid, JobEvent.CANCEL)
    thread.join(20.0)
    assert not thread.is_alive()
    assert (disk.job.stage, disk.job.holds, disk.provisioned) == (Stage.CANCELLING, frozenset(), 0)


# ---- a machine -----------------------------------------------------------------------------------


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
    thread.join(20.0)
    assert len(caught) == 1
    assert lab.machine.state is MachineState.REGISTERING
    lab.store.close()
    desk.put(HookStep.AFTER_REGISTER, "10-a", SAVE)
    lab.boot()
    settle(lab, lab.desk.start, MachineState.REGISTERED)
    assert (list(lab.hypervisor.domains), len(desk.heard())) == ([MACHINE], 2)


# ---- what a policy says --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "holding"),
    [
        (HookFailure.AUTO, {"before-copy", "before-register"}),
        (HookFailure.HOLD, {"before-copy", "before-register", "after-proven"}),
        (HookFailure.WARN, set()),
    ],
)
def test_where_a_failure_holds(failure: HookFailure, holding: set[str]) -> None:
    assert {step.value for step in HookStep if failure.holds_at(step)} == holding


def test_a_policy_says_what_a_failure_does() -> None:
    (rule,) = load([PolicyText("f", SHORT + '[rule.hooks]\nfailure = "warn"\n')]).rules
    assert rule.copy.hook_failure is HookFailure.WARN
    (error,) = load([PolicyText("f", SHORT + '[rule.hooks]\nfailure = "no"\n')]).errors
    assert 'rule.hooks.failure: must be "auto" or "hold" or "warn", not \'no\'' in str(error)


def test_the_sentence_of_a_failure_without_words_ends() -> None:
    error = HookFailed("before-copy", "/h/10-a", "failed with exit status 1")
    assert str(error) == "The before-copy hook /h/10-a failed with exit status 1."
