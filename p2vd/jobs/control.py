"""How a step of a job ends other than well: it must wait, or somebody wants something else."""

from dataclasses import dataclass
from typing import ClassVar

from p2vd.model.errors import IdentityChanged, P2vdError
from p2vd.model.job import Hold


@dataclass(eq=False)
class MustWait(P2vdError):
    """The step cannot go on now and can later: the job is held, and tried again."""

    hold: Hold
    why: str
    template: ClassVar[str] = "held: {why}"


@dataclass(eq=False)
class TryAgain(P2vdError):
    """A query gave no answer: nothing is known, nothing was done."""

    why: str
    template: ClassVar[str] = "{why}"


@dataclass(eq=False)
class StillChanging(P2vdError):
    """A change of LVM's that p2vd, perhaps an earlier one, has begun is not over: they are never killed."""

    unit: str
    template: ClassVar[str] = "p2vd-change-{unit}.service still runs"


class Interrupted(Exception):
    """The daemon stops, or the job was cancelled or held, in the middle of a step."""


@dataclass(eq=False)
class LvVanished(P2vdError):
    """The LV of a job is gone from its VG, or no longer carries the job's tag."""

    vg: str
    lv_uuid: str
    job: str
    template: ClassVar[str] = (
        "The LV {lv_uuid} of this job is no longer in VG {vg} with the tag p2vd.job={job}. "
        "Cancel the job and make a new plan."
    )


@dataclass(eq=False)
class TargetChanged(P2vdError):
    """Somebody else changed the target while the job had it."""

    device: str
    what: str
    template: ClassVar[str] = (
        "The target {device} was changed from outside: {what}. What was copied cannot be trusted: "
        "find out who did it, cancel the job with --remove-target and make a new plan."
    )


@dataclass(eq=False)
class PathReplaced(IdentityChanged):
    """A path of a running copy leads to another LUN by now: what went through it is another disk's."""

    template: ClassVar[str] = (
        "{device}, a path of {expected}, leads to {found} by now: the array has given the LUN number to "
        "another disk, and the copy may have used it. What was copied cannot be trusted: check the LUN "
        "mapping on the array and what is on {found}, have the paths looked at (p2vctl portals rescan), "
        "cancel the job with --remove-target and make a new plan."
    )

    @property
    def name(self) -> str:
        """As where it is found before anything was copied."""
        return IdentityChanged.__name__


@dataclass(eq=False)
class TargetInUse(P2vdError):
    """Another process has the target open while the job copies into it."""

    device: str
    opens: int
    template: ClassVar[str] = (
        "The target {device} is open by somebody else too ({opens} times in all), who may write to it. "
        "Find the process (fuser -v {device}) and end it, then retry the job: it goes on where it was, and "
        "reads the whole target back at the end, whatever it has read before."
    )


@dataclass(eq=False)
class PoolBroken(P2vdError):
    """A thin pool needs repair before anything may be written to it."""

    pool: str
    state: str
    template: ClassVar[str] = (
        "The thin pool {pool} is {state}. Deactivate it, run lvconvert --repair {pool}, "
        "activate it, then retry the job."
    )


@dataclass(eq=False)
class WorkerFailed(P2vdError):
    """A worker ended without a report of its own."""

    source: str
    how: str
    template: ClassVar[str] = (
        "The worker that copied {source} {how}. What it wrote is safe up to its last checkpoint; "
        "see journalctl -u p2vd for the cause."
    )
