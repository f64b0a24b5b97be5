"""The tool's own source and target where they are block devices. A file needs nothing of this."""

import os
import random
from pathlib import Path

from p2vd.copying.controls import Gauge
from p2vd.copying.devices import Device
from p2vd.copying.emptiness import first_not_zero, refuse_use
from p2vd.copying.endpoints import Endpoint, Thin
from p2vd.copying.errors import OpenFailed, TargetRefused
from p2vd.copying.layout import BLOCK
from p2vd.copying.opener import Opener
from p2vd.copying.opening import SourceToOpen, TargetToOpen
from p2vd.copying.storage import scsi_disks, thin
from p2vd.system import block
from p2vd.system.clock import Clock
from p2vd.system.command import SystemCommands

_ZERO_SAMPLE = 64


def opener(clock: Clock) -> Opener:
    """What opens the devices of this machine."""
    return Opener(SystemCommands(), clock=clock)


def open_source(path: Path, opener: Opener) -> Endpoint:
    """Open the source exclusively. Raises OpenFailed, DeviceInUse, DeviceReserved, ReservationUnknown."""
    size, sector, uuid, wwid = _probe(path)
    _check_reservation(path, wwid, opener)
    fd = opener.open_patiently(SourceToOpen(str(path), size, sector, uuid), os.O_RDONLY, "source")
    return Endpoint(fd, wwid or uuid or str(path.resolve()), size, sector, uuid)


def open_target(path: Path, source: Endpoint, opener: Opener) -> Endpoint:
    """Open the target exclusively. Raises as `open_source`, and TargetRefused."""
    size, sector, uuid, wwid = _probe(path)
    if size < source.size_bytes:
        raise TargetRefused(str(path), f"it has {size} bytes, the source {source.size_bytes}.")
    if source.fd >= 0 and block.is_block(source.fd):
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
    refuse_use(opener.commands, target.fd, str(path.resolve()))
    blocks = -(-target.size_bytes // BLOCK)
    looked_at = {0, blocks - 1} if blocks and not force else set()
    if claimed_zero:
        looked_at |= {0, blocks - 1, *random.sample(range(blocks), min(_ZERO_SAMPLE, blocks))}
    device = Device(target.fd, str(path), target.size_bytes, Gauge(opener.clock))
    if (number := first_not_zero(device, sorted(looked_at))) is not None:
        hint = "it is not zero" if claimed_zero else "it holds bytes of something else"
        remedy = "Leave --target-is-zero out." if claimed_zero else "Use --force if they may be lost."
        raise TargetRefused(str(path), f"{hint} (MiB {number}). {remedy}")


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
    """Refuse a LUN that a host has reserved: the tool takes no reservations. Raises as `reservation`."""
    number = path.stat().st_rdev
    disks = scsi_disks(f"{os.major(number)}:{os.minor(number)}")
    opener.check_reservation(SourceToOpen(str(path), 0, 0, wwid=wwid, path_devices=disks))
