"""What will be done with one disk: a Plan, or every reason why not. Pure.

A plan's id is a hash of what must not change before it runs. How full a pool is and how fast a
disk is are not part of it: those are admitted when the copy starts.
"""

import hashlib
import json
from dataclasses import dataclass, field, replace

from p2vd.model.copying import Verify
from p2vd.model.disk import Source
from p2vd.model.errors import NotFound, PlanOutdated, Reason, Refused
from p2vd.model.inventory import Inventory
from p2vd.model.passport import Passport
from p2vd.model.plan import CopyOptions, Plan, SourceBinding, Target
from p2vd.planning.contents import boot_warnings, contents_reasons, contents_warnings
from p2vd.planning.domain import PlannedDomain, plan_domain
from p2vd.planning.sources import holds_source, sector_sizes, source_reasons
from p2vd.planning.steps import steps, warnings
from p2vd.planning.targets import Choice, choose
from p2vd.policy.match import first_match
from p2vd.policy.model import PolicySet, Rule
from p2vd.policy.names import default_machine_name

_POLICY_TEXT = "policy text"
_ID_LENGTH = 16


@dataclass(frozen=True)
class Overrides:
    """What the request says otherwise than the policy; None: as the policy says."""

    verify: Verify | None = None
    bandwidth_bytes_per_s: int | None = None


@dataclass(frozen=True)
class PlanRequest:
    """One disk, and the machine that it shall be. An empty `machine_name`: the default name.

    `source_offline`: the caller declares that no other host writes to the source (design: §4.4).
    """

    source_id: str
    machine_name: str = ""
    source_offline: bool = False
    overrides: Overrides = field(default_factory=Overrides)


def make_plan(
    request: PlanRequest, inventory: Inventory, policies: PolicySet, passport: Passport | None = None
) -> Plan:
    """Return the plan for `request`; equal arguments give equal plans. `passport`: the machine's.

    Raises NotFound if there is no such source, Refused with every reason why it cannot be done.
    """
    source = inventory.source(request.source_id)
    machine_name = request.machine_name or default_machine_name(source)
    rule = first_match(policies, source, machine_name)
    reasons = [*source.reasons, *contents_reasons(source, rule)]
    reasons += [*inventory.exposures, *source_reasons(source, machine_name)]
    if inventory.stale_since_us:
        reasons.append(_stale(inventory))
    choice: Choice | tuple[Reason, ...] = ()
    domain: PlannedDomain | Reason | None = None
    if rule is None:
        reasons.append(_no_policy(source, policies))
    else:
        reasons += [*sector_sizes(source), *holds_source(rule, source, inventory)]
        choice = choose(rule, source, machine_name, inventory)
        if not isinstance(choice, Choice):
            reasons += choice
        else:
            domain = plan_domain(rule, source, choice, machine_name, passport)
            if isinstance(domain, Reason):
                reasons.append(domain)
    if not (request.source_offline or (rule is not None and rule.source_offline)):
        reasons.append(_not_offline(source, rule))
    if reasons or rule is None or not isinstance(choice, Choice) or not isinstance(domain, PlannedDomain):
        raise Refused(f"Source {source}", tuple(reasons))
    return _plan(request, source, rule, choice, machine_name, domain)


def recheck(plan: Plan, inventory: Inventory, policies: PolicySet, passport: Passport | None = None) -> Plan:
    """Return the plan as it would be made now, with the pool's present numbers in its warnings.

    Raises PlanOutdated that names the difference if it is no longer the plan that was shown.
    """
    overrides = Overrides(plan.copy.verify, plan.copy.bandwidth_bytes_per_s)
    request = PlanRequest(plan.source.id, plan.machine_name, plan.source_offline, overrides)
    try:
        now = make_plan(request, inventory, policies, passport)
    except NotFound:
        raise PlanOutdated(plan.id, f"the source {plan.source.id} is no longer attached.") from None
    except Refused as refused:
        raise PlanOutdated(plan.id, f"it would be refused now. {refused}") from refused
    if now.id != plan.id:
        raise PlanOutdated(plan.id, _difference(plan, now))
    return now


def _stale(inventory: Inventory) -> Reason:
    return Reason(
        "inventory-stale",
        f"What p2vd knows of this host is not current: {inventory.stale_cause} It looks again by itself; "
        "mend the cause, or have it look now: p2vctl rescan.",
    )


