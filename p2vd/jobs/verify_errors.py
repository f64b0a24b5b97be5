"""Why a volume could not be verified; each says nothing of what the volume holds."""

from dataclasses import dataclass
from typing import ClassVar

from p2vd.model.errors import P2vdError


@dataclass(eq=False)
class VerifyCannotRun(P2vdError):
    """The volume, or what it is compared with, is not there."""

    volume: str
    why: str
    template: ClassVar[str] = "{volume} cannot be verified: {why}"


@dataclass(eq=False)
class VerifyMachineRuns(P2vdError):
    """The virtual machine runs: its volume changes, as it shall."""

    machine: str
    uri: str
    template: ClassVar[str] = (
        "The virtual machine {machine} runs at {uri}. Since its first boot its volumes are no longer what "
        "the receipt says, and they change while it runs. To see how far, shut it down (virsh shutdown "
        "{machine}) and verify again."
    )


@dataclass(eq=False)
class VolumeBusy(P2vdError):
    """Somebody has the volume open, who may write to it."""

    volume: str
    device: str
    template: ClassVar[str] = (
        "{volume} is open by somebody else, perhaps by a virtual machine: it is verified at rest. Who has it "
        "open: lsof {device}, dmsetup ls --tree"
    )


@dataclass(eq=False)
class VolumeUsedMeanwhile(P2vdError):
    """Something wrote to the volume while it was read."""

    volume: str
    writes: int
    template: ClassVar[str] = (
        "While {volume} was verified something wrote to it ({writes} times), so what was read says nothing. "
        "Was its machine started? Verify again when it is at rest."
    )


@dataclass(eq=False)
class VerifyInterrupted(P2vdError):
    """It was ended: p2vd stops, or the volume is wanted for something else."""

    volume: str
    template: ClassVar[str] = "The verification of {volume} was ended before its end. Start it again."


@dataclass(eq=False)
class VerifyFailed(P2vdError):
    """The process that reads the volume ended badly; `what` is its sentence."""

    volume: str
    what: str
    template: ClassVar[str] = "{volume} could not be verified. {what}"
