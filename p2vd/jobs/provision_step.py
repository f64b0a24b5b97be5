"""The stage `provisioning`, and the ends of a target's life: finished, or removed."""

import logging

from p2vd.jobs import file_target, lun_target, lv_target
from p2vd.jobs.control import Interrupted, TryAgain
from p2vd.jobs.places import with_places
from p2vd.jobs.services import Services
from p2vd.jobs.signals import Signals
from p2vd.jobs.targets import devices_of, find_source
from p2vd.jobs.transitions import JobEvent
from p2vd.model.inventory import Inventory
from p2vd.model.job import Activity, Job
from p2vd.model.plan import FileTarget, LunTarget, LvTarget
from p2vd.planning.plan import recheck_disk
from p2vd.planning.reservations import reservations, with_reservations

log = logging.getLogger(__name__)

_POLL_S = 2.0


def provision(services: Services, signals: Signals, job: Job) -> None:
    """Make the job's target, or adopt the one that a crash left between its making and here.

    Raises MustWait, TryAgain, Interrupted, or what fails the job: nothing was written then.
    """
    await_running_changes(services, signals, job)
    inventory = services.inventory.fresh(names=devices_of(services.inventory.scanned_once(), job))
    source = find_source(inventory, job)
    services.quarantine.add_source(source)
    match job.plan.target:
        case LvTarget() as lv:
            if not lv_target.adopt(services, job, lv):
                _recheck(services, job, inventory)
            lv_target.make(services, signals, job, lv)
        case FileTarget() as file:
            file_target.expect_mounted(services, file)
            if not file_target.adopt(services, job, file):
                _recheck(services, job, inventory)
            file_target.make(services, job, file)
        case LunTarget() as lun:
            _recheck(services, job, inventory)
            lun_target.claim(services, job, lun, inventory)
    services.board.advance(job.uuid, JobEvent.PROVISIONED)


def _recheck(services: Services, job: Job, inventory: Inventory) -> None:
    plan = job.plan
    if errors := services.policies().errors:  # p2vd was started so: the job is no worse for it
        raise TryAgain(f"The policy files have errors: {errors[0]}. Correct them, then: p2vctl reload")
    # Of the jobs before this one every volume counts, made or not: two that start at the same moment are
    # never both given what only one of them can have.
    jobs = services.board.jobs()
    earlier = jobs[: next(at for at, one in enumerate(jobs) if one.uuid == job.uuid)]
    inventory = with_reservations(inventory, reservations(earlier))
    seen = with_places(services, inventory, [plan.source.id], plan.machine_name, besides=job.uuid)
    recheck_disk(plan, seen, services.policies())


def await_running_changes(services: Services, signals: Signals, job: Job) -> None:
    """Wait for LVM commands of this job that an earlier daemon began: they outlive it."""
    while units := sorted(u for u in services.commands.running_changes() if job.uuid in u):
        services.board.set_activity(
            job.uuid, Activity.STALLED, f"an earlier command still runs: p2vd-change-{units[0]}.service"
        )
        signals.pause(_POLL_S)
        if signals.stopping:
            raise Interrupted
    services.board.set_activity(job.uuid, Activity.RUNNING)


def finish(services: Services, signals: Signals, job: Job) -> None:
    """After `proven` is durable: let the target be what it was made for. Repeated by recovery until done."""
    match job.plan.target:
        case LvTarget() as lv:
            lv_target.finish(services, signals, job, lv)
        case FileTarget() as file:
            file_target.finish(services, job, file)


def remove_target(services: Services, signals: Signals, job: Job) -> None:
    """Remove what this job made, if it made anything. Idempotent."""
    await_running_changes(services, signals, job)
    match job.plan.target:
        case LvTarget() as lv:
            lv_target.remove(services, signals, job, lv)
        case FileTarget() as file:
            file_target.remove(services, job, file)
        case LunTarget() as lun:
            lun_target.release(services, job, lun)
