"""A disk in compressed frames: one for each MiB, in their order, and an index behind the last.

Every frame stands alone, so a copy goes on behind the last one that is durable, any MiB is read without
the others, and the whole is what `zstd -d` or `gunzip` reads. `zstd_packing` and `gzip_packing` are the
two formats.
"""

import sys
from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from p2vd.copying.errors import UsageError
from p2vd.model.forms import TargetFormat

LEVELS = {TargetFormat.RAW_ZST: (1, 19, 3), TargetFormat.RAW_GZ: (1, 9, 6)}
"""The least level, the highest, and the one taken where none is named."""

SIZE_BYTES = 4
"""A frame's size, as checkpoints and indexes keep it: unsigned, little-endian."""

ReadAt = Callable[[int, int], bytes]
"""Offset and length of a file -> that many bytes, fewer only at its end. Raises OSError."""


class Damaged(ValueError):
    """A file is no whole image of its format: where in the file, and why."""

    def __init__(self, offset: int, cause: str):
        super().__init__(cause)
        self.offset, self.cause = offset, cause


class Packing(Protocol):
    """How a block becomes a frame, and what stands behind the last one. For many threads."""

    @property
    def zero_frame(self) -> bytes:
        """What a whole block of zeros becomes, whatever the level."""

    def pack(self, block: memoryview) -> bytes:
        """Return the frame of a block. Releases the interpreter lock."""

    def unpack(self, frame: bytes, length: int) -> bytes:
        """Return the `length` bytes that a frame holds. Raises ValueError where it holds anything else.

        It allocates no more than that, whatever the frame says.
        """

    def end(self, sizes: Iterable[bytes], count: int, total_bytes: int, at: int) -> Iterator[bytes]:
        """Yield what stands behind the last of `count` frames, which ends at byte `at` of the file.

        `sizes`: those of all frames, packed, in pieces of any length. `total_bytes`: what they hold.
        """


def packing(form: TargetFormat, level: int = 0) -> Packing:
    """How a target of that format is packed; level 0: the usual one. Raises UsageError."""
    least, most, usual = LEVELS[form]
    if level and not least <= level <= most:
        raise UsageError(f"--level must be from {least} to {most} for {form.value}.")
    # Imported here: a copy that packs nothing loads neither.
    if form is TargetFormat.RAW_ZST:
        from p2vd.copying.zstd_packing import ZstdPacking

        return ZstdPacking(level or usual)
    from p2vd.copying.gzip_packing import GzipPacking

    return GzipPacking(level or usual)


def pack_sizes(values: Iterable[int]) -> bytes:
    """Frame sizes as bytes."""
    return _little(array("I", values)).tobytes()


def unpack_sizes(data: bytes | bytearray | memoryview) -> "array[int]":
    """Frame sizes as numbers."""
    values = array("I")
    values.frombytes(data)
    return _little(values)


def _little(values: "array[int]") -> "array[int]":
    if sys.byteorder == "big":
        values.byteswap()
    return values
