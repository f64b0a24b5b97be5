"""A disk in a `.xz`: from any block on that the file's indexes list (the .xz file format, version 1.2.1)."""

import lzma
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from p2vd.copying.packing import Damaged, ReadAt
from p2vd.copying.streams import Input

MAGIC = b"\xfd7zXZ\x00"
MOST_MEMORY = 128 << 20
"""`xz -9` wants 65 MiB to decompress; a file that wants more is refused."""

_HEADER_BYTES = 12
_FOOTER = struct.Struct("<IIH2s")
_FOOTER_MAGIC = b"YZ"
_MOST_STREAMS = 65536
_MOST_RATIO = 8192
"""LZMA reaches some 7,000 with zeros: what says more is not believed."""


@dataclass(frozen=True)
class Stream:
    """One stream: where it, its index and the next stream begin; where its contents begin, and end."""

    at: int
    index_at: int
    end: int
    of_image: int = 0
    image_end: int = 0


def streams(read: ReadAt, size_bytes: int, note: Callable[[int, int], None]) -> list[Stream]:
    """The streams of a file by their indexes, each of which has a CRC-32; `note` hears of each block.

    Raises Damaged.
    """
    found: list[Stream] = []
    end = size_bytes
    while end > 0:
        stream = _stream_before(read, end)
        found.append(stream)
        end = stream.at
        if len(found) > _MOST_STREAMS:
            raise Damaged(end, f"it has more than {_MOST_STREAMS} streams")
    if not found:
        raise Damaged(0, "it is empty")
    told: list[Stream] = []
    of_image = 0
    for stream in reversed(found):
        start, at = of_image, stream.at + _HEADER_BYTES
        for unpadded, holds in _records(read, stream):
            note(of_image, at)
            at += -(-unpadded // 4) * 4
            of_image += holds
        if at != stream.index_at:
            raise Damaged(stream.index_at, "its index does not fit its blocks")
        told.append(Stream(stream.at, stream.index_at, stream.end, start, of_image))
    return told


def _stream_before(read: ReadAt, end: int) -> Stream:
    """The stream that ends there, or before padding that ends there."""
    while end >= 4 and read(end - 4, 4) == bytes(4):
        end -= 4
    if end < 2 * _HEADER_BYTES + 8 or end % 4:
        raise Damaged(max(0, end), "it ends within a stream")
    total, backward, flags, magic = _FOOTER.unpack(read(end - _FOOTER.size, _FOOTER.size))
    if magic != _FOOTER_MAGIC:
        raise Damaged(end, "no stream ends there: it was cut off, or something follows the image")
    if zlib.crc32(struct.pack("<IH", backward, flags)) != total:
        raise Damaged(end - _FOOTER.size, "a stream's footer has a wrong checksum")
    index_at = end - _FOOTER.size - (backward + 1) * 4
    if index_at < _HEADER_BYTES:
        raise Damaged(end - _FOOTER.size, "an index begins before its stream")
    blocks = sum(-(-unpadded // 4) * 4 for unpadded, _ in _records(read, Stream(0, index_at, end)))
    at = index_at - blocks - _HEADER_BYTES
    header = read(at, _HEADER_BYTES) if at >= 0 else b""
    if header[:6] != MAGIC or struct.unpack_from("<H", header, 6)[0] != flags:
        raise Damaged(max(0, at), "no stream begins where its index says")
    return Stream(at, index_at, end)


def _records(read: ReadAt, stream: Stream) -> Iterator[tuple[int, int]]:
    """Yield (bytes in the file without padding, bytes of the image) of each block of a stream."""
    source = Input(read, stream.end - _FOOTER.size, stream.index_at)
    total = 0

    def byte() -> int:
        nonlocal total
        data = source.take(1)
        if not data:
            raise Damaged(stream.index_at, "an index is damaged")
        total = zlib.crc32(data, total)
        source.skip(1)
        return data[0]

    def number() -> int:
        value = 0
        for shift in range(0, 63, 7):
            part = byte()
            value |= (part & 0x7F) << shift
            if not part & 0x80:
                return value
        raise Damaged(stream.index_at, "an index is damaged")

    if byte() != 0:
        raise Damaged(stream.index_at, "no index is there")
    for _ in range(number()):
        unpadded, holds = number(), number()
        if holds > unpadded * _MOST_RATIO:
            raise Damaged(stream.index_at, f"an index says that {unpadded} bytes hold {holds}")
        yield unpadded, holds
    while (source.at - stream.index_at) % 4:
        byte()
    if source.take(4) != struct.pack("<I", total) or source.at + 4 != stream.end - _FOOTER.size:
        raise Damaged(stream.index_at, "an index has a wrong checksum")


class XzDecoder:
    """Reads the blocks of all streams from one of them on, each against its check."""

    def __init__(self, read: ReadAt, found: list[Stream], of_image: int = 0, at: int = 0):
        self._read, self._streams = read, found
        self._of_image = of_image
        self._number = next(
            (number for number, stream in enumerate(found) if at <= stream.index_at), len(found)
        )
        self._decompressor = _decompressor()
        self._input = Input(read, 0)
        if self._number < len(found):
            self._begin(max(at, found[self._number].at + _HEADER_BYTES))

    def _begin(self, at: int) -> None:
        stream = self._streams[self._number]
        # The index behind the blocks is left out: it would not fit what begins at a later block.
        self._input = Input(self._read, stream.index_at, at)
        self._decompressor = _decompressor()
        self._decompress(self._read(stream.at, _HEADER_BYTES), 1)

    def read_into(self, view: memoryview) -> int:
        """Fill `view`; fewer bytes only at the end. Raises Damaged."""
        filled = 0
        while filled < len(view) and self._number < len(self._streams):
            contents = self._next(len(view) - filled)
            if contents is None:
                self._end_stream()
                continue
            view[filled : filled + len(contents)] = contents
            filled += len(contents)
            self._of_image += len(contents)
        return filled

    def _next(self, most: int) -> bytes | None:
        """Some more bytes; None: the stream's blocks are at their end."""
        if not self._decompressor.needs_input:
            return self._decompress(b"", most)
        data = self._input.take()
        if not data:
            return None
        contents = self._decompress(data, most)
        self._input.skip(len(data))
        return contents

    def _decompress(self, data: bytes, most: int) -> bytes:
        try:
            return self._decompressor.decompress(data, most)
        except lzma.LZMAError as error:
            raise Damaged(self._input.at, str(error)) from error

    def _end_stream(self) -> None:
        stream = self._streams[self._number]
        if self._of_image != stream.image_end:
            cause = f"its blocks hold {self._of_image - stream.of_image} bytes, not as its index says"
            raise Damaged(stream.index_at, cause)
        self._number += 1
        if self._number < len(self._streams):
            self._begin(self._streams[self._number].at + _HEADER_BYTES)


def _decompressor() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MOST_MEMORY)
