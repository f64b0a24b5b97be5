"""Why a copy ends before its end. `exit_code` is what the worker exits with (manual of p2vd-copy)."""

import enum
from dataclasses import dataclass
from typing import ClassVar

from p2vd.model.errors import P2vdError


class ExitCode(enum.IntEnum):
    """How a worker ends."""

    DONE = 0
    REFUSED = 1
    IO_FAILED = 2
    MISMATCH = 3
    BAD_SECTORS = 4
    STOPPED = 5


@dataclass(eq=False)
class CopyError(P2vdError):
    """Root of the worker's errors."""

    exit_code: ClassVar[ExitCode] = ExitCode.REFUSED


@dataclass(eq=False)
class DeviceReserved(CopyError):
    """A host holds a SCSI persistent reservation on a LUN that is to be copied, or copied to."""

    device: str
    wwid: str
    reservation: str
    exit_code: ClassVar[ExitCode] = ExitCode.REFUSED
    template: ClassVar[str] = (
        "{device} ({wwid}) is reserved by a host: {reservation}. That host may be running and "
        "write to it. Shut it down, or clear the reservation (sg_persist --out --clear), then retry the job."
    )


@dataclass(eq=False)
class ReservationUnknown(CopyError):
    """No path to a LUN tells now whether a host has reserved it, so it is not touched."""

    device: str
    paths: str
    exit_code: ClassVar[ExitCode] = ExitCode.IO_FAILED
    template: ClassVar[str] = (
        "No path to {device} tells whether a host has reserved it ({paths}). Look at its paths "
        "(multipath -ll); the copy goes on when one answers."
    )


@dataclass(eq=False)
class OpenFailed(CopyError):
    """A device or file cannot be opened."""

    device: str
    cause: str
    template: ClassVar[str] = "{device} cannot be opened: {cause}."


@dataclass(eq=False)
class TargetRefused(CopyError):
    """The target may not be written to."""

    target: str
    problem: str
    template: ClassVar[str] = "{target} is refused as a target: {problem} Nothing was written."


@dataclass(eq=False)
class TargetLocked(CopyError):
    """Another process has the target image open, and has it locked as QEMU does."""

    target: str
    exit_code: ClassVar[ExitCode] = ExitCode.IO_FAILED
    template: ClassVar[str] = (
        "{target} is locked by another process, perhaps the QEMU of an earlier run that hangs in the kernel "
        "(lsof {target}). Nothing was written; the copy goes on when it is free."
    )


@dataclass(eq=False)
class SourceRefused(CopyError):
    """The source may not be copied."""

    source: str
    problem: str
    template: ClassVar[str] = "{source} is refused as a source: {problem} Nothing was written."


@dataclass(eq=False)
class UsageError(CopyError):
    """The command line contradicts itself."""

    problem: str
    template: ClassVar[str] = "{problem}"


@dataclass(eq=False)
class CheckpointMissing(CopyError):
    """A copy that has begun has no checkpoint any more."""

    path: str
    template: ClassVar[str] = (
        "The checkpoint {path} of this copy is missing. What the target holds is unknown: "
        "remove the target and begin again."
    )


@dataclass(eq=False)
class CheckpointMismatch(CopyError):
    """The checkpoint belongs to another copy."""

    path: str
    field: str
    expected: str
    found: str
    template: ClassVar[str] = (
        "The checkpoint {path} belongs to another copy: its {field} is {expected}, here it is {found}. "
        "Nothing was written. Use the devices that this copy began with, or begin again."
    )


@dataclass(eq=False)
class CheckpointDamaged(CopyError):
    """The checkpoint cannot be trusted."""

    path: str
    problem: str
    template: ClassVar[str] = (
        "The checkpoint {path} is damaged: {problem}. Nothing was written. Remove it and the target and "
        "begin again."
    )


@dataclass(eq=False)
class CheckpointVersion(CopyError):
    """The checkpoint was written by a newer p2vd."""

    path: str
    version: int
    supported: int
    template: ClassVar[str] = (
        "The checkpoint {path} has version {version}, this p2vd reads up to {supported}. Nothing was "
        "written. Upgrade p2vd, then run the copy again."
    )


