"""Whether an NTFS was left dirty, and whether a hibernated Windows lies in it. Pure, bounded reads.

ntfs-3g's tools cannot look at an offset of a disk, and a device of its own for a partition would be
the partition scan that p2vd never makes. So this reads what they read: the flags of $Volume
(record 3), and the first bytes of hiberfil.sys in the root directory (record 5), as
ntfs_volume_check_hiberfile() of libntfs-3g does. The layout is that of ntfs-3g's layout.h.

Everything on the disk is a stranger's: each number is checked before use, and the number of reads is
limited, so that no loop on the disk becomes one here.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar, TypeVar

from p2vd.model.errors import P2vdError

T = TypeVar("T")

Read = Callable[[int, int], bytes]
"""Returns so many bytes from an offset of the filesystem, fewer at its end. May raise OSError."""

BOOT_SECTOR_BYTES = 512
_MAGIC = b"NTFS    "
_DIRTY = 0x0001
_IN_USE = 0x0001
_MAX_READS = 512
_MAX_RECORD_BYTES = 64 << 10
_MAX_RUNS = 10_000
_MAX_DEPTH = 16
_STRIDE = 512  # update sequences protect pieces of this size, whatever the disk's sectors are

_MFT, _VOLUME, _ROOT = 0, 3, 5
_ATTRIBUTE_LIST, _VOLUME_INFORMATION, _DATA = 0x20, 0x70, 0x80
_INDEX_ROOT, _INDEX_ALLOCATION, _END = 0x90, 0xA0, 0xFFFFFFFF
_NAMES = "$I30"
_HAS_CHILD, _LAST_ENTRY = 1, 2

_HIBERFIL = "HIBERFIL.SYS"
_HIBERNATED = (b"hibr", b"HIBR")

Run = tuple[int, int]
"""Clusters of a file: where they begin on the disk (-1: a hole), and how many."""


@dataclass(eq=False)
class NtfsUnclear(P2vdError):
    """The filesystem is not as this reader understands it."""

    problem: str
    template: ClassVar[str] = "its NTFS cannot be read: {problem}"


@dataclass(frozen=True)
class NtfsState:
    """`dirty`: Windows wants to check it. `hibernated`: hiberfil.sys holds a machine's memory.

    `problem`: why it is not known whether a machine's memory lies there.
    """

    dirty: bool
    hibernated: bool
    problem: str = ""


@dataclass(frozen=True)
class _Attribute:
    """One attribute of a record. `value` where it is resident, else `runs` from `first_cluster` on."""

    kind: int
    name: str
    value: bytes | None
    runs: tuple[Run, ...] = ()
    first_cluster: int = 0
    size_bytes: int = 0


def read_ntfs(read: Read) -> NtfsState:
    """Return the state of the NTFS that `read` reads. Raises NtfsUnclear, OSError."""
    volume = _Volume.open(read)
    dirty = _bounded(volume.is_dirty)
    try:
        return NtfsState(dirty, hibernated=_bounded(volume.is_hibernated))
    except NtfsUnclear as error:
        return NtfsState(dirty, hibernated=False, problem=error.problem)


def _bounded(ask: Callable[[], T]) -> T:
    """Return what `ask` finds; what points beyond its own structure is NtfsUnclear."""
    try:
        return ask()
    except (struct.error, IndexError) as error:
        raise NtfsUnclear(f"a structure is cut off ({error})") from error


@dataclass
class _Volume:
    """An NTFS with the map of its MFT."""

    read: Read
    cluster_bytes: int
    record_bytes: int
    mft: list[Run]
    reads: int = field(default=0)

    @classmethod
    def open(cls, read: Read) -> "_Volume":
        boot = read(0, BOOT_SECTOR_BYTES)
        if len(boot) < BOOT_SECTOR_BYTES or boot[3:11] != _MAGIC:
            raise NtfsUnclear("it has no NTFS boot sector")
        sector, per_cluster, mft_cluster, record = struct.unpack_from("<HB34xQ8xb", boot, 11)
        # 0xF4 and such stand for 2 to the power of 256 - n (Windows 10's large clusters).
        sectors = 1 << (256 - per_cluster) if per_cluster > 0x80 else per_cluster
        cluster_bytes = sector * sectors
        record_bytes = 1 << -record if record < 0 else record * cluster_bytes
        if sector not in (256, 512, 1024, 2048, 4096) or not 0 < cluster_bytes <= 2 << 20:
            raise NtfsUnclear(f"sectors of {sector} bytes, {sectors} a cluster")
        if not _STRIDE <= record_bytes <= _MAX_RECORD_BYTES or record_bytes % _STRIDE:
            raise NtfsUnclear(f"records of {record_bytes} bytes")
        # Record 0 describes the MFT itself; it is read before anything is known of the rest.
        first = max(1, record_bytes // cluster_bytes)
        volume = cls(read, cluster_bytes, record_bytes, [(mft_cluster, first)])
        volume.mft = _bounded(volume._map_of_mft)
        return volume

    def is_dirty(self) -> bool:
        for attribute in self._attributes(_VOLUME):
            if attribute.kind == _VOLUME_INFORMATION and attribute.value is not None:
                (flags,) = struct.unpack_from("<H", attribute.value, 10)
                return bool(flags & _DIRTY)
        raise NtfsUnclear("$Volume has no flags")

    def is_hibernated(self) -> bool:
        number = self._find(_HIBERFIL)
        if number is None:
            return False
        for attribute in self._attributes(number):
            if attribute.kind == _DATA and not attribute.name and attribute.first_cluster == 0:
                return self._bytes(attribute, 0, 4) in _HIBERNATED
        return False

    # ---- records ----------------------------------------------------------------------------------

    def _map_of_mft(self) -> list[Run]:
        """Return where the MFT lies: its record's runs, then those in records that continue it."""
        own = list(_parse_attributes(self._record(_MFT)))
        runs = [run for one in own if one.kind == _DATA and not one.name for run in one.runs]
        if not runs:
            raise NtfsUnclear("the MFT has no place")
        self.mft = runs
        for number in self._continued(own, _MFT, _DATA):
            more = [one for one in _parse_attributes(self._record(number)) if one.kind == _DATA]
            self.mft = [*self.mft, *(run for one in more for run in one.runs)]
        return self.mft

    def _attributes(self, number: int) -> list[_Attribute]:
        """Return a file's attributes, also those in records that continue it."""
        own = list(_parse_attributes(self._record(number)))
        for extra in self._continued(own, number, None):
            own += _parse_attributes(self._record(extra))
        return own

    def _continued(self, own: list[_Attribute], number: int, kind: int | None) -> list[int]:
        """Return the other records of a file that its attribute list names, in order of their clusters."""
        listing = next((one for one in own if one.kind == _ATTRIBUTE_LIST), None)
        if listing is None:
            return []
        data = self._bytes(listing, 0, min(listing.size_bytes, _MAX_RECORD_BYTES))
        found: dict[int, None] = {}
        offset = 0
        while offset + 26 <= len(data):
            entry_kind, length = struct.unpack_from("<IH", data, offset)
            (reference,) = struct.unpack_from("<Q", data, offset + 16)
            if length < 26:
                raise NtfsUnclear("an attribute list has an entry without length")
            if kind in (None, entry_kind) and reference & 0xFFFFFFFFFFFF != number:
                found[reference & 0xFFFFFFFFFFFF] = None
            offset += length
        return list(found)

    def _record(self, number: int) -> bytes:
        raw = self._file_bytes(self.mft, number * self.record_bytes, self.record_bytes)
        record = _fixed_up(raw, b"FILE", self.record_bytes)
        (flags,) = struct.unpack_from("<H", record, 22)
        if not flags & _IN_USE:
            raise NtfsUnclear(f"record {number} is not in use")
        return record

    # ---- the root directory -----------------------------------------------------------------------

    def _find(self, name: str) -> int | None:
        """Return the record of a file in the root directory by its upper-case ASCII name."""
        attributes = [one for one in self._attributes(_ROOT) if one.name == _NAMES]
        root = next((one for one in attributes if one.kind == _INDEX_ROOT), None)
        if root is None or root.value is None:
            raise NtfsUnclear("the root directory has no index")
        allocation = [one for one in attributes if one.kind == _INDEX_ALLOCATION]
        runs = [run for one in sorted(allocation, key=lambda one: one.first_cluster) for run in one.runs]
        (block_bytes,) = struct.unpack_from("<I", root.value, 8)
        if not _STRIDE <= block_bytes <= _MAX_RECORD_BYTES or block_bytes % _STRIDE:
            raise NtfsUnclear(f"index blocks of {block_bytes} bytes")
        # An index block is counted in clusters, or in sectors where a cluster is larger than it.
        unit = self.cluster_bytes if self.cluster_bytes <= block_bytes else _STRIDE
        node = root.value[16:]
        for _ in range(_MAX_DEPTH):
            record, child = _look_up(node, name)
            if record is not None or child is None:
                return record
            raw = self._file_bytes(runs, child * unit, block_bytes)
            node = _fixed_up(raw, b"INDX", block_bytes)[24:]
        raise NtfsUnclear("its root directory is too deep")

    # ---- bytes ------------------------------------------------------------------------------------

    def _bytes(self, attribute: _Attribute, offset: int, length: int) -> bytes:
        if attribute.value is not None:
            return attribute.value[offset : offset + length]
        return self._file_bytes(attribute.runs, offset, length)

    def _file_bytes(self, runs: "list[Run] | tuple[Run, ...]", offset: int, length: int) -> bytes:
        """Return `length` bytes of a file whose clusters are `runs`; shorter where it ends."""
        data = b""
        at = 0
        for start, count in runs:
            size = count * self.cluster_bytes
            while at <= offset < at + size and len(data) < length:
                take = min(length - len(data), at + size - offset)
                data += (
                    bytes(take) if start < 0 else self._read(start * self.cluster_bytes + offset - at, take)
                )
                offset += take
            at += size
        return data

    def _read(self, offset: int, length: int) -> bytes:
        self.reads += 1
        if self.reads > _MAX_READS:
            raise NtfsUnclear("its structures lead to too many places")
        data = self.read(offset, length)
        if len(data) < length:
            raise NtfsUnclear("it points beyond its end")
        return data


