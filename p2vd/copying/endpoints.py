"""The tool's own source and target: opened, and refused where a copy would do harm.

Under the daemon none of this runs: there discovery, the plan and the opener decide.
"""

import errno
import json
import logging
import os
import random
import stat
from dataclasses import dataclass, field
from pathlib import Path

from p2vd.copying.controls import Gauge
from p2vd.copying.devices import Buffer, Device
from p2vd.copying.errors import OpenFailed, SourceRefused, TargetRefused
from p2vd.copying.layout import BLOCK
from p2vd.copying.opener import Opener
from p2vd.copying.opening import SourceToOpen, TargetToOpen
from p2vd.copying.storage import Thin, scsi_disks, thin
from p2vd.system import block
from p2vd.system.command import CommandFailed, CommandTimedOut

log = logging.getLogger(__name__)

_ZERO_SAMPLE = 64


@dataclass(frozen=True)
class Endpoint:
    """An open source or target. `id` is what cannot drift. `tail_fd`: without O_DIRECT, or -1.

    `thin`: how its pool allocates, of a target that is a thin LV.
    """

    fd: int
    id: str
    size_bytes: int
    sector_size: int
    dm_uuid: str = ""
    tail_fd: int = -1
    thin: Thin = field(default_factory=Thin)


def open_source(path: Path, opener: Opener) -> Endpoint:
    """Open the source, a block device exclusively.

    Raises OpenFailed, SourceRefused, DeviceInUse, DeviceReserved.
    """
    status = _status(path)
    if stat.S_ISBLK(status.st_mode):
        size, sector, uuid, wwid = _probe(path)
        _check_reservation(path, wwid, opener)
        fd = opener.open_patiently(SourceToOpen(str(path), size, sector, uuid), os.O_RDONLY, "source")
        return Endpoint(fd, wwid or uuid or str(path.resolve()), size, sector, uuid)
    if not stat.S_ISREG(status.st_mode):
        raise SourceRefused(str(path), "it is neither a block device nor a file.")
    fd = _open_file(path, os.O_RDONLY)
    return Endpoint(fd, f"{path.resolve()} {file_id(fd)}", os.fstat(fd).st_size, 512)


def open_block_target(path: Path, source: Endpoint, opener: Opener) -> Endpoint:
    """Open a block device as the target, exclusively. Raises as `open_source`, and TargetRefused."""
    size, sector, uuid, wwid = _probe(path)
    if size < source.size_bytes:
        raise TargetRefused(str(path), f"it has {size} bytes, the source {source.size_bytes}.")
    if block.is_block(source.fd):
        if os.fstat(source.fd).st_rdev == path.stat().st_rdev:
            raise TargetRefused(str(path), "it is the source.")
        if sector != source.sector_size:
            raise TargetRefused(
                str(path), f"its sectors have {sector} bytes, the source's {source.sector_size}."
            )
    _check_reservation(path, wwid, opener)
    fd = opener.open_patiently(TargetToOpen(str(path), size, sector, uuid), os.O_RDWR, "target")
    if block.is_read_only(fd):
        os.close(fd)
        raise TargetRefused(str(path), "it is read-only.")
    allocation = thin(block.device_number(fd), opener.commands) if uuid else Thin()
    return Endpoint(fd, wwid or uuid or str(path.resolve()), size, sector, uuid, thin=allocation)


