"""The stage `provisioning`, and the ends of an LV's life: finished, or removed (design: §4.6)."""

import logging
from dataclasses import replace

from p2vd.jobs.control import Interrupted
from p2vd.jobs.services import Services
from p2vd.jobs.signals import Signals
from p2vd.jobs.targets import devices_of, find_source, read_vg
from p2vd.jobs.transitions import JobEvent
from p2vd.model.errors import PlanOutdated
from p2vd.model.job import Activity, Job
from p2vd.model.lvm import Lv, Vg
from p2vd.planning.plan import recheck_disk
from p2vd.planning.reservations import reservations, with_reservations

log = logging.getLogger(__name__)

_POLL_S = 2.0


def provision(services: Services, signals: Signals, job: Job) -> None:
    """Make the job's LV, or adopt the one that a crash left between lvcreate and here.

    Raises MustWait, TryAgain, Interrupted, or what fails the job: nothing was written then.
    """
    await_running_changes(services, signals, job)
    inventory = services.inventory.fresh(names=devices_of(services.inventory.scanned_once(), job))
    source = find_source(inventory, job)
    services.quarantine.add_source(source)
    vg = read_vg(services, job)
    lv = services.volumes.adopt(job.uuid, vg)
    if lv is None:
        # Of the jobs before this one every volume counts, made or not: two that start at the same moment
        # are never both given what only one of them can have.
        jobs = services.board.jobs()
        earlier = jobs[: next(at for at, one in enumerate(jobs) if one.uuid == job.uuid)]
        recheck_disk(job.plan, with_reservations(inventory, reservations(earlier)), services.policies())
        target = job.plan.target
        services.volumes.create(job.uuid, target, vg, signals.late(services.board, job.uuid))
        vg = read_vg(services, job)
        lv = services.volumes.adopt(job.uuid, vg)
        if lv is None:
            raise PlanOutdated(job.plan.id, f"lvcreate made no LV {target.vg_name}/{target.lv_name}.")
    services.quarantine.add_lv(vg, lv)
    services.volumes.settle(lv, vg, job.uuid, job.generation, signals.late(services.board, job.uuid))
    lv_uuid = lv.uuid
    services.board.change(job.uuid, lambda stored: replace(stored, lv_uuid=lv_uuid))
    services.board.advance(job.uuid, JobEvent.PROVISIONED)


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
    """After `proven` is durable: take the tag p2vd.incomplete off. Repeated by recovery until done."""
    vg, lv = _own_lv(services, job)
    if lv is not None and "p2vd.incomplete" in lv.tags:
        services.volumes.finish(
            lv, vg, job.uuid, job.plan.target.autoactivate, signals.late(services.board, job.uuid)
        )


def remove_target(services: Services, signals: Signals, job: Job) -> None:
    """Remove what this job made, if it made anything. Idempotent."""
    await_running_changes(services, signals, job)
    vg, lv = _own_lv(services, job)
    if lv is not None:
        services.volumes.remove(lv, vg, job.uuid, signals.late(services.board, job.uuid))
        services.quarantine.remove_lv(vg, lv)


def _own_lv(services: Services, job: Job) -> tuple[Vg, Lv | None]:
    vg = read_vg(services, job)
    return vg, services.volumes.adopt(job.uuid, vg)
