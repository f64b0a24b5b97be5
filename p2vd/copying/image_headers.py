"""The headers of disk images, looked at before QEMU does: what they are, and what else they would open.

A guest that could write its own disk's image, or whoever made an image, can name other files of this
host in it: backing files, external data files, extents. QEMU opens what is named; so an image that names
anything is refused here. And what a header says must fit the file: QEMU reads zeros where a qcow2 file
was cut off.
"""

import os
import re
import struct
import uuid
from collections.abc import Callable
from pathlib import Path

from p2vd.model.forms import SourceFormat
from p2vd.model.size import KIB, MIB

Read = Callable[[int, int], bytes]
"""Offset and length; fewer bytes at the file's end."""

_SECTOR = 512
_TAIL = 1024
_MAX_DISK_BYTES = 1 << 60
_MOST_DESCRIPTOR = 64 * KIB
_MOST_TABLE = 64 * MIB
# docs/interop/qcow2.txt of QEMU: "Incompatible features".
_DIRTY, _CORRUPT, _DATA_FILE, _COMPRESSION, _EXTENDED_L2 = 1, 2, 4, 8, 16
_DATA_FILE_NAME = 0x44415441
_COMPRESSED_GRAINS = 1 << 16
# MS-VHDX 2.2.3 and 2.6: the table of blocks, the metadata, and the file parameters in it.
_VHDX_BLOCKS = uuid.UUID("2DC27766-F623-4200-9D64-115E9BFD4A08").bytes_le
_VHDX_METADATA = uuid.UUID("8B7CA206-4790-4B9A-B8FE-575F050F886E").bytes_le
_VHDX_PARAMETERS = uuid.UUID("CAA16737-FA36-4D43-B3B6-33F0AA44E76B").bytes_le
_PRESENT = 6
_EXTENT = re.compile(r'^\s*(?:RW|RDONLY|NOACCESS)\s+\d+\s+(\w+)(?:\s+"([^"]*)")?', re.MULTILINE)


