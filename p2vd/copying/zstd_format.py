"""How a zstd file is built (RFC 8878, section 3), as far as the ends of its frames tell. Pure."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from p2vd.copying.packing import Damaged, ReadAt

MAGIC = 0xFD2FB528
SKIPPABLE = 0x184D2A50
"""Its lowest four bits may be any."""

_SKIPPABLE_MASK = 0xFFFFFFF0
_WORD = struct.Struct("<I")
_MOST_HEADER = 18
_MOST_IN_BLOCK = 128 << 10
_RLE, _RESERVED = 1, 3
_DICTIONARY_BYTES = (0, 1, 2, 4)
_SIZE_BYTES = (0, 2, 4, 8)


@dataclass(frozen=True)
class Frame:
    """A frame: where it begins, its bytes in the file, and those that it says it holds (None: not said)."""

    at: int
    length: int
    holds: int | None


def frames(read: ReadAt, size_bytes: int) -> Iterator[Frame]:
    """Yield every frame of a file that is not skippable. Raises Damaged, also for what is no frame."""
    at = 0
    while (at := skip(read, at, size_bytes)) < size_bytes:
        length, holds = _frame(read, at, size_bytes)
        yield Frame(at, length, holds)
        at += length


def skip(read: ReadAt, at: int, size_bytes: int) -> int:
    """Where the next frame begins that is not skippable, or the file ends. Raises Damaged."""
    while at < size_bytes:
        head = read(at, 8)
        if len(head) < 4:
            raise Damaged(at, "it ends within a frame's magic number")
        (magic,) = _WORD.unpack_from(head)
        if magic == MAGIC:
            return at
        if magic & _SKIPPABLE_MASK != SKIPPABLE:
            raise Damaged(at, "what follows there is no zstd frame")
        length = 8 + _WORD.unpack_from(head, 4)[0] if len(head) == 8 else size_bytes
        if at + length > size_bytes:
            raise Damaged(at, "it ends within a skippable frame")
        at += length
    return at


def frame_bytes(frame: bytes) -> tuple[int, int | None]:
    """Bytes of the frame that begins here, and those that it says it holds. Raises Damaged."""
    if frame[:4] != _WORD.pack(MAGIC):
        raise Damaged(0, "it is no zstd frame")
    return _frame(lambda offset, length: frame[offset : offset + length], 0, len(frame))


def frame_header(read: ReadAt, at: int) -> tuple[int, int | None, bool]:
    """Length of a frame's header, its content size, and whether a checksum ends it. Raises Damaged."""
    header = read(at, _MOST_HEADER)
    if len(header) < 5:
        raise Damaged(at, "it ends within a frame's header")
    flags = header[4]
    if flags & 0x08:
        raise Damaged(at, "a frame uses a reserved bit")
    single = bool(flags & 0x20)
    size_field = _SIZE_BYTES[flags >> 6] or int(single)
    dictionary = _DICTIONARY_BYTES[flags & 3]
    start = 5 + (not single)
    if dictionary and any(header[start : start + dictionary]):
        raise Damaged(at, "a frame needs a dictionary")
    start += dictionary
    length = start + size_field
    if len(header) < length:
        raise Damaged(at, "it ends within a frame's header")
    holds = int.from_bytes(header[start:length], "little") if size_field else None
    if size_field == 2 and holds is not None:
        holds += 256
    return length, holds, bool(flags & 0x04)


def block_header(read: ReadAt, at: int) -> tuple[int, bool]:
    """Length of a block with its header, and whether it is its frame's last. Raises Damaged."""
    block = read(at, 3)
    if len(block) < 3:
        raise Damaged(at, "it ends within a frame")
    word = int.from_bytes(block, "little")
    last, kind, size = bool(word & 1), word >> 1 & 3, word >> 3
    if kind == _RESERVED:
        raise Damaged(at, "a block has a reserved type")
    return 3 + (1 if kind == _RLE else size), last


def _frame(read: ReadAt, at: int, size_bytes: int) -> tuple[int, int | None]:
    """Length of the frame at `at`, and its content size. Raises Damaged."""
    length, holds, has_checksum = frame_header(read, at)
    last, room = False, 0
    while not last:
        block, last = block_header(read, at + length)
        room += _MOST_IN_BLOCK
        if at + length + block > size_bytes:
            raise Damaged(at + length, "it ends within a frame")
        length += block
    if has_checksum:
        length += 4
        if at + length > size_bytes:
            raise Damaged(at + length, "it ends within a frame's checksum")
    if holds is not None and holds > room:
        raise Damaged(at, f"a frame says that it holds {holds} bytes, and has blocks for {room} at most")
    return length, holds
