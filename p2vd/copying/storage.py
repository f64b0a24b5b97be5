"""What the tool finds out about a block device by itself; under the daemon discovery does."""

from pathlib import Path

from p2vd.copying.endpoints import Thin
from p2vd.copying.errors import OpenFailed
from p2vd.system import block
from p2vd.system.command import Commands

_SECTOR = 512


def thin(number: str, commands: Commands) -> Thin:
    """Return the allocation of the dm device `MAJOR:MINOR`. Raises OpenFailed, CommandFailed.

    Tables as the kernel documents them (admin-guide/device-mapper/thin-provisioning): `thin POOL ID`,
    `thin-pool META DATA CHUNK_SECTORS LOW_WATER N FEATURE...`.
    """
    words = _table(number, commands)
    if len(words) < 4 or words[2] != "thin":
        return Thin()
    pool = _table(words[3], commands)
    if len(pool) < 6 or pool[2] != "thin-pool" or not pool[5].isdigit():
        raise OpenFailed(f"the thin pool {words[3]}", f"its table is {' '.join(pool)!r}")
    return Thin(int(pool[5]) * _SECTOR, "skip_block_zeroing" not in pool)


def scsi_disks(number: str, sysfs: Path = block.SYSFS) -> tuple[str, ...]:
    """Return the kernel's names of the SCSI disks that `MAJOR:MINOR` is, or is the multipath map of."""
    device = sysfs / "dev/block" / number
    if (device / "device/scsi_level").exists():
        return (device.resolve().name,)
    uuid = device / "dm/uuid"
    if uuid.exists() and uuid.read_text().startswith("mpath-"):
        return tuple(sorted(path.name for path in (device / "slaves").iterdir()))
    return ()


def _table(number: str, commands: Commands) -> list[str]:
    major, minor = number.split(":")
    return commands.query(["dmsetup", "table", "-j", major, "-m", minor]).stdout.split()
