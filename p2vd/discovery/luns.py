"""Is what answers at a path still the LUN that the kernel knows there? And what a rescan does about it.

The kernel and udev ask a LUN for its identity once. When an array gives its number to another LUN,
`sdX` stays, with the old identity, and leads to the new data. Only a fresh INQUIRY tells.
"""

import enum
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from p2vd.discovery.identity import same_designator
from p2vd.model.disk import Source
from p2vd.model.inquiry import clean_inquiry
from p2vd.system.command import CommandFailed, CommandNotStarted, Commands, CommandTimedOut

log = logging.getLogger(__name__)

# What udev and multipath ask, by an INQUIRY of its own each time (systemd, scsi_id.c).
_SCSI_ID = "/lib/udev/scsi_id"
_ANSWER_S = 15.0

# sg3_utils(8), EXIT STATUS. An illegal request as the answer to TEST UNIT READY, which every unit
# knows: there is no such unit (SPC-4, 5.9: LOGICAL UNIT NOT SUPPORTED). A unit attention comes once.
_ILLEGAL_REQUEST = 5
_UNIT_ATTENTION = 6
_ATTENTIONS = 4

_SCSI_DISK = re.compile(r"sd[a-z]+")


class Found(enum.Enum):
    """What answers at a path. `silent`: nothing does, and that says nothing about the LUN."""

    SAME = "same"
    OTHER = "other"
    GONE = "gone"
    SILENT = "silent"


@dataclass(frozen=True)
class Answer:
    """What a path said; `wwid` where it is another LUN's."""

    found: Found
    wwid: str = ""


def ask(commands: Commands, device: str, expected_wwid: str) -> Answer:
    """Ask the LUN behind `device` (`sda`) who it is, past every cache."""
    try:
        said = commands.query([_SCSI_ID, "-g", "-u", "-d", f"/dev/{device}"], timeout_s=_ANSWER_S).stdout
    except (CommandFailed, CommandTimedOut):
        said = ""
    wwid = clean_inquiry(said)
    if wwid == expected_wwid:
        return Answer(Found.SAME)
    if _is_gone(commands, device):
        return Answer(Found.GONE)
    if same_designator(wwid, expected_wwid):
        return Answer(Found.OTHER, wwid)
    return Answer(Found.SILENT)


def _is_gone(commands: Commands, device: str) -> bool:
    for _ in range(_ATTENTIONS):
        try:
            status = commands.query(
                ["sg_turs", f"/dev/{device}"], timeout_s=_ANSWER_S, ok=range(256)
            ).returncode
        except (CommandFailed, CommandTimedOut):
            return False
        if status != _UNIT_ATTENTION:
            return status == _ILLEGAL_REQUEST
    return False


def remove_path(commands: Commands, device: str, sysfs: Path = Path("/sys")) -> None:
    """Have the kernel forget a SCSI disk. Raises CommandFailed, ValueError for what is none."""
    if _SCSI_DISK.fullmatch(device) is None:
        raise ValueError(f"{device!r} is no SCSI disk")
    # There is no tool for it, and the write may wait for the array: not in this process.
    script = 'echo 1 > "$0"'
    commands.change(["sh", "-c", script, f"{sysfs}/block/{device}/device/delete"], unit=f"forget-{device}")


def flush_map(commands: Commands, name: str) -> None:
    """Remove a multipath map that nobody has open.

    Raises CommandFailed where somebody has, CommandNotStarted.
    """
    commands.change(["multipath", "-f", name], unit=f"flush-{name}")


def flush_all(
    commands: Commands, maps: Sequence[Source]
) -> tuple[Source, CommandFailed | CommandNotStarted] | None:
    """Remove the maps of disks, all or none; None: all are gone.

    Else the disk whose map stays, and why: those before it are made again, each by itself. What cannot be is
    logged, for it fails where the host lacks what the flush lacked.
    """
    for number, source in enumerate(maps):
        try:
            flush_map(commands, source.name)
        except (CommandFailed, CommandNotStarted) as error:
            for flushed in maps[:number]:
                _make_again(commands, flushed)
            return source, error
    return None


def _make_again(commands: Commands, source: Source) -> None:
    device = path_devices(source)[0]
    try:
        make_map(commands, device)
    except (CommandFailed, CommandTimedOut) as error:
        log.error(  # noqa: TRY400 - the host lacks something, no defect of ours
            "%s has no multipath map any more; make it: multipath -v1 /dev/%s: %s", source, device, error
        )


def path_devices(source: Source) -> tuple[str, ...]:
    """The kernel's names of a disk's paths; of one without paths its own."""
    return tuple(path.device for path in source.paths) or (source.device,)


def make_map(commands: Commands, device: str) -> None:
    """Make the multipath map of a path anew. Raises CommandFailed, CommandNotStarted."""
    commands.change(["multipath", "-v1", f"/dev/{device}"], unit=f"map-{device}")


def resize_map(commands: Commands, name: str) -> None:
    """Give a map the size that all its paths have. Raises CommandFailed."""
    commands.change(["multipathd", "resize", "map", name], unit=f"resize-{name}")


def settle(commands: Commands) -> None:
    """Wait until udev has dealt with what appeared; not for ever, where a disk keeps it busy."""
    try:
        commands.query(["udevadm", "settle", "--timeout=20"], timeout_s=30.0)
    except (CommandFailed, CommandTimedOut) as error:
        log.warning("udev is busy: %s", error)
