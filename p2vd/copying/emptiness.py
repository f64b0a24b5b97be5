"""Whether a block device is empty: nothing built upon it, no signature, its first and last MiB zero."""

import json
from collections.abc import Iterable

from p2vd.copying.controls import Gauge
from p2vd.copying.devices import Buffer, Device
from p2vd.copying.errors import TargetRefused
from p2vd.copying.layout import BLOCK
from p2vd.system import block
from p2vd.system.clock import Clock
from p2vd.system.command import CommandFailed, Commands, CommandTimedOut


def check_empty(commands: Commands, clock: Clock, fd: int, devnode: str) -> None:
    """Refuse a LUN that holds anything, by the descriptor that it is going to be written by.

    Raises TargetRefused, ReadFailed.
    """
    refuse_use(commands, fd, devnode)
    device = Device(fd, devnode, block.size_bytes(fd), Gauge(clock))
    last = (device.size_bytes - 1) // BLOCK
    number = first_not_zero(device, sorted({0, last}))
    if number is not None:
        raise TargetRefused(
            devnode,
            f"MiB {number} of it is not zero: it holds bytes of something else. If they may be lost, zero "
            "its first and last MiB (blkdiscard -z), then retry the job; or map a fresh LUN and make a new "
            "plan.",
        )


def refuse_use(commands: Commands, fd: int, devnode: str) -> None:
    """Refuse a device with a holder or a signature. Raises TargetRefused."""
    if names := block.holders(fd):
        raise TargetRefused(devnode, f"{', '.join(names)} is built upon it.")
    if found := _signatures(commands, devnode):
        raise TargetRefused(
            devnode, f"it holds {found}. If that may be lost, remove it first with wipefs -a {devnode}."
        )


def first_not_zero(device: Device, numbers: Iterable[int]) -> int | None:
    """Return the first of these MiB of the device that is not zero. Raises ReadFailed."""
    buffer = Buffer()
    for number in numbers:
        length = min(BLOCK, device.size_bytes - number * BLOCK)
        device.read(buffer, number * BLOCK, length)
        if not buffer.is_zero(0, length):
            return number
    return None


def _signatures(commands: Commands, devnode: str) -> str:
    """What libblkid recognizes on the device: filesystem, PV, partition table, md; empty: nothing."""
    try:
        answer = commands.query(["wipefs", "--no-act", "--json", devnode])
    except (CommandFailed, CommandTimedOut) as error:
        raise TargetRefused(devnode, f"what it holds cannot be told: {error}") from error
    if not answer.stdout.strip():
        return ""
    found = json.loads(answer.stdout).get("signatures", [])
    return ", ".join(f"{each.get('type')} at {each.get('offset')}" for each in found)
