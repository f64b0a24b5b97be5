"""Jobs and machines: what of them is durable."""

import enum
from dataclasses import dataclass, field

from p2vd.model.boot_test import BootTest
from p2vd.model.copying import Progress
from p2vd.model.passport import Passport
from p2vd.model.plan import Cutover, DiskPlan, DomainOptions
from p2vd.model.verification import Verification, WriteCount


class Stage(enum.Enum):
    """How far a disk has come. Durable."""

    PLANNED = "planned"
    PROVISIONING = "provisioning"
    COPYING = "copying"
    VERIFYING = "verifying"
    PROVEN = "proven"
    FAILED = "failed"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


class Hold(enum.Enum):
    """Why a job does not run now. Durable; a job runs only while it has none."""

    USER = "user"
    WINDOW = "window"
    SLOT = "slot"
    POOL = "pool"
    SOURCE_ABSENT = "source-absent"
    TARGET_ABSENT = "target-absent"
    OLD_WORKER = "old-worker"
    CHECKPOINT_STORE = "checkpoint-store"
    HOOK = "hook"


class Activity(enum.Enum):
    """What a job does at this moment. Derived, never stored."""

    RUNNING = "running"
    STALLED = "stalled"
    IDLE = "idle"


class MachineState(enum.Enum):
    """How far a machine has come. Durable."""

    PLANNED = "planned"
    COPYING = "copying"
    READY = "ready"
    REGISTERING = "registering"
    REGISTERED = "registered"
    ROLLING_BACK = "rolling-back"
    ACCEPTING = "accepting"
    ACCEPTED = "accepted"
    ROLLED_BACK = "rolled-back"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class JobError:
    """The first cause of a failure: the error's name and its sentence."""

    name: str
    message: str


@dataclass(frozen=True)
class Caller:
    """Who asked: over D-Bus the uid, the bus name, the process, and the unit that systemd runs it in.

    `pid` and `unit` are what the bus and the kernel said when the call came; 0 and "" where they did not.
    """

    uid: int = 0
    bus_name: str = ""
    pid: int = 0
    unit: str = ""


@dataclass(frozen=True)
class Job:
    """One disk on its way. `lv_uuid`, or `target_file_id`, is empty until the target was made or adopted.

    `checkpoint_begun`: a worker has committed to the checkpoint, so a missing one was lost.
    `bad_ranges`: byte offset and length of what could not be read of the source, and is zero.
    `fruitless_exits` counts workers in a row that ended without progress. `source_set_read_only`
    names the devices that this job set read-only and has to set back. `finished`: it is proven, its
    volume is released, its source set back, and its receipt written. `ignores_window`: the administrator
    let it run at any time, whatever its plan says. `removed_us`: when the finished job left the bus; it
    stays in the store. `proven_writes`: how often the volume had been written to when the job was finished;
    None: that could not be read. `verification`: the latest of the later ones. `prepared`: its hooks before
    the copy have run. `hook_error`: why it has the hold `hook`. `woken_boot`: in which boot p2vd has
    activated its LV, which was at rest, to read it; "" once it is at rest again. `mistrust`: why what
    was copied cannot be trusted, for good: every attempt fails with it. `read_back_anew`: somebody else had
    the target open, so that all of it is read back again before it is proven, whatever was read before.
    """

    uuid: str
    machine_uuid: str
    plan: DiskPlan
    stage: Stage = Stage.PLANNED
    holds: frozenset[Hold] = frozenset()
    failed_stage: Stage | None = None
    error: JobError | None = None
    lv_uuid: str = ""
    generation: int = 1
    progress: Progress = field(default_factory=Progress)
    digest: str = ""
    source_stable: str = ""
    bad_ranges: tuple[tuple[int, int], ...] = ()
    checkpoint_begun: bool = False
    fruitless_exits: int = 0
    source_set_read_only: tuple[str, ...] = ()
    keep_target: bool = False
    started_by: Caller = field(default_factory=Caller)
    offline_declared_us: int = 0
    start_time_us: int = 0
    end_time_us: int = 0
    finished: bool = False
    ignores_window: bool = False
    removed_us: int = 0
    proven_writes: WriteCount | None = None
    verification: Verification | None = None
    target_file_id: str = ""
    prepared: bool = False
    hook_error: str = ""
    woken_boot: str = ""
    mistrust: JobError | None = None
    read_back_anew: bool = False


@dataclass(frozen=True)
class Machine:
    """A physical machine on its way to a virtual one: its jobs in the order of its disks, and the domain.

    `hardware`: what the physical machine was, as the plan saw it, so that what was shown is defined
    whatever is imported meanwhile. `handed_over`: its registration was begun, by itself or by `Cutover`,
    and there may be a domain. `start`: the domain is to be started once it is registered. `unmap`: WWIDs of
    sources whose paths were removed from this host: the array may unmap them. `ran_us`: when p2vd first
    started the virtual machine or saw it run; 0: it never did. `converted`: its guest is, for good. `domain`:
    how it shall look, where that was chosen at a cutover; None: as its plan says. `redefines`: a domain that
    was defined by an earlier choice may be there, and goes before the next is defined.
    """

    uuid: str
    name: str
    state: MachineState = MachineState.PLANNED
    jobs: tuple[str, ...] = ()
    plan_id: str = ""
    hardware: Passport | None = None
    domain_uuid: str = ""
    error: JobError | None = None
    cutover: Cutover = Cutover.AUTO
    handed_over: bool = False
    start: bool = False
    unmap: tuple[str, ...] = ()
    boot_test: BootTest | None = None
    converted: bool = False
    ran_us: int = 0
    domain: DomainOptions | None = None
    redefines: bool = False
