"""The tables of jobs and machines: what is in them happens, all else is refused and changes nothing."""

import itertools
from dataclasses import replace

import pytest

from p2vd.jobs.transitions import (
    FRUITLESS_EXITS_ALLOWED,
    JobEvent,
    MachineEvent,
    advance,
    advance_machine,
)
from p2vd.model.errors import IllegalTransition
from p2vd.model.job import JobError, MachineState, Stage
from tests.jobs.values import machine_and_job

S, E = Stage, JobEvent
# design.md section 5, row by row: event -> stages in which it may happen and what comes of it.
ALLOWED = {
    (S.PLANNED, E.START): S.PROVISIONING,
    (S.PROVISIONING, E.PROVISIONED): S.COPYING,
    (S.COPYING, E.COPIED): S.VERIFYING,
    (S.VERIFYING, E.COPIED): S.VERIFYING,
    (S.COPYING, E.PROVEN): S.PROVEN,
    (S.VERIFYING, E.PROVEN): S.PROVEN,
    (S.COPYING, E.INTERRUPTED): S.COPYING,
    (S.VERIFYING, E.INTERRUPTED): S.VERIFYING,
    (S.FAILED, E.RETRY): S.VERIFYING,
    (S.CANCELLING, E.CANCELLED): S.CANCELLED,
    **{(s, E.FAIL): S.FAILED for s in (S.PLANNED, S.PROVISIONING, S.COPYING, S.VERIFYING)},
    **{
        (s, E.CANCEL): S.CANCELLING
        for s in (S.PLANNED, S.PROVISIONING, S.COPYING, S.VERIFYING, S.PROVEN, S.FAILED)
    },
}
CAUSE = JobError("ReadFailed", "sector 7")


@pytest.mark.parametrize(("stage", "event"), itertools.product(Stage, JobEvent))
def test_every_pair_of_stage_and_event(stage: Stage, event: JobEvent) -> None:
    job = replace(machine_and_job()[1], stage=stage, failed_stage=Stage.VERIFYING)
    if (stage, event) in ALLOWED:
        assert advance(job, event, CAUSE).stage is ALLOWED[stage, event]
    else:
        with pytest.raises(IllegalTransition) as raised:
            advance(job, event, CAUSE)
        assert stage.value in str(raised.value)


def test_a_failure_keeps_its_stage_and_cause_and_retry_re_enters_it() -> None:
    job = replace(machine_and_job()[1], stage=Stage.COPYING)
    failed = advance(job, JobEvent.FAIL, CAUSE)
    assert (failed.failed_stage, failed.error) == (Stage.COPYING, CAUSE)
    again = advance(failed, JobEvent.RETRY)
    assert (again.stage, again.failed_stage, again.error) == (Stage.COPYING, None, None)


def test_the_third_worker_in_a_row_without_progress_fails_the_job() -> None:
    job = replace(machine_and_job()[1], stage=Stage.COPYING)
    for _ in range(FRUITLESS_EXITS_ALLOWED - 1):
        job = advance(job, JobEvent.INTERRUPTED, CAUSE)
        assert job.stage is Stage.COPYING
    job = advance(job, JobEvent.INTERRUPTED, CAUSE)
    assert (job.stage, job.failed_stage, job.error) == (Stage.FAILED, Stage.COPYING, CAUSE)


def test_a_new_stage_forgets_fruitless_exits() -> None:
    job = replace(machine_and_job()[1], stage=Stage.COPYING, fruitless_exits=2)
    assert advance(job, JobEvent.COPIED).fruitless_exits == 0


MS, ME = MachineState, MachineEvent
MACHINE_ALLOWED = {
    (MS.PLANNED, ME.START): MS.COPYING,
    (MS.COPYING, ME.ALL_PROVEN): MS.READY,
    (MS.READY, ME.REGISTER): MS.REGISTERING,
    (MS.REGISTERING, ME.REGISTERED): MS.REGISTERED,
    (MS.REGISTERING, ME.REGISTRATION_FAILED): MS.READY,
    (MS.REGISTERED, ME.ROLL_BACK): MS.ROLLING_BACK,
    (MS.ROLLING_BACK, ME.ROLLED_BACK): MS.ROLLED_BACK,
    (MS.ROLLING_BACK, ME.ROLLBACK_FAILED): MS.REGISTERED,
    (MS.REGISTERED, ME.ACCEPT): MS.ACCEPTING,
    (MS.ACCEPTING, ME.ACCEPTED): MS.ACCEPTED,
    (MS.ACCEPTING, ME.ACCEPTANCE_FAILED): MS.REGISTERED,
    **{(s, ME.CANCELLED): MS.CANCELLED for s in (MS.PLANNED, MS.COPYING, MS.READY)},
}


@pytest.mark.parametrize(("state", "event"), itertools.product(MachineState, MachineEvent))
def test_every_pair_of_machine_state_and_event(state: MachineState, event: MachineEvent) -> None:
    machine = replace(machine_and_job()[0], state=state)
    if (state, event) in MACHINE_ALLOWED:
        assert advance_machine(machine, event).state is MACHINE_ALLOWED[state, event]
    else:
        with pytest.raises(IllegalTransition):
            advance_machine(machine, event)
