"""`raw.gz`: one gzip member a MiB, and behind them an index in members that hold nothing.

`gunzip` joins the members of a file (RFC 1952, section 2.2), and passes over the extra field of their headers
(2.3.1.1). So the index goes with the file and disturbs no reader: members without contents, whose extra
field has one subfield each.

    Pi  the sizes of the next members, each 4 bytes, little-endian
    Pe  the last one: the offset of the first Pi (8 bytes), how many members there are (8), how many bytes
        they hold (8), bytes of each but the last (4), CRC-32 of all sizes (4)
"""

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from p2vd.copying.layout import BLOCK
from p2vd.copying.packing import SIZE_BYTES, ReadAt, unpack_sizes

_GZIP = 31
"""zlib's `wbits` for a member of gzip: its header and trailer, checked when it is read."""

# Magic, deflate, "has an extra field", no time, no flags, an unknown system; the extra field's length.
_HEADER = struct.Struct("<2sBBIBBH")
_START = (b"\x1f\x8b", 8, 4, 0, 0, 255)
_SUBFIELD = struct.Struct("<2sH")
_NOTHING = b"\x03\x00" + bytes(8)
"""An empty deflate stream, CRC-32 and length."""

_END = struct.Struct("<QQQII")
_END_MEMBER = _HEADER.size + _SUBFIELD.size + _END.size + len(_NOTHING)
_SIZES_A_MEMBER = 16_000
"""An extra field has 65,535 bytes at most."""


class GzipPacking:
    """Members of gzip."""

    def __init__(self, level: int):
        self._level = level
        self.zero_frame = zlib.compress(bytes(BLOCK), 9, wbits=_GZIP)

    def pack(self, block: memoryview) -> bytes:
        """Return the member of a block."""
        return zlib.compress(block, self._level, wbits=_GZIP)

    def unpack(self, frame: bytes, length: int) -> bytes:
        """Return the `length` bytes that a member holds. Raises ValueError."""
        reader = zlib.decompressobj(wbits=_GZIP)
        try:
            contents = reader.decompress(frame, length + 1)
        except zlib.error as error:
            raise ValueError(str(error)) from error
        if len(contents) != length or not reader.eof or reader.unused_data:
            raise ValueError(f"a member does not hold {length} bytes and nothing else")
        return contents

    def end(self, sizes: Iterable[bytes], count: int, total_bytes: int, at: int) -> Iterator[bytes]:
        """Yield the index."""
        total = 0
        for piece in sizes:
            for start in range(0, len(piece), _SIZES_A_MEMBER * SIZE_BYTES):
                part = piece[start : start + _SIZES_A_MEMBER * SIZE_BYTES]
                total = zlib.crc32(part, total)
                yield _member(b"Pi", part)
        yield _member(b"Pe", _END.pack(at, count, total_bytes, BLOCK, total))


def _member(name: bytes, data: bytes) -> bytes:
    extra = _SUBFIELD.pack(name, len(data)) + data
    return _HEADER.pack(*_START, len(extra)) + extra + _NOTHING


@dataclass(frozen=True)
class MemberIndex:
    """The index of a `raw.gz`, as its last member tells of it."""

    at: int
    count: int
    total_bytes: int
    block_bytes: int
    checksum: int
    end: int

    def sizes(self, read: ReadAt) -> Iterator[int]:
        """Yield the size of each member that holds a block. Raises ValueError where it is damaged."""
        at, total, found = self.at, 0, 0
        while at < self.end:
            head = read(at, _HEADER.size + _SUBFIELD.size)
            if len(head) < _HEADER.size + _SUBFIELD.size or head[:4] != b"\x1f\x8b\x08\x04":
                raise ValueError("its index ends too early")
            name, length = _SUBFIELD.unpack_from(head, _HEADER.size)
            if name != b"Pi" or length % SIZE_BYTES or not length:
                raise ValueError("its index is damaged")
            data = read(at + len(head), length)
            total, found = zlib.crc32(data, total), found + length // SIZE_BYTES
            if found > self.count or len(data) != length:
                raise ValueError("its index is damaged")
            yield from unpack_sizes(data)
            at += len(head) + length + len(_NOTHING)
        if (found, total, at) != (self.count, self.checksum, self.end):
            raise ValueError("its index has a wrong checksum")


def member_index(read: ReadAt, size_bytes: int) -> MemberIndex | None:
    """The index at the end of a file; None: there is none that could be p2vd's."""
    start = size_bytes - _END_MEMBER
    if start < 0:
        return None
    data = read(start, _END_MEMBER)
    if data[: _HEADER.size] != _HEADER.pack(*_START, _SUBFIELD.size + _END.size):
        return None
    if data[_HEADER.size :][: _SUBFIELD.size] != _SUBFIELD.pack(b"Pe", _END.size):
        return None
    at, count, total_bytes, block_bytes, checksum = _END.unpack_from(data, _HEADER.size + _SUBFIELD.size)
    if at > start or count * block_bytes < total_bytes or not 0 < block_bytes <= BLOCK:
        return None
    return MemberIndex(at, count, total_bytes, block_bytes, checksum, start)
