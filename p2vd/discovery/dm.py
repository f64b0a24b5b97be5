"""What device-mapper says of a device: one by name, and the state of thin pools."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from p2vd.model.errors import P2vdError
from p2vd.system.command import Commands

_SECTOR = 512

PoolMode = Literal["rw", "ro", "out_of_data_space", "fail"]


@dataclass(eq=False)
class DmUnclear(P2vdError):
    """dmsetup answered something this version does not understand."""

    device: str
    answer: str
    template: ClassVar[str] = "dmsetup said {answer!r} of {device}, which p2vd does not understand."


@dataclass(frozen=True)
class DmInfo:
    """A device-mapper device. `table` is its live table, one target a line."""

    name: str
    uuid: str
    open_count: int
    suspended: bool
    read_only: bool
    table: str


@dataclass(frozen=True)
class PoolStatus:
    """A thin pool as the kernel sees it. Metadata blocks are 4 KiB. In mode `fail` counts are 0."""

    used_data_bytes: int
    total_data_bytes: int
    used_metadata_blocks: int
    total_metadata_blocks: int
    mode: PoolMode
    needs_check: bool


def lv_dm_name(vg_name: str, lv_name: str, layer: str = "") -> str:
    """Return the device-mapper name of an LV, as libdm's dm_build_dm_name does; `tpool` for pools."""
    parts = [vg_name.replace("-", "--"), lv_name.replace("-", "--")]
    return "-".join([*parts, layer] if layer else parts)


def split_dm_name(dm_name: str) -> tuple[str, str]:
    """Return VG and LV of an LV's device-mapper name; the LV keeps its layer. Inverse of the above."""
    vg, _, lv = dm_name.replace("--", "\0").partition("-")
    return vg.replace("\0", "-"), lv.replace("\0", "-")


def dm_info(commands: Commands, name: str, uuid: str = "") -> DmInfo:
    """Return what device-mapper knows of the device `name`, or of the one of that UUID, whatever its name is.

    Raises CommandFailed (also when it does not exist), CommandTimedOut, DmUnclear.
    """
    # The name comes last: it alone may hold the separator.
    columns = "uuid,open,suspended,readonly,name"
    which = ["-u", uuid] if uuid else [name]
    answer = commands.query(
        ["dmsetup", "info", "-c", "--noheadings", "--separator", ":", "-o", columns, *which]
    ).stdout
    fields = answer.strip().split(":", 4)
    if len(fields) != 5 or not fields[1].isdigit():
        raise DmUnclear(name, answer)
    dm_uuid, opened, suspended, readonly, dm_name = fields
    table = commands.query(["dmsetup", "table", *which]).stdout.strip()
    return DmInfo(dm_name, dm_uuid, int(opened), suspended != "Active", readonly != "Writeable", table)


def pool_status(commands: Commands, tpool: str) -> PoolStatus:
    """Return the state of the thin pool whose device-mapper name is `tpool` (`VG-POOL-tpool`).

    An inactive pool has none: CommandFailed. Also raises CommandTimedOut, DmUnclear.
    The format is the kernel's: Documentation/admin-guide/device-mapper/thin-provisioning.rst.
    """
    # --noflush: without it the kernel commits the pool's metadata for every question.
    status = commands.query(["dmsetup", "status", "--noflush", tpool]).stdout
    words = status.split()
    if len(words) < 4 or words[2] != "thin-pool":
        raise DmUnclear(tpool, status)
    if words[3] in ("Fail", "Error"):
        return PoolStatus(0, 0, 0, 0, "fail", needs_check=words[3] == "Fail")
    table = commands.query(["dmsetup", "table", tpool]).stdout
    try:
        block = int(table.split()[5]) * _SECTOR
        used_metadata, total_metadata = (int(n) for n in words[4].split("/"))
        used_data, total_data = (int(n) for n in words[5].split("/"))
        mode = _mode(words[7])
    except (ValueError, IndexError, KeyError) as error:
        raise DmUnclear(tpool, f"{status.strip()} / {table.strip()}") from error
    return PoolStatus(
        used_data_bytes=used_data * block,
        total_data_bytes=total_data * block,
        used_metadata_blocks=used_metadata,
        total_metadata_blocks=total_metadata,
        mode=mode,
        needs_check="needs_check" in words[8:],
    )


def _mode(word: str) -> PoolMode:
    modes: dict[str, PoolMode] = {"rw": "rw", "ro": "ro", "out_of_data_space": "out_of_data_space"}
    return modes[word]


def open_counts(commands: Commands) -> dict[str, int]:
    """Return how often each device-mapper device is open, by its name; one command for all.

    Raises CommandFailed, CommandTimedOut, DmUnclear.
    """
    argv = ["dmsetup", "info", "-c", "--noheadings", "--separator", ":", "-o", "open,name"]
    counts = {}
    for line in commands.query(argv).stdout.splitlines():
        count, separator, name = line.partition(":")
        if not separator or not count.isdigit():
            if line.strip() in ("", "No devices found"):
                continue
            raise DmUnclear("its devices", line)
        counts[name] = int(count)
    return counts