@dataclass(eq=False)
class CheckpointLocked(CopyError):
    """Another worker uses the checkpoint."""

    path: str
    template: ClassVar[str] = "The checkpoint {path} is in use: another worker copies. Wait for its end."


@dataclass(eq=False)
class CheckpointUnwritable(CopyError):
    """The checkpoint cannot be written, so the copy must not go on."""

    path: str
    cause: str
    exit_code: ClassVar[ExitCode] = ExitCode.IO_FAILED
    template: ClassVar[str] = (
        "The checkpoint {path} cannot be written: {cause}. The copy stopped; it goes on from its last "
        "checkpoint when there is space and the filesystem is writable."
    )


@dataclass(eq=False)
class MapfileUnwritable(CopyError):
    """The mapfile cannot be written."""

    path: str
    cause: str
    template: ClassVar[str] = "The mapfile {path} cannot be written: {cause}."


@dataclass(eq=False)
class SourceChanged(CopyError):
    """The source is not what was copied."""

    where: str
    offset: int
    length: int
    exit_code: ClassVar[ExitCode] = ExitCode.MISMATCH
    template: ClassVar[str] = (
        "The source changed while or after it was copied: {where}. Something still writes to it; take it "
        "offline and begin again."
    )


@dataclass(eq=False)
class ImageDamaged(CopyError):
    """A compressed image that was whole as far as its index told is not, where it was read."""

    image: str
    form: str
    offset: int
    cause: str
    exit_code: ClassVar[ExitCode] = ExitCode.MISMATCH
    template: ClassVar[str] = (
        "The {form} image {image} is damaged at byte {offset} of its file: {cause}. What was copied "
        "before is safe in the checkpoint, but the image cannot be copied whole; get another copy of it."
    )


@dataclass(eq=False)
class TargetMismatch(CopyError):
    """The target does not hold what was written to it."""

    where: str
    offset: int
    length: int
    exit_code: ClassVar[ExitCode] = ExitCode.MISMATCH
    template: ClassVar[str] = (
        "The target differs from what was copied: {where}. Something else wrote to it, or its storage "
        "lost data. Find the cause, then begin again on a new target."
    )


@dataclass(eq=False)
class TargetChanged(CopyError):
    """The device behind the target's descriptor is not as it was."""

    field: str
    expected: str
    found: str
    exit_code: ClassVar[ExitCode] = ExitCode.MISMATCH
    template: ClassVar[str] = (
        "The target was changed under the copy: its {field} is {found}, expected {expected}. The copy "
        "stopped; nothing more was written."
    )


@dataclass(eq=False)
class _FailedIO(CopyError):
    """An I/O failed; the copy can be resumed."""

    device: str
    offset: int
    length: int
    cause: str
    exit_code: ClassVar[ExitCode] = ExitCode.IO_FAILED


@dataclass(eq=False)
class ReadFailed(_FailedIO):
    """A read failed. `errno` is the kernel's answer, 0: none, the device only ended early."""

    errno: int = 0
    template: ClassVar[str] = (
        "Reading {device} failed at offset {offset}, {length} bytes: {cause}. Look at the disk and its "
        "paths; the copy goes on from its last checkpoint."
    )


@dataclass(eq=False)
class TooManyBadSectors(CopyError):
    """The source has more unreadable sectors than the caller accepts."""

    device: str
    limit: int
    offset: int
    exit_code: ClassVar[ExitCode] = ExitCode.IO_FAILED
    template: ClassVar[str] = (
        "{device} has more than {limit} sectors that cannot be read; the latest is at offset {offset}. What "
        "could be read is safe in the checkpoint. Repair the disk or its paths, or allow more bad sectors, "
        "and run the copy again."
    )


@dataclass(eq=False)
class WriteFailed(_FailedIO):
    """A write, zero or flush failed."""

    template: ClassVar[str] = (
        "Writing {device} failed at offset {offset}, {length} bytes: {cause}. What was not committed is "
        "written again when the copy goes on."
    )


@dataclass(eq=False)
class PoolFull(_FailedIO):
    """The target has no space: its thin pool (or filesystem) is full."""

    template: ClassVar[str] = (
        "{device} has no space left at offset {offset}, {length} bytes: its pool or filesystem is full. "
        "Extend it; the copy goes on from its last checkpoint."
    )
