"""How a disk is divided: blocks of 1 MiB, regions of 1 GiB, pieces of work in between. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from p2vd.model.size import KIB, MIB

BLOCK = MIB
"""Unit of digests and of the checkpoint's bitmap, and the size of an I/O buffer."""

SUB_BLOCK = 64 * KIB
"""Unit in which zeros are told from data inside a block."""

REGION_BLOCKS = 1024
"""Blocks of a region: one row of the checkpoint."""

WORK_BLOCKS = 16
"""Blocks a thread takes at a time, read one after another."""

ZERO_WORK_BLOCKS = 128
"""Blocks zeroed at a time: one larger request made iSCSI sessions drop (design: §4.9)."""


@dataclass(frozen=True)
class Extent:
    """A byte range of a source; `zero`: known to read as zeros without reading it (a hole)."""

    start: int
    length: int
    zero: bool

    @property
    def end(self) -> int:
        """The first byte after it."""
        return self.start + self.length


@dataclass(frozen=True)
class Layout:
    """Sizes of source and target, in bytes. What the target has beyond the source becomes zero."""

    source_bytes: int
    target_bytes: int

    def __post_init__(self) -> None:
        if not 0 <= self.source_bytes <= self.target_bytes:
            raise ValueError(f"a source of {self.source_bytes} bytes and a target of {self.target_bytes}")

    @property
    def blocks(self) -> int:
        """Blocks of the target, the last one perhaps short."""
        return -(-self.target_bytes // BLOCK)

    @property
    def source_blocks(self) -> int:
        """Blocks that hold bytes of the source."""
        return -(-self.source_bytes // BLOCK)

    @property
    def regions(self) -> int:
        """Regions of the target, the last one perhaps short."""
        return -(-self.blocks // REGION_BLOCKS)

    def blocks_of(self, region: int) -> int:
        """How many blocks a region has."""
        return min(REGION_BLOCKS, self.blocks - region * REGION_BLOCKS)

    def target_length(self, block: int) -> int:
        """Bytes of a block on the target."""
        return min(BLOCK, self.target_bytes - block * BLOCK)

    def source_length(self, block: int) -> int:
        """Bytes of a block that come from the source; the rest is zero."""
        return max(0, min(BLOCK, self.source_bytes - block * BLOCK))

    def source_bytes_in(self, first: int, count: int) -> int:
        """Bytes of the source in `count` blocks from `first`."""
        end = min(self.source_bytes, (first + count) * BLOCK)
        return max(0, end - first * BLOCK)

    def target_bytes_in(self, first: int, count: int) -> int:
        """Bytes of the target in `count` blocks from `first`."""
        return max(0, min(self.target_bytes, (first + count) * BLOCK) - first * BLOCK)

    def zero_blocks(self, region: int, extents: Iterable[Extent]) -> int:
        """The bits of a region's blocks that `extents` know to be zero from end to end.

        `extents` cover the region's part of the source; what lies beyond the source is zero.
        """
        base = region * REGION_BLOCKS
        mask = 0
        for extent in extents:
            if not extent.zero:
                continue
            first = max(base, -(-extent.start // BLOCK))
            end = extent.end // BLOCK if extent.end < self.source_bytes else self.blocks
            mask |= bits(first - base, min(end, base + self.blocks_of(region)) - first)
        first = max(base, self.source_blocks)
        return mask | bits(first - base, base + self.blocks_of(region) - first)


def bits(first: int, count: int) -> int:
    """An integer with `count` bits set from bit `first` on; 0 for a count below one."""
    return ((1 << count) - 1) << first if count > 0 else 0


def runs(mask: int) -> Iterator[tuple[int, int]]:
    """Yield (first, count) of each run of set bits, ascending."""
    first = 0
    while mask:
        low = (mask & -mask).bit_length() - 1
        mask >>= low
        count = (~mask & (mask + 1)).bit_length() - 1
        yield first + low, count
        first += low + count
        mask >>= count


def split(first: int, count: int, step: int) -> Iterator[tuple[int, int]]:
    """Yield (first, count) pieces of a run, cut at multiples of `step`."""
    end = first + count
    while first < end:
        upto = min(end, (first // step + 1) * step)
        yield first, upto - first
        first = upto


def data_runs(zero: Sequence[bool], length: int, least_zero: int) -> list[tuple[int, int]]:
    """Return (start, length) byte runs to write of a block whose 64 KiB parts are `zero` or not.

    Zero runs shorter than `least_zero` are written with the data beside them.
    """
    if not any(zero):  # most blocks of most disks
        return [(0, length)]
    found: list[tuple[int, int]] = []
    for index, is_zero in enumerate(zero):
        if is_zero:
            continue
        start, end = index * SUB_BLOCK, min(length, (index + 1) * SUB_BLOCK)
        if found and start - (found[-1][0] + found[-1][1]) < least_zero:
            found[-1] = (found[-1][0], end - found[-1][0])
        else:
            found.append((start, end - start))
    if not found:
        return []
    if found[0][0] < least_zero:
        found[0] = (0, found[0][0] + found[0][1])
    last = found[-1]
    if length - (last[0] + last[1]) < least_zero:
        found[-1] = (last[0], length - last[0])
    return found


def gaps(used: Iterable[tuple[int, int]], length: int) -> Iterator[tuple[int, int]]:
    """Yield the (start, length) ranges of `length` bytes that the sorted ranges `used` leave out."""
    position = 0
    for start, count in used:
        if start > position:
            yield position, start - position
        position = start + count
    if position < length:
        yield position, length - position


def merge_ranges(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return (start, length) ranges sorted, adjoining ones made one."""
    merged: list[tuple[int, int]] = []
    for start, length in sorted(ranges):
        if merged and merged[-1][0] + merged[-1][1] >= start:
            last = merged[-1]
            merged[-1] = (last[0], max(last[1], start + length - last[0]))
        else:
            merged.append((start, length))
    return merged