def _fixed_up(raw: bytes, magic: bytes, size: int) -> bytes:
    """Return a record with the last two bytes of each 512 put back, which show torn writes."""
    if len(raw) < size or raw[:4] != magic:
        raise NtfsUnclear(f"a record is no {magic.decode()} record")
    offset, count = struct.unpack_from("<HH", raw, 4)
    if count != size // _STRIDE + 1 or offset + 2 * count > size:
        raise NtfsUnclear("a record's update sequence has a wrong length")
    number = raw[offset : offset + 2]
    fixed = bytearray(raw)
    for piece in range(1, count):
        end = piece * _STRIDE
        if raw[end - 2 : end] != number:
            raise NtfsUnclear("a record was written in part only")
        fixed[end - 2 : end] = raw[offset + 2 * piece : offset + 2 * piece + 2]
    return bytes(fixed)


def _parse_attributes(record: bytes) -> Iterator[_Attribute]:
    (offset,) = struct.unpack_from("<H", record, 20)
    while True:
        (kind,) = struct.unpack_from("<I", record, offset)
        if kind == _END:
            return
        (length,) = struct.unpack_from("<I", record, offset + 4)
        if length < 24 or offset + length > len(record):
            raise NtfsUnclear("a record has an attribute without end")
        yield _parse_attribute(kind, record[offset : offset + length])
        offset += length


