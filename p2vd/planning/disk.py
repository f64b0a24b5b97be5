"""What will be done with one disk of a machine, or every reason why not. Pure."""

import hashlib
from dataclasses import dataclass, replace

from p2vd.model.copying import Verify
from p2vd.model.disk import Source
from p2vd.model.errors import Reason
from p2vd.model.forms import PACKED, SourceFormat
from p2vd.model.inventory import Inventory
from p2vd.model.plan import CopyOptions, DiskPlan, DomainOptions, SourceBinding, Target
from p2vd.planning.choice import Choice, choose, target_parts
from p2vd.planning.contents import boot_warnings, contents_reasons, contents_warnings
from p2vd.planning.luns import target_reasons
from p2vd.planning.place import Place
from p2vd.planning.sources import holds_source, sector_sizes, source_reasons
from p2vd.planning.steps import disk_steps, warnings
from p2vd.policy.match import first_match
from p2vd.policy.model import PolicySet, Rule

POLICY_TEXT = "policy text"
POLICIES_UNREAD_CODE = "policies-unread"
"""Of the reason that no policy file was read without an error yet: what is to be done is not known."""

Parts = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Overrides:
    """What the request says of a disk otherwise than the policy; None: as the policy says."""

    verify: Verify | None = None
    bandwidth_bytes_per_s: int | None = None


@dataclass(frozen=True)
class Draft:
    """A disk on its way into a plan. With any reason, or without a rule or a choice, it comes to none."""

    source: Source
    place: Place
    rule: Rule | None
    choice: Choice | None
    reasons: tuple[Reason, ...]


def draft(
    source: Source,
    place: Place,
    inventory: Inventory,
    policies: PolicySet,
    *,
    offline: bool,
    only: Target | None = None,
) -> Draft:
    """Return where the disk would go, and all that speaks against it. `only`: there and nowhere else."""
    if policies.errors:  # all else depends on the rule
        return Draft(source, place, None, None, (_unread(policies),))
    rule = first_match(policies, source, place.machine_name)
    reasons = [*source.reasons, *contents_reasons(source, rule)]
    reasons += [*inventory.exposures, *source_reasons(source, place.machine_name)]
    reasons += target_reasons(source, inventory, policies)
    if inventory.stale_since_us:
        reasons.append(_stale(inventory))
    choice: Choice | None = None
    if rule is None:
        reasons.append(_no_policy(source))
    else:
        reasons += [*sector_sizes(source), *holds_source(rule, source, inventory)]
        chosen = choose(rule, source, place, inventory, only)
        if isinstance(chosen, tuple):
            reasons += chosen
        else:
            choice = chosen
    if not (offline or (rule is not None and rule.source_offline)):
        reasons.append(_not_offline(source, rule))
    return Draft(source, place, rule, choice, tuple(reasons))


def disk_plan(
    drafted: Draft, rule: Rule, choice: Choice, domain: DomainOptions, overrides: Overrides
) -> DiskPlan:
    """Return the plan of a disk against which there is nothing; its `id` is not known yet."""
    source, place = drafted.source, drafted.place
    copy = copy_options(rule, overrides)
    if source.format in PACKED:
        copy = replace(copy, bad_sectors=0)
    target = choice.target(rule)
    seen = replace(domain, logical_block_size=choice.logical_block_size)
    return DiskPlan(
        id="",
        machine_name=place.machine_name,
        source=SourceBinding(
            id=source.id,
            wwid=source.wwid,
            transport=source.transport,
            size_bytes=source.size_bytes,
            sector_size=source.sector_size,
            file_id=source.file_id,
            format=source.format,
        ),
        target=target,
        copy=copy,
        policy=rule.name,
        policy_file=rule.path,
        source_offline=True,
        worst_case_bytes=choice.worst_case_bytes,
        digest_parts=_digest_parts(source, rule, target, copy, place.machine_name),
        number=place.number,
        of=place.of,
        steps=tuple(disk_steps(source, choice, copy)),
        warnings=(
            *(warning.text for warning in (*source.warnings, *contents_warnings(source, rule))),
            *(boot_warnings(source, rule, domain) if place.number == 1 else ()),
            *warnings(rule, source, choice, copy, seen),
        ),
    )


def copy_options(rule: Rule, asked: Overrides) -> CopyOptions:
    """Return how the disk is copied: as the rule says, unless the request says otherwise."""
    limit = asked.bandwidth_bytes_per_s
    return replace(
        rule.copy,
        verify=rule.copy.verify if asked.verify is None else asked.verify,
        bandwidth_bytes_per_s=rule.copy.bandwidth_bytes_per_s if limit is None else limit,
    )


def _digest_parts(source: Source, rule: Rule, target: Target, copy: CopyOptions, machine_name: str) -> Parts:
    return (
        ("source", source.id),
        ("source's WWID", source.wwid),
        *((("source's file", source.file_id),) if source.file_id else ()),
        *((("source's format", source.format.value),) if source.format is not SourceFormat.RAW else ()),
        ("source's size", str(source.size_bytes)),
        ("source's sector size", str(source.sector_size)),
        ("policy", rule.name),
        ("policy's file", rule.path),
        (POLICY_TEXT, hashlib.sha256(rule.text.encode()).hexdigest()),
        ("machine's name", machine_name),
        *target_parts(target),
        ("target's sector size", str(target.sector_size)),
        ("verification", copy.verify.value),
        ("bandwidth", str(copy.bandwidth_bytes_per_s)),
    )


def _stale(inventory: Inventory) -> Reason:
    return Reason(
        "inventory-stale",
        f"What p2vd knows of this host is not current: {inventory.stale_cause} It looks again by itself; "
        "mend the cause, or have it look now: p2vctl rescan.",
    )


def _unread(policies: PolicySet) -> Reason:
    text = (
        f"No policies are in force, for their files have errors since p2vd was started: {policies.errors[0]} "
        "Correct them (p2vctl policy check), then: p2vctl reload."
    )
    return Reason(POLICIES_UNREAD_CODE, text)


def _no_policy(source: Source) -> Reason:
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
