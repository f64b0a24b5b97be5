"""A machine from its last proven disk on: registered once, all or nothing; taken back, accepted (design: §5).

Each step may be cut off at any line and done again: what it is about is durable before it begins.
"""

import logging
import threading
from dataclasses import replace

from p2vd.domain.libvirt_xml import libvirt_xml
from p2vd.jobs.accept_step import remove_sources
from p2vd.jobs.activation import make_startable, take_volumes
from p2vd.jobs.control import MustWait, TryAgain
from p2vd.jobs.conversion import GuestConversion, leave_as_proven
from p2vd.jobs.cutover import may_have_undo_points, options_of
from p2vd.jobs.definition import definition_of
from p2vd.jobs.hooks import run_after_register
from p2vd.jobs.inventory_keeper import ScanFailed
from p2vd.jobs.services import Services
from p2vd.jobs.store import STORE_FAILURES
from p2vd.jobs.takers import Taker, hand_over, taker
from p2vd.jobs.targets import find_target
from p2vd.jobs.transitions import MachineEvent
from p2vd.jobs.volume_history import ran_now
from p2vd.model.domain import Conversion
from p2vd.model.errors import P2vdError
from p2vd.model.hook import HookStep
from p2vd.model.job import Job, JobError, Machine, MachineState, Stage
from p2vd.model.plan import Cutover
from p2vd.provisioning.errors import VgStalled
from p2vd.registration.conversion import Converter
from p2vd.registration.errors import LibvirtUnreachable
from p2vd.system.command import ChangeUnknown, CommandTimedOut

log = logging.getLogger(__name__)

PASSING = (
    *(LibvirtUnreachable, MustWait, TryAgain, VgStalled, ScanFailed, CommandTimedOut, ChangeUnknown),
    *STORE_FAILURES,
)
"""What goes by without the administrator's doing, at least not at p2vd: it is tried again."""


def go_on(services: Services, uuid: str, stop: threading.Event) -> None:
    """Do what the machine's state asks for. Idempotent; a failure is noted in the machine.

    Raises what is PASSING, after it was noted: then this is to be called again.
    """
    match services.board.machine(uuid).state:
        case MachineState.PLANNED | MachineState.COPYING | MachineState.READY | MachineState.REGISTERING:
            _register(services, uuid, stop)
        case MachineState.ROLLING_BACK:
            _roll_back(services, uuid)
        case MachineState.ACCEPTING:
            _accept(services, uuid)


def waits_for_cutover(machine: Machine) -> bool:
    """Whether a machine that is ready is registered only when the administrator says so."""
    return machine.cutover is Cutover.MANUAL and not machine.handed_over


def withdraw(services: Services, machine: Machine, job: Job) -> None:
    """Before a disk of an unregistered machine is given up: end what a cut-off registration left.

    Raises DomainRunning, TryAgain, and whatever else undefining and undo points raise.
    """
    if not machine.handed_over:
        return
    _taker(services, machine).undefine(machine.uuid)
    if may_have_undo_points(services, machine):
        leave_as_proven(services, machine, job)


def _register(services: Services, uuid: str, stop: threading.Event) -> None:
    """Register the machine if all its disks are proven.

    A definition that failed never repeats a copy: the machine goes back to `ready` with the cause. What
    is not PASSING waits there for `Retry`, `Cutover` or the next start of the daemon.
    """
    board = services.board
    machine = board.machine(uuid)
    if machine.state in (MachineState.PLANNED, MachineState.COPYING):
        if not all(job.stage is Stage.PROVEN and job.finished for job in board.machine_jobs(machine)):
            return
        board.start_machine(uuid)  # an earlier daemon may have died before it
        machine = board.advance_machine(uuid, MachineEvent.ALL_PROVEN)
    if machine.state is MachineState.READY and not waits_for_cutover(machine):
        starts = options_of(services, machine).started_by_p2vd
        machine = board.begin_registration(uuid, start=starts)
    if machine.state is not MachineState.REGISTERING:
        return
    jobs, hooks = board.machine_jobs(machine), services.hooks
    try:
        if not machine.domain_uuid:  # else it was defined, and cut off in what comes after
            hooks.run(HookStep.BEFORE_REGISTER, machine, jobs, lambda: not stop.is_set())
            _define(services, machine, stop)
            machine = board.change_machine(uuid, lambda stored: replace(stored, domain_uuid=stored.uuid))
        problem = _start(services, machine)
        said = run_after_register(hooks, machine, jobs, lambda: not stop.is_set())
    except P2vdError as error:
        board.advance_machine(uuid, MachineEvent.REGISTRATION_FAILED, _cause(error), domain_uuid="")
        if isinstance(error, PASSING):
            raise
    else:
        board.advance_machine(uuid, MachineEvent.REGISTERED, problem or said)


def _define(services: Services, machine: Machine, stop: threading.Event) -> None:
    options = options_of(services, machine)
    if machine.redefines:
        taker(services, options).undefine(machine.uuid)
        machine = services.board.change_machine(machine.uuid, lambda stored: replace(stored, redefines=False))
    take_volumes(services, machine)
    jobs = services.board.machine_jobs(machine)
    if options.conversion is Conversion.NONE and may_have_undo_points(services, machine):
        for job in jobs:
            leave_as_proven(services, machine, job)
    definition = definition_of(services, machine, [find_target(services, job) for job in jobs])
    if options.conversion is Conversion.VIRT_V2V:
        converter = Converter(services.commands)
        # Whoever takes the machine, the converter reads where its disks are as libvirt writes it.
        GuestConversion(services, machine, converter, stop).convert(libvirt_xml(definition))
    hand_over(services, definition, options)


def _start(services: Services, machine: Machine) -> JobError | None:
    """Start the domain if policy or cutover say so; one that does not start is registered all the same."""
    if not machine.start or machine.ran_us:  # it was started; whoever has stopped it meanwhile wanted that
        return None
    try:
        make_startable(services, machine)
        _taker(services, machine).start(machine.uuid)
        services.board.change_machine(machine.uuid, ran_now)
    except PASSING:
        raise
    except P2vdError as error:
        # What is made of files says itself how it is started.
        by_libvirt = "://" in options_of(services, machine).uri
        how = f" When that is mended: virsh start {machine.name}" if by_libvirt else ""
        return JobError(error.name, f"It is registered, but was not started. {error}{how}")
    return None


def _roll_back(services: Services, uuid: str) -> None:
    board = services.board
    machine = board.machine(uuid)
    try:
        _taker(services, machine).undefine(machine.uuid)
    except PASSING as error:
        _note(services, uuid, error)
        raise
    except P2vdError as error:
        board.advance_machine(uuid, MachineEvent.ROLLBACK_FAILED, _cause(error))
    else:
        board.advance_machine(uuid, MachineEvent.ROLLED_BACK, domain_uuid="", handed_over=False)


def _accept(services: Services, uuid: str) -> None:
    board = services.board
    try:
        unmap = remove_sources(services, board.machine(uuid))
    except PASSING as error:
        _note(services, uuid, error)
        raise
    except P2vdError as error:
        board.advance_machine(uuid, MachineEvent.ACCEPTANCE_FAILED, _cause(error))
    else:
        board.advance_machine(uuid, MachineEvent.ACCEPTED, unmap=unmap)


def _taker(services: Services, machine: Machine) -> Taker:
    return taker(services, options_of(services, machine))


def _note(services: Services, uuid: str, error: P2vdError) -> None:
    services.board.change_machine(uuid, lambda stored: replace(stored, error=_cause(error)))


def _cause(error: P2vdError) -> JobError:
    return JobError(error.name, str(error))
