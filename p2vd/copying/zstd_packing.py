"""`raw.zst`: one zstd frame a MiB, and behind them the seek table of the Zstandard Seekable Format.

The table (zstd's contrib/seekable_format/zstd_seekable_compression_format.md) stands in a skippable frame,
which every decoder passes over. Each frame tells the size of its contents and has their checksum.
"""

import os
import struct
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import zstandard

from p2vd.copying.layout import BLOCK
from p2vd.copying.packing import ReadAt, unpack_sizes
from p2vd.copying.zstd_format import frame_bytes

_SEEKABLE = 0x8F92EAB1
_TABLE_MAGIC = 0x184D2A5E
_HEAD = struct.Struct("<II")
_ENTRY = struct.Struct("<II")
_FOOT = struct.Struct("<IBI")
_HAS_CHECKSUMS = 0x80
_RESERVED = 0x7C
_ENTRIES_AT_A_TIME = 1 << 16


class ZstdPacking:
    """Frames of zstd. A compressor keeps megabytes: there are no more of them than processors."""

    def __init__(self, level: int):
        self._level = level
        self._slots = threading.Semaphore(os.cpu_count() or 1)
        self._idle: list[zstandard.ZstdCompressor] = []
        self._own = threading.local()
        self.zero_frame = _compressor(3).compress(bytes(BLOCK))

    def pack(self, block: memoryview) -> bytes:
        """Return the frame of a block."""
        with self._slots:
            try:
                compressor = self._idle.pop()
            except IndexError:
                compressor = _compressor(self._level)
            try:
                return compressor.compress(block)
            finally:
                self._idle.append(compressor)

    def unpack(self, frame: bytes, length: int) -> bytes:
        """Return the `length` bytes that a frame holds. Raises ValueError."""
        if not hasattr(self._own, "decompressor"):
            self._own.decompressor = zstandard.ZstdDecompressor()
        found, size = frame_bytes(frame)
        if found != len(frame):
            raise ValueError(f"a frame of {found} bytes takes {len(frame)}")
        if size not in (None, length):
            raise ValueError(f"a frame says that it holds {size} bytes, not {length}")
        try:
            contents: bytes = self._own.decompressor.decompress(frame, max_output_size=length)
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from error
        if len(contents) != length:
            raise ValueError(f"a frame holds {len(contents)} bytes, not {length}")
        return contents

    def end(self, sizes: Iterable[bytes], count: int, total_bytes: int, at: int) -> Iterator[bytes]:
        """Yield the seek table."""
        del at
        yield _HEAD.pack(_TABLE_MAGIC, count * _ENTRY.size + _FOOT.size)
        left = total_bytes
        for piece in sizes:
            entries = bytearray()
            for size in unpack_sizes(piece):
                entries += _ENTRY.pack(size, min(BLOCK, left))
                left -= min(BLOCK, left)
            yield bytes(entries)
        yield _FOOT.pack(count, 0, _SEEKABLE)


def _compressor(level: int) -> zstandard.ZstdCompressor:
    return zstandard.ZstdCompressor(level=level, write_checksum=True, write_content_size=True)


@dataclass(frozen=True)
class SeekTable:
    """Where a seek table stands, and how many frames it lists."""

    entries_at: int
    entry_bytes: int
    count: int
    at: int

    def entries(self, read: ReadAt) -> Iterator[tuple[int, int]]:
        """Yield (bytes in the file, bytes of the image) of each frame; a skippable frame holds nothing."""
        for first in range(0, self.count, _ENTRIES_AT_A_TIME):
            part = min(_ENTRIES_AT_A_TIME, self.count - first) * self.entry_bytes
            data = read(self.entries_at + first * self.entry_bytes, part)
            for offset in range(0, part, self.entry_bytes):
                yield _ENTRY.unpack_from(data, offset)


def seek_table(read: ReadAt, size_bytes: int) -> SeekTable | None:
    """The seek table at the end of a file; None: there is none. Raises ValueError where it is damaged."""
    if size_bytes < _HEAD.size + _FOOT.size:
        return None
    count, flags, magic = _FOOT.unpack(read(size_bytes - _FOOT.size, _FOOT.size))
    if magic != _SEEKABLE:
        return None
    entry_bytes = _ENTRY.size + (4 if flags & _HAS_CHECKSUMS else 0)
    at = size_bytes - _FOOT.size - count * entry_bytes - _HEAD.size
    if at < 0 or flags & _RESERVED:
        raise ValueError(f"a seek table of {count} entries does not fit")
    kind, length = _HEAD.unpack(read(at, _HEAD.size))
    if kind != _TABLE_MAGIC or length != count * entry_bytes + _FOOT.size:
        raise ValueError(f"its seek table of {count} entries has no head")
    return SeekTable(at + _HEAD.size, entry_bytes, count, at)
