"""Every transition of a job and of a machine. Pure: what may happen in which stage, and nothing else.

An event that is not in a table is illegal: `IllegalTransition` is raised and nothing changes.
"""

import enum
from dataclasses import replace

from p2vd.model.errors import IllegalTransition
from p2vd.model.job import Job, JobError, Machine, MachineState, Stage

FRUITLESS_EXITS_ALLOWED = 3


class JobEvent(enum.Enum):
    """What can happen to a job."""

    START = "start"
    PROVISIONED = "provisioned"
    COPIED = "copied"
    PROVEN = "proven"
    INTERRUPTED = "interrupted worker"
    FAIL = "failure"
    RETRY = "retry"
    CANCEL = "cancel"
    CANCELLED = "end of cancellation"


class MachineEvent(enum.Enum):
    """What can happen to a machine."""

    START = "start"
    ALL_PROVEN = "all disks proven"
    REGISTER = "registration"
    REGISTERED = "end of registration"
    REGISTRATION_FAILED = "failed registration"
    CANCELLED = "cancellation of all disks"
    ROLL_BACK = "rollback"
    ROLLED_BACK = "end of rollback"
    ROLLBACK_FAILED = "failed rollback"
    ACCEPT = "acceptance"
    ACCEPTED = "end of acceptance"
    ACCEPTANCE_FAILED = "failed acceptance"


_S, _E = Stage, JobEvent
_JOB: dict[tuple[Stage, JobEvent], Stage | None] = {
    (_S.PLANNED, _E.START): _S.PROVISIONING,
    (_S.PLANNED, _E.FAIL): _S.FAILED,
    (_S.PLANNED, _E.CANCEL): _S.CANCELLING,
    (_S.PROVISIONING, _E.PROVISIONED): _S.COPYING,
    (_S.PROVISIONING, _E.FAIL): _S.FAILED,
    (_S.PROVISIONING, _E.CANCEL): _S.CANCELLING,
    (_S.COPYING, _E.COPIED): _S.VERIFYING,
    (_S.COPYING, _E.PROVEN): _S.PROVEN,
    (_S.COPYING, _E.INTERRUPTED): _S.COPYING,
    (_S.COPYING, _E.FAIL): _S.FAILED,
    (_S.COPYING, _E.CANCEL): _S.CANCELLING,
    (_S.VERIFYING, _E.COPIED): _S.VERIFYING,
    (_S.VERIFYING, _E.PROVEN): _S.PROVEN,
    (_S.VERIFYING, _E.INTERRUPTED): _S.VERIFYING,
    (_S.VERIFYING, _E.FAIL): _S.FAILED,
    (_S.VERIFYING, _E.CANCEL): _S.CANCELLING,
    (_S.PROVEN, _E.CANCEL): _S.CANCELLING,
    (_S.FAILED, _E.RETRY): None,  # the stage that failed
    (_S.FAILED, _E.CANCEL): _S.CANCELLING,
    (_S.CANCELLING, _E.CANCELLED): _S.CANCELLED,
}

_MS, _ME = MachineState, MachineEvent
_MACHINE: dict[tuple[MachineState, MachineEvent], MachineState] = {
    (_MS.PLANNED, _ME.START): _MS.COPYING,
    (_MS.PLANNED, _ME.CANCELLED): _MS.CANCELLED,
    (_MS.COPYING, _ME.ALL_PROVEN): _MS.READY,
    (_MS.COPYING, _ME.CANCELLED): _MS.CANCELLED,
    (_MS.READY, _ME.REGISTER): _MS.REGISTERING,
    (_MS.READY, _ME.CANCELLED): _MS.CANCELLED,
    (_MS.REGISTERING, _ME.REGISTERED): _MS.REGISTERED,
    (_MS.REGISTERING, _ME.REGISTRATION_FAILED): _MS.READY,
    (_MS.REGISTERED, _ME.ROLL_BACK): _MS.ROLLING_BACK,
    (_MS.ROLLING_BACK, _ME.ROLLED_BACK): _MS.ROLLED_BACK,
    (_MS.ROLLING_BACK, _ME.ROLLBACK_FAILED): _MS.REGISTERED,
    (_MS.REGISTERED, _ME.ACCEPT): _MS.ACCEPTING,
    (_MS.ACCEPTING, _ME.ACCEPTED): _MS.ACCEPTED,
    (_MS.ACCEPTING, _ME.ACCEPTANCE_FAILED): _MS.REGISTERED,
}

TERMINAL = frozenset({Stage.PROVEN, Stage.FAILED, Stage.CANCELLED})


def advance(job: Job, event: JobEvent, error: JobError | None = None) -> Job:
    """Return `job` after `event`. Raises IllegalTransition; then nothing has changed.

    `error` goes with FAIL and, as the cause of the last exit, with INTERRUPTED: a worker ended without
    progress, and the third of these in a row fails the job with it.
    """
    if (job.stage, event) not in _JOB:
        raise IllegalTransition(f"Job {job.uuid}", job.stage.value, event.value)
    stage = _JOB[(job.stage, event)] or job.failed_stage or Stage.PROVISIONING
    if event is JobEvent.INTERRUPTED:
        exits = job.fruitless_exits + 1
        if exits >= FRUITLESS_EXITS_ALLOWED:
            return replace(
                job, stage=Stage.FAILED, failed_stage=job.stage, error=error, fruitless_exits=exits
            )
        return replace(job, fruitless_exits=exits)
    if event is JobEvent.FAIL:
        return replace(job, stage=stage, failed_stage=job.stage, error=error)
    if event is JobEvent.RETRY:
        return replace(job, stage=stage, failed_stage=None, error=None, fruitless_exits=0)
    if stage is not job.stage:
        return replace(job, stage=stage, fruitless_exits=0)
    return job


def advance_machine(machine: Machine, event: MachineEvent, error: JobError | None = None) -> Machine:
    """Return `machine` after `event`. Raises IllegalTransition; then nothing has changed."""
    state = _MACHINE.get((machine.state, event))
    if state is None:
        raise IllegalTransition(f"Machine {machine.name}", machine.state.value, event.value)
    return replace(machine, state=state, error=error)