def check_empty(path: Path, target: Endpoint, opener: Opener, *, force: bool, claimed_zero: bool) -> None:
    """Refuse a block target that holds something. Raises TargetRefused.

    A holder or a signature refuses always. Bytes in the first or last MiB need `force`. Where the
    caller claims that all is zero, that is looked at in random places.
    """
    if names := block.holders(target.fd):
        raise TargetRefused(str(path), f"{', '.join(names)} is built upon it.")
    if found := _signatures(path, opener):
        raise TargetRefused(
            str(path), f"it holds {found}. If that may be lost, remove it first with wipefs -a {path}."
        )
    blocks = -(-target.size_bytes // BLOCK)
    looked_at = {0, blocks - 1} if blocks and not force else set()
    if claimed_zero:
        looked_at |= {0, blocks - 1, *random.sample(range(blocks), min(_ZERO_SAMPLE, blocks))}
    device, buffer = Device(target.fd, str(path), target.size_bytes, Gauge(opener.clock)), Buffer()
    for number in sorted(looked_at):
        length = min(BLOCK, target.size_bytes - number * BLOCK)
        device.read(buffer, number * BLOCK, length)
        if not buffer.is_zero(0, length):
            hint = "it is not zero" if claimed_zero else "it holds bytes of something else"
            remedy = "Leave --target-is-zero out." if claimed_zero else "Use --force if they may be lost."
            raise TargetRefused(str(path), f"{hint} (MiB {number}). {remedy}")


def create_file_target(path: Path, size_bytes: int, *, begun: bool) -> Endpoint:
    """Create the target as a sparse file. `begun`: an earlier run may have been killed right after it.

    Raises TargetRefused where there is one that was not made by this copy, OpenFailed.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        status = _status(path)
        empty = stat.S_ISREG(status.st_mode) and not status.st_blocks and status.st_size in (0, size_bytes)
        if not (begun and empty):
            raise TargetRefused(
                str(path), "it exists, and this checkpoint's copy did not make it. Name a new file."
            ) from error
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise OpenFailed(str(path), error.strerror or str(error)) from error
    os.ftruncate(fd, size_bytes)
    os.fsync(fd)
    directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    os.fsync(directory)
    os.close(directory)
    os.close(fd)
    return open_file_target(path, size_bytes, "")


def open_file_target(path: Path, size_bytes: int, expected_id: str) -> Endpoint:
    """Open the file that this copy created. Raises TargetRefused, OpenFailed."""
    fd = _open_file(path, os.O_RDWR)
    found = file_id(fd)
    if expected_id and found != expected_id:
        os.close(fd)
        raise TargetRefused(str(path), "it is another file than the one that this copy created.")
    if os.fstat(fd).st_size != size_bytes:
        os.close(fd)
        raise TargetRefused(str(path), f"it no longer has {size_bytes} bytes.")
    tail = os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
    return Endpoint(fd, found, size_bytes, 512, tail_fd=tail)


def file_id(fd: int) -> str:
    """Device and inode of an open file: a name can come to mean another file, these cannot."""
    status = os.fstat(fd)
    return f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}/{status.st_ino}"


def _status(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise OpenFailed(str(path), error.strerror or str(error)) from error


def _open_file(path: Path, access: int) -> int:
    try:
        return os.open(path, access | os.O_DIRECT | os.O_CLOEXEC)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise OpenFailed(str(path), error.strerror or str(error)) from error
    log.warning("%s: its filesystem has no direct I/O; reading back may be answered from memory", path)
    return os.open(path, access | os.O_CLOEXEC)


def _probe(path: Path) -> tuple[int, int, str, str]:
    """Size, sector size, dm UUID and WWID of a block device."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return block.size_bytes(fd), block.sector_size(fd), block.dm_uuid(fd), block.wwid(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise OpenFailed(str(path), error.strerror or str(error)) from error


def _check_reservation(path: Path, wwid: str, opener: Opener) -> None:
    """Refuse a LUN that a host has reserved: the tool takes no reservations. Raises DeviceReserved."""
    number = path.stat().st_rdev
    disks = scsi_disks(f"{os.major(number)}:{os.minor(number)}")
    opener.check_reservation(SourceToOpen(str(path), 0, 0, wwid=wwid, path_devices=disks))


def _signatures(path: Path, opener: Opener) -> str:
    """What libblkid recognizes on the device: filesystem, PV, partition table, md; empty: nothing."""
    try:
        answer = opener.commands.query(["wipefs", "--no-act", "--json", str(path.resolve())])
    except (CommandFailed, CommandTimedOut) as error:
        raise TargetRefused(str(path), f"what it holds cannot be told: {error}") from error
    if not answer.stdout.strip():
        return ""
    found = json.loads(answer.stdout).get("signatures", [])
    return ", ".join(f"{each.get('type')} at {each.get('offset')}" for each in found)
