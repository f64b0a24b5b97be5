"""The life of a job's LV: made or adopted, finished, removed (design: §4.6)."""

from dataclasses import replace

from p2vd.jobs.services import Services
from p2vd.jobs.signals import Signals
from p2vd.jobs.targets import read_vg
from p2vd.model.errors import PlanOutdated
from p2vd.model.job import Job
from p2vd.model.lvm import INCOMPLETE_TAG, Lv, Vg
from p2vd.model.plan import LvTarget


def adopt(services: Services, job: Job, target: LvTarget) -> bool:
    """Whether there is an LV that a crash left between lvcreate and the job's memory of it."""
    return _own_lv(services, job, target)[1] is not None


def make(services: Services, signals: Signals, job: Job, target: LvTarget) -> None:
    """Make the LV, or go on with the one that there is; then the job knows it.

    Raises MustWait, TryAgain, PlanOutdated, and what LVM refuses.
    """
    late = signals.late(services.board, job.uuid)
    vg, lv = _own_lv(services, job, target)
    if lv is None:
        services.volumes.create(job.uuid, target, vg, late)
        vg, lv = _own_lv(services, job, target)
        if lv is None:
            raise PlanOutdated(job.plan.id, f"lvcreate made no LV {target}.")
    services.quarantine.add_lv(vg, lv)
    services.volumes.settle(lv, vg, job.uuid, job.generation, late)
    lv_uuid = lv.uuid
    services.board.change(job.uuid, lambda stored: replace(stored, lv_uuid=lv_uuid))


def finish(services: Services, signals: Signals, job: Job, target: LvTarget) -> None:
    """Take the tag p2vd.incomplete off. Idempotent."""
    vg, lv = _own_lv(services, job, target)
    if lv is not None and INCOMPLETE_TAG in lv.tags:
        late = signals.late(services.board, job.uuid)
        services.volumes.finish(lv, vg, job.uuid, target.autoactivate, late)


def remove(services: Services, signals: Signals, job: Job, target: LvTarget) -> None:
    """Remove the LV, if there is one. Idempotent."""
    vg, lv = _own_lv(services, job, target)
    if lv is not None:
        services.volumes.remove(lv, vg, job.uuid, signals.late(services.board, job.uuid))
        services.quarantine.remove_lv(vg, lv)


def _own_lv(services: Services, job: Job, target: LvTarget) -> tuple[Vg, Lv | None]:
    vg = read_vg(services, target)
    return vg, services.volumes.adopt(job.uuid, vg)
