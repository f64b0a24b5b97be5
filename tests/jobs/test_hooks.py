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
from p2vd.jobs.hooks import Hooks
from p2vd.jobs.runner import JobRunner
from p2vd.jobs.services import Services
from p2vd.jobs.signals import Signals
from p2vd.jobs.store import Store
from p2vd.jobs.transitions import JobEvent
from p2vd.model.hook import HookFailed, HookFailure, HookStep
from p2vd.model.job import Activity, Hold, Job, Stage
from p2vd.policy.model import PolicyText
from p2vd.policy.parse import load
from p2vd.records.report import build_report
from tests.jobs.machine_lab import Crash
from tests.jobs.values import machine_and_job
from tests.policy.test_parse import SHORT

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


def volume_of(sysfs: Path, writes: int) -> Path:
    """The volume's device as Linux 6.1 shows it, with so many writes; returns its counters."""
    device = sysfs / "class/block/dm-2"
    (device / "dm").mkdir(parents=True)
    (device / "dm/uuid").write_text("LVM-vguuidlvuuid\n")
    (device / "diskseq").write_text("11\n")
    (device / "stat").write_text(f"5 0 40 1 {writes} 0 56 2 0 8 3 0 0 16 1 0 0\n")
    return device / "stat"


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
        assert self.runner.join(60.0)


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
    thread.join(60.0)
    assert not thread.is_alive()
    assert (disk.job.stage, disk.job.holds, disk.provisioned) == (Stage.CANCELLING, frozenset(), 0)


def test_a_directory_that_was_named_and_is_not_there_holds_the_job(disk: Disk, desk: Desk) -> None:
    """Its programs would be passed over in silence, on which somebody relied."""
    desk.hooks = replace(desk.hooks, may_be_absent=False)
    disk.boot()
    disk.step()
    assert f"{desk.directory} is not there (mkdir it, or mend hooks_dir)" in disk.job.hook_error
    assert (disk.job.stage, disk.job.holds, disk.provisioned) == (
        Stage.PROVISIONING,
        frozenset({Hold.HOOK}),
        0,
    )
    assert desk.recorded == [("hooks.d", "failed")]
    desk.directory.mkdir()
    disk.board.release_hook(disk.uuid)
    disk.step()
    assert (disk.job.stage, disk.job.holds, disk.job.hook_error) == (Stage.COPYING, frozenset(), "")


def test_or_it_is_warned_of_where_the_policy_says_so(disk: Disk, desk: Desk) -> None:
    disk.failure(HookFailure.WARN)
    desk.hooks = replace(desk.hooks, may_be_absent=False)
    disk.boot()
    disk.step()
    assert (disk.job.stage, disk.job.holds) == (Stage.COPYING, frozenset())
    assert desk.recorded == [("hooks.d", "failed")]


def test_one_that_nobody_named_need_not_be_there(disk: Disk, desk: Desk) -> None:
    disk.step()
    assert (disk.job.stage, desk.recorded) == (Stage.COPYING, [])


class Proven(JobRunner):
    """The runner of a job that was proven, and whose target and source are nobody's here."""

    def _release_source(self, job: Job) -> None: ...


def test_the_writes_are_counted_before_a_hook_writes(
    disk: Disk, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a hook writes to the volume is a use of it, which explains a difference later."""
    stat = volume_of(tmp_path / "sys", writes=40)
    desk.put(HookStep.AFTER_PROVEN, "10-a", f"{SAVE}; sed -i 's/ 40 / 45 /' {stat}; test -e '{{told}}.again'")
    disk.failure(HookFailure.HOLD)
    disk.board.change(disk.uuid, lambda job: replace(job, stage=Stage.PROVEN, lv_uuid="lv-uuid"))
    for name in ("finish", "write_receipt"):
        monkeypatch.setattr(runner_module, name, lambda *_: None)
    services = SimpleNamespace(
        board=disk.board, hooks=desk.hooks, sysfs=tmp_path / "sys", job_directory=lambda _: tmp_path
    )
    runner = Proven(cast(Services, services), disk.uuid, lambda: True, lambda _: None)
    assert not runner._step(disk.job)
    assert " 45 " in stat.read_text()
    assert disk.job.proven_writes is not None
    assert (disk.job.proven_writes.writes, disk.job.finished) == (40, False)
    # It runs again, and what it wrote before still counts as a use.
    desk.told.with_name("told.again").touch()
    disk.board.release_hook(disk.uuid)
    assert runner._step(disk.job)
    assert (disk.job.proven_writes.writes, disk.job.finished, len(desk.heard())) == (40, True, 2)


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
