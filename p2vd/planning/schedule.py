"""Which jobs work now, and why the others wait. Pure.

A job that works is never stopped for another one. Of those that wait, the higher priority comes
first, then the older job; a job that cannot start lets the others pass that need nothing it waits
for. So that these never keep it waiting for ever, the next in line for what is taken has what it
needs besides kept for it.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field

from p2vd.model.limits import Limits, Waiting


class Kind(enum.Enum):
    """What jobs share, as people read it."""

    HOST = "host"
    VOLUME_GROUP = "volume group"
    ARRAY = "array"
    PORTAL = "portal"


@dataclass(frozen=True)
class Resource:
    """Something that is limited in how many jobs use it. `name` is for people, `id` never changes."""

    kind: Kind
    id: str
    name: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"{self.kind.value} {self.name or self.id}"


@dataclass(frozen=True)
class Work:
    """A job as the schedule sees it: what it uses, and how urgent it is (higher first)."""

    job: str
    uses: frozenset[Resource] = frozenset()
    priority: int = 0


@dataclass(frozen=True)
class Schedule:
    """`running`: the jobs that work now. `waiting`: the others, the next one first."""

    running: tuple[str, ...] = ()
    waiting: tuple[Waiting, ...] = ()


_HOST = Resource(Kind.HOST, "")
_ORDER = list(Kind)
_KEYS = {
    Kind.HOST: "max_jobs",
    Kind.VOLUME_GROUP: "limits.per_volume_group",
    Kind.ARRAY: "limits.per_array",
    Kind.PORTAL: "limits.per_portal",
}


def schedule(running: Sequence[Work], waiting: Sequence[Work], limits: Limits) -> Schedule:
    """Return who works now, of jobs that do already and jobs that want to; both oldest first.

    Jobs that work go on, unless the limits have become lower than what they use: then the last ones
    wait too. Holds: no limit is exceeded; equal arguments give equal schedules; among equals the
    oldest one that waits is the first to get what it waits for.
    """
    table = _Table(limits)
    working = []
    left_over = []
    for work in _in_order(running):
        if table.short(work):
            left_over.append(work)
        else:
            table.take(work)
            working.append(work.job)
    held: list[Waiting] = []
    for work in _in_order([*left_over, *waiting]):
        if short := table.short(work):
            held.append(Waiting(work.job, len(held) + 1, table.reason(short)))
            table.keep_for(work, short)
        else:
            table.take(work)
            working.append(work.job)
    return Schedule(tuple(working), tuple(held))


def _in_order(works: Sequence[Work]) -> list[Work]:
    return sorted(works, key=lambda work: -work.priority)  # stable: among equals the older one first


class _Table:
    """What is taken of each resource, and what is kept for those who wait.

    Resources are numbered and what a kind of job uses is looked up once: of hundreds of jobs in a queue
    most use the same, and each change of one goes through all.
    """

    def __init__(self, limits: Limits) -> None:
        self._by_kind = {
            Kind.HOST: limits.in_all,
            Kind.VOLUME_GROUP: limits.per_volume_group,
            Kind.ARRAY: limits.per_array,
            Kind.PORTAL: limits.per_portal,
        }
        self._numbers: dict[Resource, int] = {}
        self._resources: list[Resource] = []
        self._limits: list[int] = []
        self._taken: list[int] = []
        self._kept: list[int] = []
        self._awaited: set[int] = set()
        self._used: dict[frozenset[Resource], tuple[int, ...]] = {}
        self._said: dict[tuple[int, int], str] = {}
        self._host = self._number(_HOST) if limits.in_all else -1

    def short(self, work: Work) -> list[int]:
        """Return what there is not enough of for `work`."""
        limits, taken, kept = self._limits, self._taken, self._kept
        return [each for each in self._limited(work) if limits[each] - taken[each] - kept[each] < 1]

    def take(self, work: Work) -> None:
        """Let `work` have what it uses."""
        for each in self._limited(work):
            self._taken[each] += 1

    def keep_for(self, work: Work, short: Sequence[int]) -> None:
        """Keep the rest of what `work` uses, where it is the next in line for all that it lacks.

        Not its place on the host: whoever ends and frees what it lacks frees such a place too.
        """
        if not self._awaited.intersection(short):
            for each in self._limited(work):
                if each not in short and each != self._host:
                    self._kept[each] += 1
        self._awaited.update(short)

    def reason(self, short: Sequence[int]) -> str:
        """Return why somebody waits who lacks `short`, with the key of each limit."""
        return " ".join(self._sentence(each) for each in short)

    def _sentence(self, number: int) -> str:
        taken = self._taken[number]
        said = self._said.get((number, taken))
        if said is None:
            said = self._said[number, taken] = _sentence(self._resources[number], self._limits[number], taken)
        return said

    def _limited(self, work: Work) -> tuple[int, ...]:
        found = self._used.get(work.uses)
        if found is None:
            uses = sorted(work.uses, key=lambda each: (_ORDER.index(each.kind), each.id))
            limited = [each for each in (_HOST, *uses) if self._by_kind[each.kind]]
            found = self._used[work.uses] = tuple(self._number(each) for each in limited)
        return found

    def _number(self, resource: Resource) -> int:
        known = self._numbers.get(resource)
        if known is None:
            known = self._numbers[resource] = len(self._resources)
            self._resources.append(resource)
            self._limits.append(self._by_kind[resource.kind])
            self._taken.append(0)
            self._kept.append(0)
        return known


def _sentence(resource: Resource, limit: int, taken: int) -> str:
    key = _KEYS[resource.kind]
    if taken < limit:
        return f"The {resource} is kept for a job before this one ({key} = {limit})."
    if resource == _HOST:
        return f"{taken} {'job works' if taken == 1 else 'jobs work'} already ({key} = {limit})."
    return f"The {resource} has {taken} at work already ({key} = {limit})."
