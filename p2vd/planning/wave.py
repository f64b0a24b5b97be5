"""Many machines as one plan: what fits together, what waits, what is refused and why. Pure.

One after the other, in the order in which they will start: each finds taken what those before it take.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from p2vd.model.errors import NotFound, Reason, Refused
from p2vd.model.inventory import Inventory
from p2vd.model.passport import Passport
from p2vd.model.plan import DiskPlan, Plan
from p2vd.model.wave import Fate, Wave, WaveEntry, WaveItem
from p2vd.planning.choice import with_planned
from p2vd.planning.plan import PlanRequest, make_plan
from p2vd.policy.model import PolicySet

SPACE = frozenset({"vg-too-small", "pool-over-commit", "pool-short", "pool-metadata-short"})
"""Codes of reasons that go by when there is more room: a machine with no others waits."""

_ID_LENGTH = 16


def plan_wave(
    entries: Sequence[WaveEntry],
    inventory: Inventory,
    policies: PolicySet,
    passports: Mapping[str, Passport],
    busy: Mapping[str, Reason],
) -> tuple[tuple[WaveItem, ...], tuple[Plan, ...]]:
    """Return what becomes of each entry, in the order of the start, and the plans of those that may run.

    `inventory`: with what jobs still need taken already (`with_reservations`). `busy`: why a
    source, by its id, cannot have a job. Equal arguments give equal plans.
    """
    draft = _Draft(inventory, policies, passports, busy)
    made = [draft.add(entry) for entry in entries]
    # The priority is known only with the plan, and the order decides who fits: so once more, in that order.
    order = sorted(range(len(entries)), key=lambda index: -made[index][0].priority)
    if order != list(range(len(entries))):
        draft = _Draft(inventory, policies, passports, busy)
        made = [draft.add(entries[index]) for index in order]
    return tuple(item for item, _ in made), tuple(plan for _, plan in made if plan)


def wave_id(items: Sequence[WaveItem]) -> str:
    """Return the hash of what is shown: each machine's plan, or that it has none, and its priority."""
    parts = [(item.name, item.plan_id, item.priority) for item in items]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:_ID_LENGTH]


class _Draft:
    """A wave while it grows."""

    def __init__(
        self,
        inventory: Inventory,
        policies: PolicySet,
        passports: Mapping[str, Passport],
        busy: Mapping[str, Reason],
    ) -> None:
        self._now = inventory
        self._left = inventory
        self._policies = policies
        self._passports = passports
        self._busy = busy
        self._names: dict[str, str] = {}  # machine -> where in the list it stands
        self._sources: dict[str, str] = {}

    def add(self, entry: WaveEntry) -> tuple[WaveItem, Plan | None]:
        """Plan one more machine beside the others."""
        named = entry.name or entry.machine or " ".join(entry.sources)
        if entry.machine and entry.machine not in self._passports:
            text = f"There is no record of a machine {entry.machine!r}. See: p2vctl machine list"
            return _refused(entry, named, (Reason("record-not-found", text),)), None
        if twice := self._twice(entry.name or entry.machine, ()):
            return _refused(entry, named, tuple(twice)), None
        try:
            plan, short = self._plan(entry)
        except NotFound as error:
            return _refused(entry, named, (Reason("source-not-found", str(error)),)), None
        except Refused as error:
            return _refused(entry, named, error.reasons), None
        if reasons := (*self._twice(plan.machine_name, plan.disks), *self._taken(plan)):
            return _refused(entry, plan.machine_name, reasons), None
        self._names[plan.machine_name] = entry.place
        self._sources |= {disk.source.id: plan.machine_name for disk in plan.disks}
        if not short:
            for disk in plan.disks:
                self._left = with_planned(self._left, disk)
        priority = plan.disks[0].copy.priority if entry.priority is None else entry.priority
        item = WaveItem(
            entry,
            plan.machine_name,
            Fate.WAITS if short else Fate.READY,
            plan.id,
            short,
            plan.warnings,
            priority,
            len(plan.disks),
            sum(disk.source.size_bytes for disk in plan.disks),
            tuple(str(disk.target) for disk in plan.disks),
        )
        return item, plan

    def _plan(self, entry: WaveEntry) -> tuple[Plan, tuple[Reason, ...]]:
        """Return the plan, and where it fits only without those before it, what it waits for.

        Raises NotFound, Refused.
        """
        request = PlanRequest(
            entry.sources, entry.name, entry.source_offline, passport=self._passports.get(entry.machine)
        )
        try:
            return make_plan(request, self._left, self._policies, self._passports), ()
        except Refused as refused:
            if self._left is self._now or not only_space(refused):
                raise
            return make_plan(request, self._now, self._policies, self._passports), refused.reasons

    def _twice(self, name: str, disks: Sequence[DiskPlan]) -> list[Reason]:
        found = []
        if (place := self._names.get(name)) is not None:
            where = f" ({place})" if place else ""
            text = f"The wave has a machine {name} already{where}. Name one of them otherwise."
            found.append(Reason("name-twice", text))
        found += [
            Reason("source-twice", f"{disk.source.id} is a disk of {self._sources[disk.source.id]} already.")
            for disk in disks
            if disk.source.id in self._sources
        ]
        return found

    def _taken(self, plan: Plan) -> list[Reason]:
        return [self._busy[disk.source.id] for disk in plan.disks if disk.source.id in self._busy]


def only_space(refused: Refused) -> bool:
    """Whether nothing speaks against a machine but that there is no room now."""
    return all(reason.code in SPACE for reason in refused.reasons)


def _refused(entry: WaveEntry, name: str, reasons: tuple[Reason, ...]) -> WaveItem:
    return WaveItem(entry, name, Fate.REFUSED, reasons=tuple(reasons), priority=entry.priority or 0)


def with_item(wave: Wave, number: int, item: WaveItem) -> Wave:
    """Return the wave with another item in the place of that number."""
    return replace(wave, items=(*wave.items[:number], item, *wave.items[number + 1 :]))
