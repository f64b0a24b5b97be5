"""The virtual machine that a machine becomes: what is defined, and what a boot test starts."""

from collections.abc import Sequence

from p2vd.domain.define import define
from p2vd.domain.definition import Definition, DomainDisk
from p2vd.jobs.services import Services
from p2vd.jobs.targets import JobTarget
from p2vd.model.job import Job, Machine


def devnode(target: JobTarget) -> str:
    """Return where a definition says that the volume is."""
    return f"/dev/{target.vg.name}/{target.lv.name}"


def definition_of(services: Services, machine: Machine, targets: Sequence[JobTarget]) -> Definition:
    """Return the definition; `targets` are the volumes of the machine's jobs, in their order.

    Raises DomainImpossible.
    """
    jobs = services.board.machine_jobs(machine)
    disks = tuple(_disk(job, target) for job, target in zip(jobs, targets, strict=True))
    options = services.store.plan(machine.plan_id).domain
    return define(machine.name, machine.uuid, machine.hardware, disks, options)


def _disk(job: Job, target: JobTarget) -> DomainDisk:
    source = job.plan.source
    return DomainDisk(
        devnode=devnode(target),
        serial=source.wwid or source.id,
        thin=bool(target.lv.pool),
        sector_size=source.sector_size,
        size_bytes=job.plan.target.size_bytes,
    )
