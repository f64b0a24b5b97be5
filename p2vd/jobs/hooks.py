"""The administrator's hooks around the steps of a job or machine: what they are told, what their end means.

A hook before a step may run again after a crash and is never left out; one after a step runs at least once.
"""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from p2vd.jobs.board import Board
from p2vd.jobs.control import Interrupted
from p2vd.model.hook import HookFailed, HookStep
from p2vd.model.job import Hold, Job, JobError, Machine
from p2vd.system.hook_program import ProgramRefused, ProgramStopped, list_programs, run

log = logging.getLogger(__name__)

VERSION = 1
"""Of what hooks read; p2vd.toml(5), HOOKS describes it. New keys do not change it."""

_STEPS = {step.value: step for step in HookStep}
_SAID_CHARS = 300

Record = Callable[[Machine, Sequence[Job], str, str, str], None]
"""Records for the audit: of what, the hook, the outcome, a sentence."""


@dataclass(frozen=True)
class Hooks:
    """Runs what is in `directory/STEP`, each for `limit_s` at most; None: there are no hooks. Thread-safe.

    `owner`: the uid whose the programs must be, where they are not root's. `may_be_absent`: nobody has named
    the directory; else one that is not there is a hook that fails.
    """

    directory: Path | None = None
    limit_s: float = 60.0
    owner: int = 0
    record: Record = lambda *_: None
    may_be_absent: bool = True

    def run(
        self, step: HookStep, machine: Machine, jobs: Sequence[Job], keep_going: Callable[[], bool]
    ) -> str:
        """Run the hooks of a step, in the order of their names; return what is to be warned of.

        Raises HookFailed at the first that fails, where the policy of one of `jobs` has that hold;
        Interrupted where `keep_going` says no: the hook that ran was ended then.
        """
        try:
            programs = self._programs(step)
        except ProgramRefused as error:
            return self._failed(machine, jobs, HookFailed(step.value, error.path, error.why), step)
        text = json.dumps(document(step, machine, jobs)) + "\n"
        warnings = [self._run_one(step, one, machine, jobs, text, keep_going) for one in programs]
        return " ".join(filter(None, warnings))

    def _programs(self, step: HookStep) -> list[Path]:
        if self.directory is None:
            return []
        return list_programs(self.directory, step.value, _STEPS, self.owner, may_be_absent=self.may_be_absent)

    def _run_one(
        self,
        step: HookStep,
        program: Path,
        machine: Machine,
        jobs: Sequence[Job],
        text: str,
        keep_going: Callable[[], bool],
    ) -> str:
        log.info("machine %s: hook %s begins", machine.name, program)
        try:
            ended = run(program, text, self.limit_s, keep_going)
        except ProgramStopped:
            log.warning(
                "machine %s: hook %s was ended: p2vd stops, or it is cancelled", machine.name, program
            )
            raise Interrupted from None
        except ProgramRefused as error:
            return self._failed(machine, jobs, HookFailed(step.value, error.path, error.why), step)
        if ended.output:
            log.info("machine %s: hook %s wrote: %s", machine.name, program, ended.output)
        if ended.how:
            said = " ".join(ended.output.split())[-_SAID_CHARS:]
            return self._failed(machine, jobs, HookFailed(step.value, str(program), ended.how, said), step)
        log.info("machine %s: hook %s ended well after %.1f s", machine.name, program, ended.seconds)
        self.record(machine, jobs, str(program), "ended", f"It ended well after {ended.seconds:.1f} s.")
        return ""

    def _failed(self, machine: Machine, jobs: Sequence[Job], error: HookFailed, step: HookStep) -> str:
        """Raises `error` where it holds; else returns its sentence, to be warned of."""
        self.record(machine, jobs, error.program, "failed", str(error))
        if any(job.plan.copy.hook_failure.holds_at(step) for job in jobs):
            log.error("machine %s: %s", machine.name, error)
            if step is HookStep.BEFORE_REGISTER:
                raise replace(error, then=_then(machine.name))
            raise error
        log.warning("machine %s: %s It goes on.", machine.name, error)
        return str(error)


def run_for_job(hooks: Hooks, board: Board, step: HookStep, job: Job, keep_going: Callable[[], bool]) -> None:
    """Run a job's hooks. Raises Interrupted where one was ended, or has the job held until `Retry`."""
    try:
        hooks.run(step, board.machine(job.machine_uuid), (job,), keep_going)
    except HookFailed as error:
        why = str(error)
        # In one change: a hold without its words tells nobody what to do.
        board.change(
            job.uuid, lambda stored: replace(stored, hook_error=why, holds=stored.holds | {Hold.HOOK})
        )
        raise Interrupted from error
    if step is HookStep.BEFORE_COPY or job.hook_error:
        done = job.prepared or step is HookStep.BEFORE_COPY
        board.change(job.uuid, lambda stored: replace(stored, prepared=done, hook_error=""))


def why_held(job: Job) -> str:
    """What a job says that a hook holds, and what is to be done; "" where none does."""
    return f"{job.hook_error} {_then(job.uuid)}" if Hold.HOOK in job.holds else ""


def _then(what: str) -> str:
    return f"Mend the cause, then: p2vctl retry {what}"


def run_after_register(
    hooks: Hooks, machine: Machine, jobs: Sequence[Job], keep_going: Callable[[], bool]
) -> JobError | None:
    """Run the hooks of a machine that was registered; return what it is to show. Raises Interrupted."""
    said = hooks.run(HookStep.AFTER_REGISTER, machine, jobs, keep_going)
    return JobError(HookFailed.__name__, f"It is registered. {said}") if said else None


def document(step: HookStep, machine: Machine, jobs: Sequence[Job]) -> dict[str, Any]:
    """Return what a hook reads."""
    return {
        "version": VERSION,
        "step": step.value,
        "machine": {
            "uuid": machine.uuid,
            "name": machine.name,
            "state": machine.state.value,
            "plan": machine.plan_id,
            "domain": machine.domain_uuid,
        },
        "jobs": [_job(job) for job in jobs],
    }


def _job(job: Job) -> dict[str, Any]:
    plan, source = job.plan, job.plan.source
    return {
        "uuid": job.uuid,
        "stage": job.stage.value,
        "disk": plan.number,
        "disks": plan.of,
        "policy": plan.policy,
        "source": {
            "id": source.id,
            "wwid": source.wwid,
            "transport": source.transport.value,
            "size_bytes": source.size_bytes,
            "sector_size": source.sector_size,
        },
        "target": {
            "kind": plan.target.kind.value,
            "path": plan.target.path,
            "size_bytes": plan.target.size_bytes,
            "lv_uuid": job.lv_uuid,
        },
        "digest": job.digest,
    }