def _no_policy(source: Source, policies: PolicySet) -> Reason:
    if policies.errors:
        text = f"No policies are in force, for their files have errors: {policies.errors[0]}"
    else:
        text = (
            f"No policy matches {source}. Write a rule for it in /etc/p2vd/policy.d (p2vd-policy(5)), "
            "then reload."
        )
    return Reason("no-policy", text)


def _not_offline(source: Source, rule: Rule | None) -> Reason:
    where = f'the policy "{rule.name}"' if rule else "its policy"
    return Reason(
        "not-offline",
        f"Nobody declared that {source} is offline, and writes of another host to it cannot be seen here. "
        f"Shut its machine down, then plan with --source-offline, or write source.offline = true in {where}.",
    )


def _plan(
    request: PlanRequest,
    source: Source,
    rule: Rule,
    choice: Choice,
    machine_name: str,
    planned: PlannedDomain,
) -> Plan:
    asked = request.overrides
    copy = replace(
        rule.copy,
        verify=rule.copy.verify if asked.verify is None else asked.verify,
        bandwidth_bytes_per_s=(
            rule.copy.bandwidth_bytes_per_s
            if asked.bandwidth_bytes_per_s is None
            else asked.bandwidth_bytes_per_s
        ),
    )
    domain = planned.options
    target = _target(rule, choice)
    parts = _digest_parts(source, rule, target, copy, planned, machine_name)
    return Plan(
        id=_digest(parts),
        machine_name=machine_name,
        source=SourceBinding(
            source.id, source.wwid, source.transport, source.size_bytes, source.sector_size, source.file_id
        ),
        target=target,
        copy=copy,
        domain=domain,
        policy=rule.name,
        policy_file=rule.path,
        source_offline=True,
        worst_case_bytes=choice.worst_case_bytes,
        digest_parts=parts,
        steps=tuple(steps(source, choice, copy, planned.definition, domain, machine_name)),
        warnings=(
            *(warning.text for warning in (*source.warnings, *contents_warnings(source, rule))),
            *boot_warnings(source, rule, domain),
            *warnings(rule, source, choice, copy, domain),
            *planned.definition.warnings,
        ),
        domain_choices=planned.definition.choices,
    )


def _target(rule: Rule, choice: Choice) -> Target:
    return Target(
        vg_uuid=choice.vg.uuid,
        vg_name=choice.vg.name,
        lv_name=choice.lv_name,
        provisioning=rule.target.provisioning,
        size_bytes=choice.size_bytes,
        sector_size=choice.vg.sector_size,
        pool_uuid=choice.pool.uuid if choice.pool else "",
        pool_name=choice.pool.name if choice.pool else "",
        single_host=rule.target.single_host,
        autoactivate=rule.target.autoactivate,
    )


def _digest_parts(
    source: Source,
    rule: Rule,
    target: Target,
    copy: CopyOptions,
    domain: PlannedDomain,
    machine_name: str,
) -> tuple[tuple[str, str], ...]:
    return (
        ("source", source.id),
        ("source's WWID", source.wwid),
        *((("source's file", source.file_id),) if source.file_id else ()),
        ("source's size", str(source.size_bytes)),
        ("source's sector size", str(source.sector_size)),
        ("policy", rule.name),
        ("policy's file", rule.path),
        (_POLICY_TEXT, hashlib.sha256(rule.text.encode()).hexdigest()),
        ("machine's name", machine_name),
        ("volume group", target.vg_uuid),
        ("volume group's name", target.vg_name),
        ("thin pool", target.pool_uuid),
        ("volume's name", target.lv_name),
        ("volume's size", str(target.size_bytes)),
        ("target's sector size", str(target.sector_size)),
        ("verification", copy.verify.value),
        ("bandwidth", str(copy.bandwidth_bytes_per_s)),
        *((f"virtual machine's {one.key}", one.value) for one in domain.definition.choices),
    )


def _digest(parts: tuple[tuple[str, str], ...]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:_ID_LENGTH]


def _difference(plan: Plan, now: Plan) -> str:
    before = dict(plan.digest_parts)
    changes = [
        f"the text of the policy {now.policy!r} has changed"
        if name == _POLICY_TEXT
        else f"the {name} is now {value!r}, was {before.get(name, '')!r}"
        for name, value in now.digest_parts
        if before.get(name) != value
    ]
    return "; ".join(changes) + "."
