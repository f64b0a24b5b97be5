"""What a simulated SAN is made of, from a TOML file; p2vd(8) describes it."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from p2vd.model.disk import Transport
from p2vd.model.errors import P2vdError
from p2vd.model.hardware import HostHardware
from p2vd.model.nbd import parse_uri
from p2vd.model.size import GIB, KIB, MIB, TIB
from p2vd.policy.toml import Document, FileError, Table
from p2vd.sim.fault import Fault, parse_faults

DEFAULT = """
[[luns]]
count = 4
paths = 2
size = "10 GiB"

[[volume_group]]
name = "vg_san"
size = "1 TiB"
pool = { name = "pool0", size = "512 GiB" }
"""
"""What `p2vd --sim` without a script simulates."""

SCENARIOS = Path(__file__).parent / "scenarios"
"""Scripts that come with p2vd, named by their files' stems."""

MAX_DISKS = 100_000
_PE_BYTES = 4 * MIB
_MODEL_LENGTH = 16  # of INQUIRY's answer
_NAME = re.compile(r"[A-Za-z0-9+_.][A-Za-z0-9+_.-]{0,99}")


@dataclass(eq=False)
class ScriptInvalid(P2vdError):
    """The simulator's script cannot be used; all its errors."""

    errors: tuple[FileError, ...]
    template: ClassVar[str] = ""

    def __str__(self) -> str:
        return "The simulator's script is not valid.\n" + "\n".join(str(error) for error in self.errors)


@dataclass(frozen=True)
class Luns:
    """LUNs of one kind. `data_percent` of each is data, the rest is zeros; `empty`: nothing is on them."""

    count: int = 1
    paths: int = 2
    size_bytes: int = 10 * GIB
    sector_size: int = 512
    transport: Transport = Transport.ISCSI
    data_percent: int = 25
    model: str = "SIMULATED"
    empty: bool = False


@dataclass(frozen=True)
class Export:
    """An NBD export of a server of its own."""

    uri: str
    size_bytes: int = 10 * GIB
    data_percent: int = 25


@dataclass(frozen=True)
class Directory:
    """A directory for files, on a filesystem of its own that is mounted there."""

    path: str
    size_bytes: int = TIB


@dataclass(frozen=True)
class Pool:
    """A thin pool; its metadata takes a thousandth of it besides."""

    name: str = "pool0"
    size_bytes: int = 512 * GIB
    chunk_bytes: int = 64 * KIB
    zeroes: bool = True


@dataclass(frozen=True)
class VolumeGroup:
    """A volume group over `luns.count` LUNs of its own."""

    name: str
    luns: Luns
    tags: tuple[str, ...] = ()
    pool: Pool | None = None


@dataclass(frozen=True)
class Speeds:
    """How fast the simulated disks are, in bytes a second."""

    copy_bytes_per_s: int = 200 * MIB
    verify_bytes_per_s: int = 400 * MIB


HOST = HostHardware(cpus=64, memory_bytes=TIB, address_bits=46, kvm=True)
"""The host that a script says nothing of."""


@dataclass(frozen=True)
class Script:
    """One simulated SAN. `denied`: polkit actions that the simulated authority refuses."""

    luns: tuple[Luns, ...] = ()
    volume_groups: tuple[VolumeGroup, ...] = ()
    speeds: Speeds = field(default_factory=Speeds)
    denied: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
    directories: tuple[Directory, ...] = ()
    exports: tuple[Export, ...] = ()
    host: HostHardware = HOST


