"""From the last proven disk to the registered machine: once, all or nothing (design: §5)."""

import logging
from dataclasses import replace

from p2vd.domain.define import define
from p2vd.domain.definition import DomainDisk
from p2vd.domain.libvirt_xml import libvirt_xml
from p2vd.jobs.known_passport import known_passport
from p2vd.jobs.services import Services
from p2vd.jobs.targets import find_target
from p2vd.jobs.transitions import MachineEvent
from p2vd.model.errors import P2vdError
from p2vd.model.job import JobError, Machine, MachineState, Stage

log = logging.getLogger(__name__)


def advance_machine(services: Services, uuid: str) -> None:
    """Register the machine if all its disks are proven. Idempotent; a failure is noted in the machine.

    A definition that failed never repeats a copy: the machine goes back to `ready` with the cause,
    and is registered at the next start of the daemon or by `Retry`.
    """
    board = services.board
    machine = board.machine(uuid)
    if any(job.stage is not Stage.PROVEN for job in board.machine_jobs(machine)):
        return
    if machine.state is MachineState.COPYING:
        board.advance_machine(uuid, MachineEvent.ALL_PROVEN)
    machine = board.begin_registration(uuid)
    if machine.state is not MachineState.REGISTERING:
        return
    try:
        _define(services, machine)
    except P2vdError as error:
        board.advance_machine(uuid, MachineEvent.REGISTRATION_FAILED, JobError(error.name, str(error)))
    else:
        board.change_machine(uuid, lambda stored: replace(stored, domain_uuid=stored.uuid))
        board.advance_machine(uuid, MachineEvent.REGISTERED)


def _define(services: Services, machine: Machine) -> None:
    jobs = services.board.machine_jobs(machine)
    options = jobs[0].plan.domain
    disks = []
    for job in jobs:
        target = find_target(services, job)
        disks.append(
            DomainDisk(
                devnode=f"/dev/{target.vg.name}/{target.lv.name}",
                serial=job.plan.source.wwid or job.plan.source.id,
                thin=bool(target.lv.pool),
                sector_size=job.plan.source.sector_size,
                size_bytes=job.plan.target.size_bytes,
            )
        )
    passport = known_passport(services.store, machine.name)
    definition = define(machine.name, machine.uuid, passport, disks, options)
    services.libvirt(options.uri).define(libvirt_xml(definition), machine.uuid)
