"""The virtual machine that a machine becomes: what is defined, and what a boot test starts."""

from collections.abc import Sequence
from dataclasses import replace

from p2vd.domain.define import define
from p2vd.domain.definition import Definition, DomainDisk
from p2vd.jobs.cutover import options_of
from p2vd.jobs.job_target import JobFile, JobLun, JobLv, JobTarget
from p2vd.jobs.services import Services
from p2vd.model.job import Job, Machine
from p2vd.planning.domain import domain_disk


def devnode(target: JobTarget) -> str:
    """Return where a definition says that the disk is."""
    match target:
        case JobLv():
            return f"/dev/{target.vg.name}/{target.lv.name}"
        case JobLun() | JobFile():
            return target.target.path


def definition_of(services: Services, machine: Machine, targets: Sequence[JobTarget]) -> Definition:
    """Return the definition; `targets` are the volumes of the machine's jobs, in their order.

    Raises DomainImpossible.
    """
    jobs = services.board.machine_jobs(machine)
    disks = tuple(_disk(job, target) for job, target in zip(jobs, targets, strict=True))
    return define(machine.name, machine.uuid, machine.hardware, disks, options_of(services, machine))


def _disk(job: Job, target: JobTarget) -> DomainDisk:
    source = job.plan.source
    disk = domain_disk(job.plan.target, source.wwid or source.id, source.sector_size)
    return replace(disk, devnode=devnode(target))
