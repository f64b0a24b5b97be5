"""What shall go wrong in a simulation, and when: [[faults]] of a script; p2vd(8) describes them."""

import enum
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from p2vd.model.copying import MAX_BAD_SECTORS
from p2vd.model.size import MIB
from p2vd.policy.toml import Table

PROGRAMS = (
    "blockdev",
    "dmsetup",
    "iscsiadm",
    "lvchange",
    "lvcreate",
    "lvm",
    "lvremove",
    "multipath",
    "multipathd",
    "udevadm",
)
"""What `command-slow` can slow down."""

_DAY_S = 86_400


class FaultKind(enum.Enum):
    """What goes wrong."""

    PATH_FAILS = "path-fails"
    LUN_UNMAPPED = "lun-unmapped"
    LUN_MAPPED = "lun-mapped"
    LUN_GROWS = "lun-grows"
    EXPORT_AWAY = "export-away"
    BAD_SECTORS = "bad-sectors"
    SOURCE_CHANGED = "source-changed"
    POOL_FILLED = "pool-filled"
    POOL_EXTENDED = "pool-extended"
    LIBVIRTD_AWAY = "libvirtd-away"
    WORKER_STALLS = "worker-stalls"
    WORKER_DIES = "worker-dies"
    COMMAND_SLOW = "command-slow"
    DAEMON_DIES = "daemon-dies"


# What can be taken back after `lasts_seconds`; the others have happened once they have.
_PASSES = frozenset(
    {
        FaultKind.PATH_FAILS,
        FaultKind.LUN_UNMAPPED,
        FaultKind.LUN_MAPPED,
        FaultKind.EXPORT_AWAY,
        FaultKind.BAD_SECTORS,
        FaultKind.POOL_FILLED,
        FaultKind.LIBVIRTD_AWAY,
        FaultKind.WORKER_STALLS,
        FaultKind.COMMAND_SLOW,
    }
)
_OF_POOLS = frozenset({FaultKind.POOL_FILLED, FaultKind.POOL_EXTENDED})
_WITH_SIZE = frozenset({FaultKind.LUN_MAPPED, FaultKind.LUN_GROWS, FaultKind.POOL_EXTENDED})
_SIZE_STEP_BYTES = 4 * MIB


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    It happens `after_seconds` after the simulator's start; with an `at_percent` that is not 0, after the copy
    of the LUN number `lun` (from 1, in the script's order), or of the export number `export` where it is
    not 0, has come so far. `lasts_seconds` 0: for good.
    `path` 0: all paths. `size_bytes`, `percent`, `count`, `group` and `command` belong to their kinds.
    """

    kind: FaultKind
    after_seconds: float = 0.0
    at_percent: float = 0.0
    lasts_seconds: float = 0.0
    lun: int = 1
    path: int = 0
    size_bytes: int = 0
    percent: float = 0.0
    count: int = 0
    group: str = ""
    command: str = ""
    export: int = 0


def parse_faults(
    root: Table, lun_count: int, pools: Collection[str], export_count: int = 0
) -> Iterator[Fault]:
    """Yield each fault of a script with so many LUNs and exports, and with pools in these volume groups."""
    for table in root.tables("faults"):
        if "what" not in table:
            known = ", ".join(f'"{each.value}"' for each in FaultKind)
            table.error("what", f"say what goes wrong, one of {known}")
            continue
        fault = _parse_one(table, table.choice("what", FaultKind.PATH_FAILS), max(lun_count, 1), export_count)
        if fault.kind in _OF_POOLS and (fault.group or next(iter(pools), "")) not in pools:
            table.error("volume_group", f"there is no volume group {fault.group!r} with a pool")
        table.finish()
        yield fault


def _parse_one(table: Table, kind: FaultKind, luns: int, exports: int) -> Fault:
    """Read a fault; keys of other kinds are left, for `finish` to refuse."""
    fault = Fault(
        kind,
        after_seconds=table.number("after_seconds", 0, 0, _DAY_S),
        at_percent=table.number("at_percent", 0, 0, 100),
        lasts_seconds=table.number("lasts_seconds", 0, 0, _DAY_S) if kind in _PASSES else 0.0,
        lun=table.integer("lun", 1, 1, luns),
        path=table.integer("path", 0, 0, 64) if kind is FaultKind.PATH_FAILS else 0,
        size_bytes=table.size("size") if kind in _WITH_SIZE else 0,
        percent=table.number("percent", 100, 1, 100) if kind is FaultKind.POOL_FILLED else 0.0,
        count=table.integer("count", 1, 1, MAX_BAD_SECTORS) if kind is FaultKind.BAD_SECTORS else 0,
        group=table.text("volume_group") if kind in _OF_POOLS else "",
        command=table.text("command") if kind is FaultKind.COMMAND_SLOW else "",
        export=table.integer("export", 1, 1, max(exports, 1)) if kind is FaultKind.EXPORT_AWAY else 0,
    )
    if kind is FaultKind.EXPORT_AWAY and not exports:
        table.error("what", "there are no [[exports]]")
    if kind in _WITH_SIZE and (fault.size_bytes <= 0 or fault.size_bytes % _SIZE_STEP_BYTES):
        table.error("size", "must be said, in steps of 4 MiB")
    if kind is FaultKind.COMMAND_SLOW and fault.command not in PROGRAMS:
        table.error("command", f"must be one of {', '.join(PROGRAMS)}")
    return fault
