"""The source, protected from this host's own writers: read-only and in quarantine (design: §4.3, §4.11)."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from p2vd.jobs.services import Services
from p2vd.model.disk import Source
from p2vd.model.job import Job
from p2vd.system.command import CommandFailed, CommandTimedOut

log = logging.getLogger(__name__)


def _devices(source: Source) -> tuple[str, ...]:
    if not source.device:  # an image: nothing of the kernel's; its lock guards it
        return ()
    return (source.devnode, *(f"/dev/{path.device}" for path in source.paths))


def protect(services: Services, job: Job, source: Source) -> None:
    """Set the source's map and paths read-only, noting durably first which of them were not.

    A device that does not answer is passed over with a warning: the worker's own descriptor is
    read-only in any case.
    """
    services.quarantine.add_source(source)
    writable = [device for device in _devices(source) if _is_writable(services.sysfs, device)]
    new = tuple(device for device in writable if device not in job.source_set_read_only)
    if new:
        services.board.change(
            job.uuid,
            lambda stored: replace(stored, source_set_read_only=stored.source_set_read_only + new),
        )
    _set(services, writable, "--setro")


def release(services: Services, job: Job, source: Source | None) -> None:
    """Set back what this job set read-only, as far as it still is this source's."""
    if not job.source_set_read_only:
        return
    if source is not None:
        # Paths first: a map over a read-only path stays read-only.
        ours = [device for device in reversed(_devices(source)) if device in job.source_set_read_only]
        _set(services, ours, "--setrw")
    services.board.change(job.uuid, lambda stored: replace(stored, source_set_read_only=()))


def _is_writable(sysfs: Path, device: str) -> bool:
    try:
        return (sysfs / "class/block" / Path(device).name / "ro").read_text().strip() == "0"
    except OSError as error:
        log.warning("%s could not be asked whether it is read-only: %s", device, error)
        return False


def _set(services: Services, devices: Sequence[str], flag: str) -> None:
    # BLKROSET changes one flag in the kernel at once or not at all: a kill at the deadline is harmless.
    # blockdev ends at the first device that it cannot open: then each is tried alone.
    try:
        if devices:
            services.commands.query(["blockdev", flag, *devices], timeout_s=10)
    except (CommandFailed, CommandTimedOut) as error:
        log.warning("blockdev %s %s: %s", flag, " ".join(devices), error)
        if len(devices) > 1:
            for device in devices:
                _set(services, [device], flag)