def load(path: Path | None) -> Script:
    """Return the script in `path`, or the default one. Raises ScriptInvalid with every error.

    A bare word, without a slash or a dot, is the name of a scenario that comes with p2vd.
    """
    name, text = "the default script", DEFAULT
    if path is not None and path.name == str(path) and not path.suffix:
        known = scenarios()
        if path.name not in known:
            problem = f"no scenario has that name; there are {', '.join(known)}. A file's name ends in .toml"
            raise ScriptInvalid((FileError(path.name, 0, "", problem),))
        path = SCENARIOS / f"{path.name}.toml"
    if path is not None:
        name = str(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ScriptInvalid((FileError(name, 0, "", f"cannot be read: {error}"),)) from error
    return parse(name, text)


def parse(name: str, text: str) -> Script:
    """Return the script that `text` says; `name` is for errors. Raises ScriptInvalid."""
    document = Document(name, text)
    root = document.root()
    script = Script(
        luns=tuple(_luns(table) for table in root.tables("luns")),
        volume_groups=tuple(_volume_groups(root)),
        speeds=_speeds(root.table("speed")),
        denied=_denied(root.table("authority")),
        directories=tuple(_directory(table) for table in root.tables("directory")),
        exports=tuple(_export(table) for table in root.tables("exports")),
        host=_host(root.table("host")),
    )
    pools = [group.name for group in script.volume_groups if group.pool]
    luns = sum(luns.count for luns in script.luns)
    faults = tuple(parse_faults(root, luns, pools, len(script.exports)))
    script = replace(script, faults=faults)
    root.finish()
    disks = sum(luns.count * (luns.paths + 1) for luns in _all_luns(script))
    if not document.errors and disks > MAX_DISKS:
        root.error("", f"{disks} block devices are more than the {MAX_DISKS} that can be simulated")
    if document.errors:
        raise ScriptInvalid(tuple(document.errors))
    return script


def scenarios() -> tuple[str, ...]:
    """The names of the scenarios that come with p2vd."""
    return tuple(sorted(path.stem for path in SCENARIOS.glob("*.toml")))


def _all_luns(script: Script) -> Sequence[Luns]:
    return (*(group.luns for group in script.volume_groups), *script.luns)


def _luns(table: Table) -> Luns:
    luns = Luns(
        count=table.integer("count", Luns.count, 1, MAX_DISKS),
        paths=table.integer("paths", Luns.paths, 1, 64),
        size_bytes=_size(table, "size", Luns.size_bytes, 512, 1 << 60, 4 * KIB),
        sector_size=_sector_size(table),
        transport=_transport(table),
        data_percent=table.integer("data_percent", Luns.data_percent, 0, 100),
        model=table.text("model", Luns.model),
        empty=table.flag("empty"),
    )
    if len(luns.model) > _MODEL_LENGTH or not luns.model.isascii():
        table.error("model", f"a model has up to {_MODEL_LENGTH} ASCII characters")
    table.finish()
    return luns


def _export(table: Table) -> Export:
    export = Export(
        uri=table.text("uri"),
        size_bytes=_size(table, "size", Export.size_bytes, MIB, 1 << 60, 512),
        data_percent=table.integer("data_percent", Export.data_percent, 0, 100),
    )
    try:
        parse_uri(export.uri)
    except ValueError as error:
        table.error("uri", f"must be that of an NBD export: {error}")
    table.finish()
    return export


def _directory(table: Table) -> Directory:
    directory = Directory(
        path=table.text("path"), size_bytes=_size(table, "size", Directory.size_bytes, MIB, 1 << 60, 4 * KIB)
    )
    if not directory.path.startswith("/") or ".." in directory.path.split("/"):
        table.error("path", f"must be an absolute path, not {directory.path!r}")
    table.finish()
    return directory


def _volume_groups(root: Table) -> Iterator[VolumeGroup]:
    seen: set[str] = set()
    for table in root.tables("volume_group"):
        name = table.text("name")
        if not _NAME.fullmatch(name):
            table.error("name", f"every volume group needs a name as LVM allows it, not {name!r}")
        if name in seen:
            table.error("name", f"there is a volume group {name!r} already")
        seen.add(name)
        size = _size(table, "size", TIB, 64 * MIB, 1 << 60, _PE_BYTES)
        count = table.integer("luns", 1, 1, 1000)
        luns = Luns(
            count=count,
            paths=table.integer("paths", Luns.paths, 1, 64),
            # The first extent of a PV is its metadata's.
            size_bytes=-(-size // count // _PE_BYTES) * _PE_BYTES + _PE_BYTES,
            sector_size=_sector_size(table),
            transport=_transport(table),
        )
        pool = _pool(table.table("pool"), size) if "pool" in table else None
        group = VolumeGroup(name, luns, table.texts("tags"), pool)
        table.finish()
        yield group


def _pool(table: Table, vg_size_bytes: int) -> Pool:
    pool = Pool(
        name=table.text("name", Pool.name),
        size_bytes=_size(table, "size", Pool.size_bytes, 16 * MIB, 1 << 60, _PE_BYTES),
        chunk_bytes=_size(table, "chunk", Pool.chunk_bytes, 64 * KIB, GIB, 64 * KIB),
        zeroes=table.flag("zeroes", Pool.zeroes),
    )
    if not _NAME.fullmatch(pool.name):
        table.error("name", f"{pool.name!r} is no name for a volume")
    if pool.size_bytes + pool_metadata_bytes(pool) > vg_size_bytes:
        table.error("size", "the pool and its metadata (a thousandth of it) do not fit the volume group")
    table.finish()
    return pool


def pool_metadata_bytes(pool: Pool) -> int:
    """What a pool's metadata takes of the volume group, in whole extents."""
    return -(-pool.size_bytes // 1000 // _PE_BYTES) * _PE_BYTES


def _speeds(table: Table) -> Speeds:
    speeds = Speeds(
        copy_bytes_per_s=_size(table, "copy", Speeds.copy_bytes_per_s, MIB, 1 << 60, 1),
        verify_bytes_per_s=_size(table, "verify", Speeds.verify_bytes_per_s, MIB, 1 << 60, 1),
    )
    table.finish()
    return speeds


def _host(table: Table) -> HostHardware:
    host = HostHardware(
        cpus=table.integer("cpus", HOST.cpus, 1, 8192),
        memory_bytes=_size(table, "memory", HOST.memory_bytes, MIB, 1 << 60, KIB),
        address_bits=table.integer("address_bits", HOST.address_bits, 32, 64),
        kvm=table.flag("kvm", True),
    )
    table.finish()
    return host


def _denied(table: Table) -> tuple[str, ...]:
    denied = table.texts("deny")
    table.finish()
    return denied


def _size(table: Table, key: str, default: int, low: int, high: int, step: int) -> int:
    size = table.size(key, default)
    if not low <= size <= high or size % step:
        table.error(key, f"must be from {low} to {high} bytes, in steps of {step}")
        return default
    return size


def _sector_size(table: Table) -> int:
    size = table.integer("sector_size", Luns.sector_size, 512, 4096)
    if size not in (512, 4096):
        table.error("sector_size", f"must be 512 or 4096, not {size}")
    return size


def _transport(table: Table) -> Transport:
    transport = table.choice("transport", Transport.ISCSI)
    if transport not in (Transport.ISCSI, Transport.FC):
        table.error("transport", 'the simulator has "iscsi" and "fc" only')
    return transport