def looks_like(path: Path) -> SourceFormat | None:
    """The image format whose first or last bytes a file has; None: none, or it is no file."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)

        def read(offset: int, length: int) -> bytes:
            file.seek(offset)
            return file.read(length)

        return format_of(read, size)


def format_of(read: Read, size: int) -> SourceFormat | None:
    """The image format whose first or last bytes these are."""
    head, tail = read(0, 128), read(max(0, size - _SECTOR), _SECTOR)
    if head[:4] == b"QFI\xfb":
        return SourceFormat.QCOW2
    if head[:4] in (b"KDMV", b"COWD") or head.startswith(b"# Disk DescriptorFile"):
        return SourceFormat.VMDK
    if head[:8] == b"vhdxfile":
        return SourceFormat.VHDX
    if head[64:68] == struct.pack("<I", 0xBEDA107F):
        return SourceFormat.VDI
    if head[:8] == b"conectix" or tail[:8] == b"conectix":
        return SourceFormat.VPC
    return None


def check(kind: SourceFormat, read: Read, size: int) -> None:
    """See that a file is an image of that kind, whole, alone and not lying. Raises ValueError."""
    found = format_of(read, size)
    if found is not kind:
        is_what = f"it is a {found.value} image" if found else "its header is of no image that p2vd knows"
        raise ValueError(f"it is no {kind.value} image: {is_what}")
    try:
        _CHECKS[kind](read, size)
    except struct.error as error:
        raise ValueError(f"its {kind.value} header is cut off") from error


def _qcow2(read: Read, size: int) -> None:
    head = read(0, 112)
    (
        version,
        backing,
        backing_length,
        cluster_bits,
        disk,
        encryption,
        l1_size,
        l1,
        refcounts,
        refcount_clusters,
    ) = struct.unpack_from(">IQIIQIIQQI", head, 4)
    if version not in (2, 3):
        raise ValueError(f"its qcow2 version is {version}; there are 2 and 3")
    incompatible, length = (0, 72) if version == 2 else struct.unpack_from(">Q20xI", head, 72)
    if backing or backing_length:
        name = read(backing, min(backing_length, 1023)).decode("utf-8", "replace")
        raise ValueError(_others("a backing file", [name]))
    if incompatible & _DATA_FILE:
        names = [text for kind, text in _extensions(read, length) if kind == _DATA_FILE_NAME]
        raise ValueError(_others("an external data file", names))
    if incompatible & _CORRUPT:
        raise ValueError("QEMU marked it as corrupt: repair it (qemu-img check -r all), on a copy")
    if incompatible & ~(_DIRTY | _COMPRESSION | _EXTENDED_L2):
        raise ValueError(f"it has features that p2vd does not know ({incompatible:#x})")
    if encryption:
        raise ValueError("it is encrypted: decrypt it first (qemu-img convert)")
    if not 9 <= cluster_bits <= 21:
        raise ValueError(f"its clusters have 2^{cluster_bits} bytes; 2^9 to 2^21 are possible")
    cluster = 1 << cluster_bits
    _expect_disk(disk)
    entry = 16 if incompatible & _EXTENDED_L2 else 8
    if disk > l1_size * (cluster // entry) * cluster:
        raise ValueError(f"it says that its disk has {disk} bytes, more than its tables can hold")
    _expect_within("its table of clusters", l1, l1_size * 8, size)
    _expect_within("its table of reference counts", refcounts, refcount_clusters * cluster, size)


def _extensions(read: Read, at: int) -> list[tuple[int, str]]:
    """Kind and text of each header extension."""
    found: list[tuple[int, str]] = []
    for _ in range(32):
        kind, length = struct.unpack(">II", read(at, 8))
        if kind == 0 or length > _MOST_DESCRIPTOR:
            break
        found.append((kind, read(at + 8, length).decode("utf-8", "replace")))
        at += 8 + -(-length // 8) * 8
    return found


def _vmdk(read: Read, size: int) -> None:
    head = read(0, _SECTOR)
    if head[:4] != b"KDMV":
        text = read(0, _MOST_DESCRIPTOR).decode("utf-8", "replace") if head[:1] == b"#" else ""
        names = [name for _, name in _EXTENT.findall(text)]
        raise ValueError(_others("its data", names))
    capacity, grain, at, length, entries, directory = struct.unpack_from("<QQQQI8xQ", head, 12)
    text = (
        read(at * _SECTOR, min(length * _SECTOR, _MOST_DESCRIPTOR)).decode("utf-8", "replace") if at else ""
    )
    keys = dict(re.findall(r'^\s*(\w+)\s*=\s*"?([^"\r\n]*)"?', text, re.MULTILINE))
    extents = _EXTENT.findall(text)
    if keys.get("parentFileNameHint") or keys.get("parentCID", "ffffffff").lower() != "ffffffff":
        raise ValueError(_others("a parent", [keys.get("parentFileNameHint", "")]))
    kind = keys.get("createType", "monolithicSparse")
    if capacity == 0 or kind not in ("monolithicSparse", "streamOptimized") or len(extents) > 1:
        raise ValueError(_others(f"its data ({kind})", [name for _, name in extents]))
    _expect_disk(capacity * _SECTOR)
    if not 1 <= grain <= 2048 * 64:
        raise ValueError(f"its grains have {grain} sectors")
    if directory == 0xFFFFFFFFFFFFFFFF:  # at the end, where a stream puts it
        footer = read(max(0, size - _TAIL), _SECTOR)
        if footer[:4] != b"KDMV":
            raise ValueError("it is cut off: its footer is missing")
        (directory,) = struct.unpack_from("<Q", footer, 56)
    if not 1 <= entries <= 4096:
        raise ValueError(f"its tables have {entries} grains each")
    compressed = struct.unpack_from("<I", head, 8)[0] & _COMPRESSED_GRAINS
    tables = -(-capacity // (grain * entries))
    _expect_within("its table of tables", directory * _SECTOR, tables * 4, size)
    for (table,) in struct.iter_unpack("<I", read(directory * _SECTOR, tables * 4)):
        if table:
            _expect_within("one of its tables", table * _SECTOR, entries * 4, size)
            last = max(struct.unpack(f"<{entries}I", read(table * _SECTOR, entries * 4))) * _SECTOR
            if last > _SECTOR:  # 0: a hole, 1: zeros
                data = 12 + struct.unpack("<8xI", read(last, 12))[0] if compressed else grain * _SECTOR
                _expect_within("one of its grains", last, data, size)


def _vhdx(read: Read, size: int) -> None:
    if not any(read(place, 4) == b"head" for place in (64 * KIB, 128 * KIB)):
        raise ValueError("neither of its two headers is there")
    table = next((at for at in (192 * KIB, 256 * KIB) if read(at, 4) == b"regi"), 0)
    if not table:
        raise ValueError("neither of its two region tables is there")
    regions = _vhdx_entries(read, table + 16, read(table + 8, 4), "<16xQI")
    if _VHDX_BLOCKS not in regions or _VHDX_METADATA not in regions:
        raise ValueError("its region table names no blocks or no metadata")
    (blocks, blocks_length), (metadata, _) = regions[_VHDX_BLOCKS], regions[_VHDX_METADATA]
    _expect_within("its table of blocks", blocks, blocks_length, size)
    items = _vhdx_entries(read, metadata + 32, read(metadata + 10, 2), "<16xII")
    if read(metadata, 8) != b"metadata" or _VHDX_PARAMETERS not in items:
        raise ValueError("its metadata has no file parameters")
    block, flags = struct.unpack("<II", read(metadata + items[_VHDX_PARAMETERS][0], 8))
    if flags & 2:
        raise ValueError(_others("a parent", []))
    for (entry,) in struct.iter_unpack("<Q", read(blocks, blocks_length)):
        if entry & 7 == _PRESENT:
            _expect_within("one of its blocks", entry >> 20 << 20, block, size)


def _vhdx_entries(read: Read, at: int, count: bytes, form: str) -> dict[bytes, tuple[int, int]]:
    """Offset and length of each entry of a table, by its GUID."""
    found: dict[bytes, tuple[int, int]] = {}
    for number in range(min(int.from_bytes(count, "little"), 2047)):
        entry = read(at + number * 32, 32)
        found[entry[:16]] = struct.unpack_from(form, entry)
    return found


def _vdi(read: Read, size: int) -> None:
    head = read(0, _SECTOR)
    (kind,) = struct.unpack_from("<I", head, 76)
    table, data = struct.unpack_from("<II", head, 340)
    disk, block, _, blocks, allocated = struct.unpack_from("<QIIII", head, 368)
    if kind not in (1, 2) or any(head[424:456]):
        raise ValueError(_others("a parent", []))
    _expect_disk(disk)
    if not block or disk > blocks * block:
        raise ValueError(f"it says that its disk has {disk} bytes, more than its {blocks} blocks")
    _expect_within("its table of blocks", table, blocks * 4, size)
    _expect_within("its data", data, allocated * block, size)


def _vpc(read: Read, size: int) -> None:
    footer = read(max(0, size - _SECTOR), _SECTOR)
    if footer[:8] != b"conectix":
        raise ValueError("it is cut off: its footer is missing")
    at, disk, kind, total = struct.unpack_from(">16xQ24xQ4xII", footer)
    if total != ~(sum(footer) - sum(footer[64:68])) & 0xFFFFFFFF:
        raise ValueError("its footer has a wrong checksum")
    if kind not in (2, 3):
        raise ValueError(_others("a parent", []))
    _expect_disk(disk)
    if kind == 2:
        _expect_within("its data", 0, disk, size - _SECTOR)
        return
    head = read(at, 1024)
    if head[:8] != b"cxsparse":
        raise ValueError("its dynamic header is missing")
    table, entries, block = struct.unpack_from(">16xQ4xII", head)
    if not block or disk > entries * block:
        raise ValueError(f"it says that its disk has {disk} bytes, more than its {entries} blocks")
    _expect_within("its table of blocks", table, entries * 4, size)
    bitmap = -(-(block // _SECTOR // 8) // _SECTOR) * _SECTOR
    for (sector,) in struct.iter_unpack(">I", read(table, entries * 4)):
        if sector != 0xFFFFFFFF:
            _expect_within("one of its blocks", sector * _SECTOR, bitmap + block, size)


_CHECKS: dict[SourceFormat, Callable[[Read, int], None]] = {
    SourceFormat.QCOW2: _qcow2,
    SourceFormat.VMDK: _vmdk,
    SourceFormat.VHDX: _vhdx,
    SourceFormat.VDI: _vdi,
    SourceFormat.VPC: _vpc,
}


def _expect_within(what: str, start: int, length: int, size: int) -> None:
    if length > _MOST_TABLE and what.startswith("its table"):
        raise ValueError(f"{what} would have {length} bytes")
    if start + length > size:
        raise ValueError(f"it is cut off or lies: {what} ends at byte {start + length}, the file at {size}")


def _expect_disk(disk: int) -> None:
    if not 0 < disk <= _MAX_DISK_BYTES:
        raise ValueError(f"it says that its disk has {disk} bytes")


def _others(what: str, names: list[str]) -> str:
    named = ", ".join(repr(name) for name in names if name) or "not named"
    return (
        f"{what} is in another file ({named}), which an image must not make this host open. "
        "Make one file of it where it comes from: qemu-img convert"
    )
