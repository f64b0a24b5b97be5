"""Why a target could not be made, changed or removed, each with the remedy."""

from dataclasses import dataclass
from typing import ClassVar, Self

from p2vd.model.errors import P2vdError
from p2vd.system.command import UNIT_PREFIX, UNIT_SUFFIX


@dataclass(eq=False)
class VgRefused(P2vdError):
    """A volume group is in a state in which p2vd does not touch it; nothing was changed."""

    vg: str
    problem: str
    template: ClassVar[str] = "Volume group {vg} is not touched: {problem}"


@dataclass(eq=False)
class VgStalled(P2vdError):
    """A change of a volume group does not end: nothing else is begun there meanwhile (design: §4.8)."""

    vg: str
    why: str
    template: ClassVar[str] = "Volume group {vg} takes no new work: {why}"

    @classmethod
    def by(cls, vg: str, unit: str) -> Self:
        """The error for a change that runs in the unit of that name."""
        service = f"{UNIT_PREFIX}{unit}{UNIT_SUFFIX}"
        return cls(
            vg,
            f"the command in {service} does not end, and is not killed. Look at it (systemctl status "
            f"{service}) and at the disks beneath (multipath -ll, dmsetup info); p2vd goes on when it has "
            "ended.",
        )


@dataclass(eq=False)
class VgFull(P2vdError):
    """A volume group, or a pool's metadata, has no room for the LV."""

    vg: str
    lv: str
    stderr: str
    template: ClassVar[str] = (
        "There is no room for {lv} in volume group {vg}: LVM says {stderr!r}. "
        "Extend the volume group or choose another by policy, then retry the job."
    )


@dataclass(eq=False)
class PoolShort(P2vdError):
    """A thin pool has no room for what will be written over an undo point; nothing was made."""

    pool: str
    lv: str
    free: str
    wanted: str
    health: str
    template: ClassVar[str] = (
        "The thin pool {pool} is {health} and has {free} free, of data and metadata, beside what copies into "
        "it were granted; to convert the guest on {lv} over an undo point, it shall be well and have "
        "{wanted}. Extend it (lvextend -L +SIZE {pool}; metadata: --poolmetadatasize +SIZE), then retry."
    )


@dataclass(eq=False)
class PoolGone(P2vdError):
    """A volume group no longer has the thin pool of that UUID."""

    vg: str
    pool: str
    pool_uuid: str
    template: ClassVar[str] = (
        "Volume group {vg} has no thin pool {pool} with the UUID {pool_uuid} any more; nothing was changed."
    )


@dataclass(eq=False)
class LvNameTaken(P2vdError):
    """There is an LV of that name which this job did not make."""

    vg: str
    lv: str
    template: ClassVar[str] = (
        "Volume group {vg} has a logical volume {lv} that this job did not make; it was not touched. "
        "Rename it (lvrename) or give the target another name by policy, then make a new plan."
    )


@dataclass(eq=False)
class LvNotOurs(P2vdError):
    """There is no LV of that UUID with the job's tag: p2vd changes only what it made."""

    vg: str
    lv: str
    job: str
    template: ClassVar[str] = (
        "Volume group {vg} has no logical volume {lv} with the tag p2vd.job={job}; nothing was changed. "
        "If the tag was taken off by hand, put it back (lvchange --addtag), then retry the job."
    )


@dataclass(eq=False)
class LvAmbiguous(P2vdError):
    """Several LVs carry one job's tag."""

    vg: str
    lvs: str
    job: str
    template: ClassVar[str] = (
        "Volume group {vg} has several logical volumes with the tag p2vd.job={job}: {lvs}. "
        "Take the tag off those that p2vd did not make (lvchange --deltag), then retry the job."
    )


@dataclass(eq=False)
class LvUnchanged(P2vdError):
    """LVM said that it changed an LV, and its next report shows that it did not."""

    vg: str
    lv: str
    wanted: str
    template: ClassVar[str] = (
        "LVM reported success, but {vg}/{lv} is not {wanted}. "
        "Look for another administrator or host that changes this volume group, then retry the job."
    )


@dataclass(eq=False)
class MarkerUnwritable(P2vdError):
    """A quarantine marker could not be written or removed."""

    path: str
    problem: str
    template: ClassVar[str] = (
        "The quarantine marker {path} could not be changed: {problem}. Without it this host may take hold "
        "of the guest's disk. Make its directory writable, then retry the job."
    )


@dataclass(eq=False)
class FileStepFailed(P2vdError):
    """The filesystem refused to make, name or remove a file. `error`: the kind of the cause."""

    step: str
    path: str
    problem: str
    error: str = ""
    template: ClassVar[str] = (
        "The file {path} could not be handled ({step}): {problem}. Look at the directory, its mount and its "
        "rights, then retry the job."
    )


@dataclass(eq=False)
class FileNameTaken(P2vdError):
    """There is a file of that name which this job did not make."""

    path: str
    template: ClassVar[str] = (
        "There is a file {path} that this job did not make; it was not touched. Rename it, then retry the "
        "job; or give the target another name by policy, and make a new plan."
    )


@dataclass(eq=False)
class FileNotOurs(P2vdError):
    """A file has the name of a job's own and holds what the job never wrote."""

    path: str
    job: str
    template: ClassVar[str] = (
        "{path} has the name of the file of job {job}, and holds data that this job has not written: it was "
        "not touched. Find out who made it, move it away, then retry the job."
    )
