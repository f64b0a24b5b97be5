"""When a migration that somebody waits for is over, and how it went. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from p2vd.cli.client import Exit, Object
from p2vd.cli.lookup import domain_command
from p2vd.cli.render import SHORT_ID

_REGISTERED = ("registered", "accepted")
_ENDED = ("proven", "failed", "cancelled")


@dataclass(frozen=True)
class Outcome:
    """The last sentence, and the exit status."""

    sentence: str
    status: Exit


def of_jobs(jobs: Sequence[Object]) -> Outcome | None:
    """How jobs ended, or None while one goes on."""
    for job in jobs:
        short = job["Uuid"][:SHORT_ID]
        if job["Stage"] == "failed":
            return Outcome(
                f"Job {short} failed while {job['FailedStage']}: {job['Error'][1]} "
                f"Then: p2vctl retry {short}, or p2vctl cancel {short} --remove-target",
                Exit.JOB_FAILED,
            )
    if not jobs or any(job["Stage"] not in _ENDED for job in jobs):
        return None
    cancelled = [job["Uuid"][:SHORT_ID] for job in jobs if job["Stage"] == "cancelled"]
    if cancelled:
        return Outcome(f"Cancelled: job {', '.join(cancelled)}.", Exit.JOB_FAILED)
    return Outcome("Every disk is proven identical to its source.", Exit.OK)


def of_machine(machine: Object, jobs: Sequence[Object]) -> Outcome | None:
    """How a machine's migration ended: registered, or why not; None while it goes on."""
    name = machine["Name"]
    if machine["State"] in _REGISTERED:
        see = f" See it: {command}" if (command := domain_command(machine)) else ""
        if machine["Error"][1]:  # it did not start, or a hook after it failed
            return Outcome(f"{name}: {machine['Error'][1]}{see}", Exit.JOB_FAILED)
        return Outcome(f"{name} is registered.{see}", Exit.OK)
    if machine["State"] in ("cancelled", "rolled-back"):
        return Outcome(f"{name} is {machine['State']}.", Exit.JOB_FAILED)
    if machine["State"] == "ready" and machine["CutoverMode"] == "manual" and not machine["Error"][1]:
        short = machine["Uuid"][:SHORT_ID]
        return Outcome(
            f"{name} is ready: all of it is copied. To register it: p2vctl cutover {short}", Exit.OK
        )
    ended = of_jobs(jobs)
    if ended is not None and ended.status is not Exit.OK:
        return ended
    if machine["Error"][1]:
        shorts = " ".join(job["Uuid"][:SHORT_ID] for job in jobs)
        return Outcome(
            f"{name} is copied, but not registered: {machine['Error'][1]} Then: p2vctl retry {shorts}",
            Exit.JOB_FAILED,
        )
    return None


def of(subjects: Sequence[Object], objects: Sequence[Object]) -> Outcome | None:
    """How everything that is watched ended; the first failure ends it, success only when all have it."""
    outcomes = []
    for subject in subjects:
        if "Jobs" in subject.properties:
            jobs = [item for item in objects if item.path in subject["Jobs"]]
            outcomes.append(of_machine(subject, jobs))
        else:
            outcomes.append(of_jobs([subject]))
    known = [outcome for outcome in outcomes if outcome is not None]
    failure = next((outcome for outcome in known if outcome.status is not Exit.OK), None)
    if failure is not None:
        return failure
    return known[-1] if known and len(known) == len(outcomes) else None
