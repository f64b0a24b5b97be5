"""How a machine is registered: as its plan says, or as the administrator chose at its cutover since."""

from dataclasses import replace
from typing import NamedTuple

from p2vd.domain.define import define
from p2vd.domain.definition import DomainDisk
from p2vd.jobs.services import Services
from p2vd.model.cutover import CutoverChoice, CutoverRequest
from p2vd.model.domain import Conversion
from p2vd.model.errors import IllegalTransition, InvalidArgument
from p2vd.model.job import Job, Machine, MachineState
from p2vd.model.plan import DomainOptions, LvTarget
from p2vd.planning.cutover import present_options, unconverted
from p2vd.planning.domain import domain_disk
from p2vd.policy.match import first_match
from p2vd.policy.model import Rule
from p2vd.registration.conversion import Converter


class Seen(NamedTuple):
    """What of a machine a choice rests on: where that is another by then, the choice does not count."""

    handed_over: bool
    converted: bool
    domain: DomainOptions | None

    @classmethod
    def of(cls, machine: Machine) -> "Seen":
        """Return it, as the machine is now."""
        return cls(machine.handed_over, machine.converted, machine.domain)


def options_of(services: Services, machine: Machine) -> DomainOptions:
    """Return how the machine shall look."""
    return machine.domain or services.store.plan(machine.plan_id).domain


def may_have_undo_points(services: Services, machine: Machine) -> bool:
    """Whether a conversion was ever asked for, so that one that was cut off may have left undo points."""
    planned = services.store.plan(machine.plan_id).domain
    return machine.domain is not None or planned.conversion is Conversion.VIRT_V2V


def choose(services: Services, machine: Machine, request: CutoverRequest) -> CutoverChoice:
    """Return the virtual machine that a request comes to. Nothing is changed.

    Raises IllegalTransition where the machine is not ready, NotFound where its first source is not attached,
    InvalidArgument, DomainImpossible, ConverterMissing.
    """
    if machine.state is not MachineState.READY:
        raise IllegalTransition(f"Machine {machine.name}", machine.state.value, "cutover")
    jobs = services.board.machine_jobs(machine)
    before = options_of(services, machine)
    options, name = before, ""
    if request.policy:
        rule = _rule(services, machine, jobs[0])
        options, name = present_options(rule, services.store.plan(machine.plan_id).domain), rule.name
    elif request.convert:
        options = services.store.plan(machine.plan_id).domain
    if request.convert is False:
        options = unconverted(options)
    if machine.converted:
        _expect_no_regret(machine, request)
        options = replace(options, conversion=Conversion.VIRT_V2V)  # it is: its disks go where that counts
    elif options.conversion is Conversion.VIRT_V2V and request.chooses:
        _expect_convertible(services, machine, jobs)
    _expect_same_hypervisor(machine, before, options)
    disks = [_disk(job) for job in jobs]
    defined = define(machine.name, machine.uuid, machine.hardware, disks, options)
    return CutoverChoice(
        options=options,
        policy=name,
        kept=machine.domain is not None and not request.policy and request.convert is not True,
        memory_bytes=defined.memory_bytes,
        vcpus=defined.topology.count,
        choices=defined.choices,
        warnings=defined.warnings,
        start=options.started_by_p2vd if request.start is None else request.start,
    )


def _disk(job: Job) -> DomainDisk:
    source = job.plan.source
    return domain_disk(job.plan.target, source.wwid or source.id, source.sector_size)


def _rule(services: Services, machine: Machine, first: Job) -> Rule:
    """Return the rule in force now that is for the machine's first disk. Raises NotFound, InvalidArgument."""
    source = services.inventory.current().source(first.plan.source.id)
    rule = first_match(services.policies(), source, machine.name)
    if rule is None:
        problem = f"no policy in force matches {source}. See why: p2vctl policy explain {source.id}"
        raise InvalidArgument("option policy", problem)
    return rule


def _expect_no_regret(machine: Machine, request: CutoverRequest) -> None:
    if request.convert is False:
        raise InvalidArgument(
            "option convert",
            f"the guest of {machine.name} was converted already, and what was copied is no more: it is "
            "registered as it is now. Leave the option out.",
        )


def _expect_convertible(services: Services, machine: Machine, jobs: tuple[Job, ...]) -> None:
    """See before anything is durable that there is a converter, and what it needs."""
    Converter(services.commands).program()
    if others := [str(job.plan.target) for job in jobs if not isinstance(job.plan.target, LvTarget)]:
        raise InvalidArgument(
            f"machine {machine.name}",
            "the policy wants its guest converted, which needs an undo point of each disk, and "
            f"{', '.join(others)} is no logical volume. Register it without: p2vctl cutover {machine.name} "
            "--no-conversion",
        )


def _expect_same_hypervisor(machine: Machine, before: DomainOptions, after: DomainOptions) -> None:
    """Refuse to leave behind a domain at a hypervisor that nobody would ask any more."""
    if machine.handed_over and (before.uri, before.directory) != (after.uri, after.directory):
        raise InvalidArgument(
            "option policy",
            f"the policy in force now gives {machine.name} to {_where(after)}; its registration was begun at "
            f"{_where(before)}, where it may be defined. Have the policy name that again, and reload.",
        )


def _where(options: DomainOptions) -> str:
    return f"{options.uri} in {options.directory}" if options.directory else options.uri
