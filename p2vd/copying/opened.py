"""From descriptors to a Source and a Target, with what must be open before privileges go."""

import os
from pathlib import Path

from p2vd.copying.controls import Controls, Gauge
from p2vd.copying.devices import Device, Target
from p2vd.copying.terms import TargetTraits
from p2vd.system import block


def name_of(fd: int) -> str:
    """The name by which the kernel knows what `fd` has open; for sentences only."""
    try:
        return str(Path(f"/proc/self/fd/{fd}").readlink())
    except OSError:
        return f"descriptor {fd}"


def source_on(fd: int, gauge: Gauge) -> Device:
    """The source on an open descriptor. Raises OSError."""
    return Device(fd, name_of(fd), block.size_bytes(fd), gauge)


def target_on(
    fd: int,
    traits: TargetTraits,
    controls: Controls,
    gauge: Gauge,
    *,
    untouched_is_zero: bool | None = None,
    tail_fd: int = -1,
) -> Target:
    """The target on an open descriptor, and sysfs' dm/uuid of it opened too. Raises OSError."""
    uuid_fd = -1
    if traits.dm_uuid:
        # Open for the whole run: each pread at 0 asks the kernel anew, after the privileges are gone too.
        path = block.SYSFS / "dev/block" / block.device_number(fd) / "dm/uuid"
        uuid_fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    skips = traits.is_file or (traits.thin_chunk_bytes > 0 and traits.pool_zeroes)
    if traits.is_file and tail_fd < 0:
        # Direct I/O cannot write a disk's odd end, which need not be whole blocks of the filesystem.
        tail_fd = os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
    return Target(
        fd,
        name_of(fd),
        traits.size_bytes,
        gauge,
        reading="read-back",
        chunk_bytes=traits.thin_chunk_bytes,
        untouched_is_zero=skips if untouched_is_zero is None else untouched_is_zero,
        tail_fd=tail_fd,
        dm_uuid=traits.dm_uuid,
        uuid_fd=uuid_fd,
        admit=controls.admit,
    )
