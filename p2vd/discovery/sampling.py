"""Reads blocks of a disk in random places and looks for zeros: for the examiner's process."""

import errno
import os
import random
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from typing import Protocol

from p2vd.model.fill import ZeroSample
from p2vd.system import block

_PIECE = 256 * 1024
_ZEROS = bytes(_PIECE)


class Readable(Protocol):
    """An open disk: discovery.examiner's OpenedDisk is one."""

    fd: int
    size_bytes: int

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes, fewer at the end. Raises OSError."""
        ...


def sample_zeros(disk: Readable, block_bytes: int, wanted: int) -> ZeroSample:
    """Read `wanted` blocks, or all where there are no more, each once; none that lies in a hole of an image.

    Raises OSError: what cannot be read is neither zero nor data.
    """
    blocks = -(-disk.size_bytes // block_bytes)
    ranges = [(0, blocks)] if block.is_block(disk.fd) else list(_outside_holes(disk, block_bytes))
    ends = list(accumulate(end - start for start, end in ranges))
    population = ends[-1] if ends else 0
    chosen = random.sample(range(population), min(wanted, population))
    # The kernel is not to read ahead of what is never asked for.
    os.posix_fadvise(disk.fd, 0, 0, os.POSIX_FADV_RANDOM)
    with_data = 0
    for index in sorted(chosen):
        at = bisect_right(ends, index)
        number = ranges[at][1] - (ends[at] - index)
        with_data += _holds_data(disk, number * block_bytes, block_bytes)
    if block.size_bytes(disk.fd) != disk.size_bytes:  # what is no longer there looks like a hole
        raise OSError(errno.ESTALE, "its size has changed meanwhile")
    return ZeroSample(block_bytes, blocks, blocks - population, len(chosen), with_data)


def _holds_data(disk: Readable, start: int, length: int) -> bool:
    end = min(start + length, disk.size_bytes)
    for offset in range(start, end, _PIECE):
        count = min(_PIECE, end - offset)
        piece = disk.read(offset, count)
        if len(piece) < count:
            raise OSError(errno.EIO, "it ends before its size")
        if not _ZEROS.startswith(piece):
            return True
    return False


def _outside_holes(disk: Readable, block_bytes: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of blocks that are not wholly in holes, in order, none twice (lseek(2), SEEK_DATA)."""
    done = offset = 0
    while offset < disk.size_bytes:
        try:
            start = os.lseek(disk.fd, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # no data behind it
                raise
            return
        offset = os.lseek(disk.fd, start, os.SEEK_HOLE)
        first, end = max(done, start // block_bytes), -(-min(offset, disk.size_bytes) // block_bytes)
        if first < end:
            yield first, end
            done = end
