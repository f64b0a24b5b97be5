"""The source, protected from this host's own writers: read-only and in quarantine (design: §4.3, §4.11)."""

import enum
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from p2vd.discovery.identity import scsi_wwid
from p2vd.jobs.services import Services
from p2vd.model.disk import Source
from p2vd.model.inquiry import clean_inquiry
from p2vd.model.job import Job
from p2vd.system.command import CommandFailed, CommandTimedOut

log = logging.getLogger(__name__)


class _Standing(enum.Enum):
    """What a device is to a source, by what the kernel says of it now."""

    ITS_OWN = "its own"
    ANOTHERS = "another's"
    GONE = "gone"
    UNKNOWN = "unknown"


def protect(services: Services, job: Job, source: Source) -> None:
    """Set the source's map and paths read-only, noting durably first which of them were not.

    It is open by then: the kernel gives the name of no device away that somebody has open, and what the
    kernel says of it at this moment, not the inventory, tells that it is the source's.

    A device that does not answer is passed over with a warning: the worker's own descriptor is
    read-only in any case.
    """
    if not source.device:  # an image: nothing of the kernel's; its lock guards it
        return
    devices = (source.devnode, *(f"/dev/{path.device}" for path in source.paths))
    writable = [device for device in dict.fromkeys(devices) if _is_writable(services.sysfs, device)]
    if not writable:
        return
    for device in [*writable]:
        if (standing := _standing(services.sysfs, source.wwid, source, device)) is not _Standing.ITS_OWN:
            log.warning(
                "job %s: %s is %s: not set read-only for %s", job.uuid, device, standing.value, source
            )
            writable.remove(device)
    noted = services.board.job(job.uuid).source_set_read_only
    if new := tuple(device for device in writable if device not in noted):
        services.board.change(
            job.uuid,
            lambda stored: replace(stored, source_set_read_only=stored.source_set_read_only + new),
        )
    _set(services, writable, "--setro")


def release(services: Services, job: Job, source: Source | None) -> None:
    """Set back what this job set read-only, as far as it still is this source's.

    What is gone, or another's by now, is forgotten; what cannot be set back now stays noted, for the next
    start of the daemon.
    """
    if not job.source_set_read_only:
        return
    wwid = job.plan.source.wwid
    standings = {
        device: _standing(services.sysfs, wwid, source, device) for device in job.source_set_read_only
    }
    # Paths first: a map over a read-only path stays read-only.
    ours = [device for device, standing in standings.items() if standing is _Standing.ITS_OWN]
    ours.sort(key=lambda device: device.startswith("/dev/dm-"))
    kept = _set(services, ours, "--setrw")
    kept |= {device for device, standing in standings.items() if standing is _Standing.UNKNOWN}
    if kept:
        log.warning("job %s: still read-only of its source: %s", job.uuid, " ".join(sorted(kept)))
    services.board.change(
        job.uuid,
        lambda stored: replace(
            stored,
            source_set_read_only=tuple(each for each in stored.source_set_read_only if each in kept),
        ),
    )


def _standing(sysfs: Path, wwid: str, source: Source | None, device: str) -> _Standing:
    """Return what `device` is to the source of that WWID; `source` as the inventory has it, if it has."""
    name = Path(device).name
    node = sysfs / "class/block" / name
    if not node.exists():
        return _Standing.GONE
    map_uuid = source.dm_uuid if source is not None else f"mpath-{wwid}"
    if dm_uuid := _attribute(node, "dm/uuid"):
        return _own(dm_uuid == map_uuid)
    holders = (_attribute(sysfs / "class/block" / held.name, "dm/uuid") for held in node.glob("holders/*"))
    if map_uuid and map_uuid in holders:
        return _Standing.ITS_OWN
    # What the kernel asked when the device came: this name's disk, and not an earlier one's.
    found = scsi_wwid(_attribute(node, "device/wwid")) or clean_inquiry(_attribute(node, "wwid"))
    if wwid and found:
        return _own(found == wwid)
    return _own(name == source.device) if source is not None else _Standing.UNKNOWN


def _own(is_own: bool) -> _Standing:
    return _Standing.ITS_OWN if is_own else _Standing.ANOTHERS


def _attribute(node: Path, name: str) -> str:
    try:
        return (node / name).read_text(errors="replace").strip("\n")
    except OSError:
        return ""


def _is_writable(sysfs: Path, device: str) -> bool:
    try:
        return (sysfs / "class/block" / Path(device).name / "ro").read_text().strip() == "0"
    except OSError as error:
        log.warning("%s could not be asked whether it is read-only: %s", device, error)
        return False


def _set(services: Services, devices: Sequence[str], flag: str) -> set[str]:
    """Set or clear the flag; return the devices of which that failed."""
    # BLKROSET changes one flag in the kernel at once or not at all: a kill at the deadline is harmless.
    # blockdev ends at the first device that it cannot open: then each is tried alone.
    try:
        if devices:
            services.commands.query(["blockdev", flag, *devices], timeout_s=10)
    except (CommandFailed, CommandTimedOut) as error:
        log.warning("blockdev %s %s: %s", flag, " ".join(devices), error)
        if len(devices) > 1:
            return set().union(*(_set(services, [device], flag) for device in devices))
        return set(devices)
    return set()
