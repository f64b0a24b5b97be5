"""A wave: many machines that are planned as one, and started one after the other."""

import enum
from dataclasses import dataclass, field

from p2vd.model.errors import Reason
from p2vd.model.job import Caller


class Fate(enum.Enum):
    """What becomes of a machine of a wave. Durable.

    `ready`: it fits beside those before it. `waits`: it may run, and there is no room now. `refused`: it
    may not run. `started`: its jobs are made.
    """

    READY = "ready"
    WAITS = "waits"
    REFUSED = "refused"
    STARTED = "started"


class WaveState(enum.Enum):
    """How far a wave has come. Durable. `scheduled`: it starts at its time."""

    PLANNED = "planned"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class WaveEntry:
    """A line of the list: which machine, by its record (`machine`) or its `sources`, and how it shall run.

    `name`: of the virtual machine; empty: the record's, or the default. `priority` None: as the policy says.
    `place`: where in the list it stands, for people.
    """

    machine: str = ""
    sources: tuple[str, ...] = ()
    name: str = ""
    source_offline: bool = False
    priority: int | None = None
    place: str = ""


@dataclass(frozen=True)
class WaveItem:
    """One machine of a wave. `plan_id` is empty where it was refused from the beginning.

    `priority`: that of its first disk. `bytes_to_copy`: of all its disks. `machine_uuid` is durable before
    the machine is made, so that a crash in between makes no second one.
    """

    entry: WaveEntry
    name: str
    fate: Fate
    plan_id: str = ""
    reasons: tuple[Reason, ...] = ()
    warnings: tuple[str, ...] = ()
    priority: int = 0
    disks: int = 0
    bytes_to_copy: int = 0
    targets: tuple[str, ...] = ()
    machine_uuid: str = ""


@dataclass(frozen=True)
class Wave:
    """Machines in the order in which they start: by priority, then as the list has them.

    `id` is a hash of the ids of their plans: what runs is what was shown. `at_us`: when it starts; 0: at
    once.
    """

    id: str
    items: tuple[WaveItem, ...]
    state: WaveState = WaveState.PLANNED
    at_us: int = 0
    started_by: Caller = field(default_factory=Caller)
    planned_us: int = 0
