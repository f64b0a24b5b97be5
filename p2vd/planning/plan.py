"""What will be done with the disks of a machine: a Plan, or every reason why not. Pure.

A plan's id is a hash of what must not change before it runs. How full a pool is and how fast a
disk is are not part of it: those are admitted when the copy starts.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from p2vd.model.disk import Source
from p2vd.model.domain import Conversion
from p2vd.model.errors import NotFound, PlanOutdated, Reason, Refused
from p2vd.model.inventory import Inventory
from p2vd.model.passport import Passport
from p2vd.model.plan import Cutover, DiskPlan, Plan, Target
from p2vd.planning.choice import reserve
from p2vd.planning.conversion import undo_reasons, undo_warnings
from p2vd.planning.disk import POLICY_TEXT, Draft, Overrides, Parts, disk_plan, draft
from p2vd.planning.domain import PlannedDomain, options_of, plan_domain
from p2vd.planning.host import host_reasons, host_warnings
from p2vd.planning.members import boot_first, members
from p2vd.planning.place import Place
from p2vd.planning.steps import machine_steps
from p2vd.policy.model import PolicySet
from p2vd.policy.names import default_machine_name

_ID_LENGTH = 16


@dataclass(frozen=True)
class PlanRequest:
    """The disks of a machine, and what it shall be called. An empty `machine_name`: the default name.

    `source_offline`: the caller declares that no other host writes to the sources (design: §4.4).
    `passport`: the machine's record, whose disks come before the others of `source_ids`. Without it, a record
    of the machine's name, or `record`, says what the machine is, and the caller which disks it has.
    `overrides`: a disk each; for disks without, the policy counts. `targets`: a disk each,
    where it has to go to; for disks without, the first place of the policy's that can take it.
    """

    source_ids: tuple[str, ...]
    machine_name: str = ""
    source_offline: bool = False
    passport: Passport | None = None
    record: str = ""
    overrides: tuple[Overrides, ...] = ()
    targets: tuple[Target, ...] = ()


def make_plan(
    request: PlanRequest,
    inventory: Inventory,
    policies: PolicySet,
    passports: Mapping[str, Passport] | None = None,
) -> Plan:
    """Return the plan for `request`; equal arguments give equal plans. `passports`: all records, by name.

    Raises NotFound if there is no such source, Refused with every reason of every disk why it cannot be done.
    """
    passport = request.passport
    found = members(request.source_ids, passport, inventory)
    name = request.machine_name or (passport.name if passport else "")
    if not found.sources:
        raise Refused(f"Machine {name}", found.reasons or (_no_disks(name),))
    name = name or default_machine_name(found.sources[0])
    hardware = passport or (passports or {}).get(request.record or name)
    found = boot_first(found, hardware)
    drafts = _drafts(request, found.sources, name, inventory, policies)
    domain = plan_domain(drafts, name, hardware)
    reasons = [*found.reasons, *(reason for drafted in drafts for reason in drafted.reasons)]
    if isinstance(domain, Reason):
        reasons.append(domain)
    elif domain is not None:
        reasons += host_reasons(domain.options, domain.definition, inventory.hardware)
        if domain.options.conversion is Conversion.VIRT_V2V:
            reasons += undo_reasons(drafts)
    if reasons or not isinstance(domain, PlannedDomain):
        subject = f"Machine {name}" if len(drafts) > 1 or passport else f"Source {found.sources[0]}"
        raise Refused(subject, tuple(dict.fromkeys(reasons)))
    beyond = host_warnings(domain.options, domain.definition, inventory.hardware)
    return _plan(request, drafts, domain, (*found.warnings, *beyond))


def recheck(
    plan: Plan,
    inventory: Inventory,
    policies: PolicySet,
    passports: Mapping[str, Passport] | None = None,
    *,
    pinned: bool = False,
) -> Plan:
    """Return the plan as it would be made now, with the pools' present numbers in its warnings.

    `pinned`: in the volume groups that it has, also where another one would be chosen now.
    Raises PlanOutdated that names the difference if it is no longer the plan that was shown.
    """
    ids = tuple(disk.source.id for disk in plan.disks)
    offline = all(disk.source_offline for disk in plan.disks)
    overrides = tuple(_overrides(disk) for disk in plan.disks)
    targets = tuple(disk.target for disk in plan.disks) if pinned else ()
    request = PlanRequest(
        ids, plan.machine_name, offline, record=plan.passport, overrides=overrides, targets=targets
    )
    try:
        now = make_plan(request, inventory, policies, passports)
    except NotFound as error:
        raise PlanOutdated(plan.id, f"the source {error.id} is no longer attached.") from None
    except Refused as refused:
        raise PlanOutdated(plan.id, f"it would be refused now. {refused}") from refused
    if now.id != plan.id:
        raise PlanOutdated(plan.id, _difference(plan.digest_parts, now.digest_parts))
    return now


def recheck_disk(plan: DiskPlan, inventory: Inventory, policies: PolicySet) -> None:
    """See that one disk of a plan can still be made as it was shown, in the place that it has.

    The machine's other disks are made at the same time, and so may be there or not. Raises PlanOutdated.
    """
    place = Place(plan.machine_name, plan.number, plan.of)
    try:
        source = inventory.source(plan.source.id)
    except NotFound:
        raise PlanOutdated(plan.id, f"the source {plan.source.id} is no longer attached.") from None
    drafted = draft(source, place, inventory, policies, offline=plan.source_offline, only=plan.target)
    domain = options_of(drafted, None)
    if drafted.reasons or drafted.rule is None or drafted.choice is None or domain is None:
        refused = Refused(f"Source {source}", drafted.reasons)
        raise PlanOutdated(plan.id, f"it would be refused now. {refused}")
    now = disk_plan(drafted, drafted.rule, drafted.choice, domain, _overrides(plan))
    if now.digest_parts != plan.digest_parts:
        raise PlanOutdated(plan.id, _difference(plan.digest_parts, now.digest_parts))


def _drafts(
    request: PlanRequest, sources: Sequence[Source], name: str, inventory: Inventory, policies: PolicySet
) -> list[Draft]:
    """Place one disk after the other: each finds taken what those before it take."""
    drafts = []
    for number, source in enumerate(sources, 1):
        place = Place(name, number, len(sources))
        only = request.targets[number - 1] if number <= len(request.targets) else None
        offline = request.source_offline
        drafts.append(draft(source, place, inventory, policies, offline=offline, only=only))
        if (choice := drafts[-1].choice) is not None:
            inventory = reserve(inventory, choice)
    return drafts


def _asked(request: PlanRequest, drafted: Draft) -> Overrides:
    index = drafted.place.number - 1
    return request.overrides[index] if index < len(request.overrides) else Overrides()


def _overrides(plan: DiskPlan) -> Overrides:
    return Overrides(plan.copy.verify, plan.copy.bandwidth_bytes_per_s)


def _plan(
    request: PlanRequest, drafts: Sequence[Draft], planned: PlannedDomain, found: Sequence[str]
) -> Plan:
    """Return the plan of disks against which there is nothing: each draft has its rule and its choice."""
    placed = [(each, each.rule, each.choice) for each in drafts]
    disks = tuple(
        disk_plan(drafted, rule, choice, planned.options, _asked(request, drafted))
        for drafted, rule, choice in placed
        if rule is not None and choice is not None
    )
    rules = [rule for _, rule, _ in placed if rule is not None]
    manual = any(rule.cutover is Cutover.MANUAL for rule in rules)
    cutover = Cutover.MANUAL if manual else Cutover.AUTO
    choices = planned.definition.choices
    parts = (*_parts(disks), *((f"virtual machine's {one.key}", one.value) for one in choices))
    plan_id = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:_ID_LENGTH]
    warnings = (
        *found,
        *(warning for disk in disks for warning in disk.warnings),
        *(
            f'The machine is as the policy "{rules[0].name}" of its first disk says, not "{rule.name}".'
            for rule in rules[1:]
            if (rule.domain, rule.firmware) != (rules[0].domain, rules[0].firmware)
        ),
        *planned.definition.warnings,
        *(undo_warnings(drafts) if planned.options.conversion is Conversion.VIRT_V2V else ()),
    )
    return Plan(
        id=plan_id,
        machine_name=planned.definition.name,
        disks=tuple(replace(disk, id=plan_id) for disk in disks),
        domain=planned.options,
        digest_parts=parts,
        cutover=cutover,
        passport=request.passport.name if request.passport else request.record,
        steps=(
            *(step for disk in disks for step in disk.steps),
            *machine_steps(planned.options, planned.definition, cutover),
        ),
        warnings=tuple(dict.fromkeys(warnings)),
        domain_choices=choices,
    )


def _parts(disks: Sequence[DiskPlan]) -> Parts:
    """What of all disks must not change; of several disks each part says of which."""
    if len(disks) == 1:
        return disks[0].digest_parts
    return tuple(
        (f"{name} of disk {disk.number}", value) for disk in disks for name, value in disk.digest_parts
    )


def _no_disks(name: str) -> Reason:
    return Reason(
        "no-disks", f"No disk in the record of {name} has a WWID, so none can be found. Name the sources."
    )


def _difference(before: Parts, now: Parts) -> str:
    old = dict(before)
    policies = {name.removeprefix("policy"): value for name, value in now if name.startswith("policy")}
    changes = [
        f"the text of the policy {policies[name.removeprefix(POLICY_TEXT)]!r} has changed"
        if name.startswith(POLICY_TEXT)
        else f"the {name} is now {value!r}, was {old.get(name, '')!r}"
        for name, value in now
        if old.get(name) != value
    ]
    return "; ".join(changes) + "."
