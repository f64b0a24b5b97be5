"""Which machines are started without being asked, and why others are not yet (`auto = true`). Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from p2vd.model.disk import Source
from p2vd.model.inventory import Inventory
from p2vd.model.passport import Passport
from p2vd.policy.match import first_match
from p2vd.policy.model import PolicySet, Rule

Seen = tuple[tuple[str, int, int, int], ...]
"""Of each disk its id, size, number of paths and of ready ones: what must stay the same for a while."""


@dataclass(frozen=True)
class AutoMachine:
    """A machine whose disks are all here, may all start by themselves, and never had a job."""

    name: str
    source_ids: tuple[str, ...]
    seen: Seen


@dataclass(frozen=True)
class AutoView:
    """What `auto` would do with the host as it is. `said`: of each other auto source why it waits."""

    ready: tuple[AutoMachine, ...] = ()
    said: Mapping[str, str] = field(default_factory=dict)


def auto_view(
    inventory: Inventory,
    policies: PolicySet,
    passports: Mapping[str, Passport],
    had: Mapping[str, str],
) -> AutoView:
    """Return which machines may start; equal arguments give equal views.

    `had`: by source id, and by WWID, the job that a disk has or once had, whatever became of it.
    """
    if not any(rule.auto for rule in policies.rules):
        return AutoView()
    owners = _owners(inventory, passports)
    said: dict[str, str] = {}
    names: dict[str, None] = {}
    for source in inventory.sources:
        records = owners.get(source.id, ())
        rule = first_match(policies, source, records[0] if records else "")
        if rule is None or not rule.auto:
            continue
        if (job := had.get(source.id) or had.get(source.wwid)) is not None:
            said[source.id] = f"It is not started by itself again: job {job} has it, or had it."
        elif not records:
            said[source.id] = (
                f'It is started by itself, as the policy "{rule.name}" says, when the record of its machine '
                "is imported: p2vctl machine import."
            )
        elif len(records) > 1:
            said[source.id] = (
                f"It is not started by itself: the records {', '.join(records)} all name it. Remove the "
                "wrong ones: p2vctl machine remove."
            )
        else:
            names[records[0]] = None
    ready = []
    for name in names:
        sources, problem = _machine(name, passports[name], inventory, policies, owners, had)
        if problem:
            for source in sources:
                said.setdefault(source.id, f"It is not started by itself: {problem}")
        else:
            seen = tuple((s.id, s.size_bytes, len(s.paths), s.paths_ready) for s in sources)
            ready.append(AutoMachine(name, tuple(source.id for source in sources), seen))
    return AutoView(tuple(ready), said)


def _owners(inventory: Inventory, passports: Mapping[str, Passport]) -> dict[str, tuple[str, ...]]:
    """The records that name each source, in the order of their names."""
    by_wwid: dict[str, list[str]] = {}
    for name in sorted(passports):
        for wwid in dict.fromkeys(disk.wwid for disk in passports[name].disks if disk.wwid):
            by_wwid.setdefault(wwid, []).append(name)
    return {
        source.id: tuple(found)
        for source in inventory.sources
        if (found := by_wwid.get(source.wwid) or by_wwid.get(source.id))
    }


def _machine(
    name: str,
    passport: Passport,
    inventory: Inventory,
    policies: PolicySet,
    owners: Mapping[str, tuple[str, ...]],
    had: Mapping[str, str],
) -> tuple[list[Source], str]:
    """Return the machine's disks that are here and may start, and why it does not; "": it may."""
    here = {wwid: source for source in inventory.sources for wwid in (source.wwid, source.id) if wwid}
    sources: list[Source] = []
    problem = ""
    for disk in passport.disks:
        source = here.get(disk.wwid) if disk.wwid else None
        rule: Rule | None = first_match(policies, source, name) if source else None
        if not disk.wwid:
            problem = problem or f"the record of {name} tells no WWID of its disk {disk.name}."
        elif source is None:
            problem = problem or f"the disk {disk.wwid} of {name} is not attached to this host."
        elif rule is None or not rule.auto:
            problem = problem or f"no policy with auto = true is for the disk {source} of {name}."
        elif (job := had.get(source.id) or had.get(source.wwid)) is not None:
            problem = problem or f"job {job} has the disk {source} of {name}, or had it."
        elif len(owners.get(source.id, ())) > 1:
            problem = problem or f"the disk {source} of {name} is named by several records."
        if source is not None and rule is not None and rule.auto and source.id not in had:
            sources.append(source)
    return sources, problem