def _parse_attribute(kind: int, raw: bytes) -> _Attribute:
    non_resident, name_length, name_offset = struct.unpack_from("<BBH", raw, 8)
    name = raw[name_offset : name_offset + 2 * name_length].decode("utf-16-le", "replace")
    if not non_resident:
        size, offset = struct.unpack_from("<IH", raw, 16)
        return _Attribute(kind, name, raw[offset : offset + size], size_bytes=size)
    first, _, offset = struct.unpack_from("<QQH", raw, 16)
    size = struct.unpack_from("<Q", raw, 48)[0] if len(raw) >= 56 else 0
    return _Attribute(kind, name, None, tuple(_parse_runs(raw[offset:])), first, size)


def _parse_runs(data: bytes) -> Iterator[Run]:
    """Yield the runs of a mapping-pairs array: byte counts, a length, a signed step to the next start."""
    at, cluster = 0, 0
    for _ in range(_MAX_RUNS):
        if at >= len(data) or data[at] == 0:
            return
        length_bytes, step_bytes = data[at] & 0x0F, data[at] >> 4
        end = at + 1 + length_bytes + step_bytes
        length = int.from_bytes(data[at + 1 : at + 1 + length_bytes], "little")
        step = int.from_bytes(data[at + 1 + length_bytes : end], "little", signed=True)
        cluster += step
        if not 0 < length_bytes <= 8 or step_bytes > 8 or end > len(data) or length == 0 or cluster < 0:
            raise NtfsUnclear("a file's map of clusters is wrong")
        yield (cluster if step_bytes else -1, length)
        at = end
    raise NtfsUnclear("a file lies in too many pieces")


def _look_up(node: bytes, name: str) -> tuple[int | None, int | None]:
    """Return the record `name` has in an index node, or the child node in which it would be."""
    offset, used = struct.unpack_from("<II", node, 0)
    while True:
        reference, length, key_length, flags = struct.unpack_from("<QHHI", node, offset)
        if length < 16 or offset + length > min(used, len(node)):
            raise NtfsUnclear("its root directory has an entry without end")
        child = struct.unpack_from("<Q", node, offset + length - 8)[0] if flags & _HAS_CHILD else None
        if flags & _LAST_ENTRY:
            return None, child
        key = node[offset + 16 : offset + 16 + key_length]
        found = key[66 : 66 + 2 * key[64]].decode("utf-16-le", "replace")
        if (upper := _upper(found)) == name:
            return reference & 0xFFFFFFFFFFFF, None
        if upper > name:
            return None, child
        offset += length


def _upper(name: str) -> str:
    # Only ASCII: against an ASCII name it decides the order as $UpCase does, whose other letters stay
    # behind all of ASCII. By code units, as NTFS compares: surrogates only occur behind ASCII too.
    return "".join(chr(ord(c) - 32) if "a" <= c <= "z" else c for c in name)
