"""Source and target behind small interfaces: direct I/O on descriptors that are open already."""

import ctypes
import errno
import logging
import mmap
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from p2vd.copying.controls import Gauge
from p2vd.copying.errors import PoolFull, ReadFailed, TargetChanged, WriteFailed
from p2vd.copying.layout import BLOCK, SUB_BLOCK, Extent, Layout
from p2vd.system import block

log = logging.getLogger(__name__)

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_UNSUPPORTED = {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY, errno.ENOSYS}
_ZERO_STEP = 128 * BLOCK


class Buffer:
    """One page-aligned block of memory; direct I/O and the zero test work on it in place."""

    def __init__(self) -> None:
        self._map = mmap.mmap(-1, BLOCK)
        self.view = memoryview(self._map)
        self._chars = (ctypes.c_char * BLOCK).from_buffer(self._map)
        self._first_words = self.view.cast("Q")[:: SUB_BLOCK // 8]

    def is_zero(self, start: int = 0, length: int = BLOCK) -> bool:
        """Whether `length` bytes from `start` are zero."""
        return block.is_zero(self._chars, start, length)

    def zero_parts(self, length: int) -> list[bool]:
        """Which parts of `SUB_BLOCK` of the first `length` bytes are zero; the last part may be short."""
        whole, rest = divmod(length, SUB_BLOCK)
        # A part whose first word is not zero is none: true of most, and asked of all of them at once.
        words = self._first_words[:whole].tolist()
        flags = [not word and self.is_zero(at * SUB_BLOCK, SUB_BLOCK) for at, word in enumerate(words)]
        return [*flags, self.is_zero(whole * SUB_BLOCK, rest)] if rest else flags

    def same(self, other: "Buffer", length: int) -> bool:
        """Whether the first `length` bytes of both are equal."""
        return block.is_equal(self._chars, other._chars, length)

    def clear(self, start: int, end: int) -> None:
        """Make bytes `start` to `end` zero."""
        if start < end:
            ctypes.memset(ctypes.addressof(self._chars) + start, 0, end - start)


class Readable(Protocol):
    """What blocks are read from."""

    def read(self, buffer: Buffer, offset: int, length: int, at: int = 0) -> None:
        """Fill `length` bytes of the buffer, from its byte `at` on, from `offset`. Raises ReadFailed."""

    def extents(self, start: int, length: int) -> Iterator[Extent]:
        """Data and holes of a range, without reading it."""


class Source(Readable, Protocol):
    """What a disk is read from, of whichever form."""

    @property
    def name(self) -> str:
        """What it is called in sentences."""

    @property
    def size_bytes(self) -> int:
        """The size of the disk."""

    @property
    def align(self) -> int:
        """What offsets and lengths of reads are multiples of: the least that can be read."""


class Sink(Readable, Protocol):
    """What blocks are written to."""

    def least_zero(self, skipped: bool) -> int:
        """Zero runs shorter than this are better written with the data around them.

        `skipped`: longer ones cost nothing, because nothing was ever written there.
        """

    @property
    def skips_zeros(self) -> bool:
        """Whether what was never written reads as zero."""

    def write(self, buffer: Buffer, start: int, offset: int, length: int) -> None:
        """Write `length` bytes of the buffer from `start` to `offset`. Raises WriteFailed, PoolFull."""

    def zero(self, scratch: Buffer, offset: int, length: int) -> None:
        """Make a range zero whatever was there. Raises WriteFailed, PoolFull."""

    def flush(self) -> None:
        """Make all that was written durable. Raises WriteFailed, PoolFull: nothing since the last counts."""

    def check(self) -> None:
        """Raise TargetChanged if the device behind the descriptor is not as it was."""


class TargetSink(Sink, Source, Protocol):
    """What a disk is written to, of whichever form, and read back from."""


@dataclass
class Device:
    """A block device or file for reading. `fd` may be O_DIRECT; `name` is for sentences.

    `align`: what offsets and lengths of direct I/O are multiples of.
    """

    fd: int
    name: str
    size_bytes: int
    gauge: Gauge
    reading: str = "read"

    def __post_init__(self) -> None:
        self.align = block.alignment(self.fd)
        self._is_file = not block.is_block(self.fd)

    def read(self, buffer: Buffer, offset: int, length: int, at: int = 0) -> None:
        """Fill `length` bytes of the buffer from its byte `at` on, however short single reads are.

        `offset` and `at` are multiples of `align`.
        """
        done = 0
        while done < length:
            # Direct I/O wants whole sectors; a file's read ends at its end by itself.
            asked = min(BLOCK - at - done, -(-(length - done) // self.align) * self.align)
            try:
                with self.gauge.io(self.reading, offset + done):
                    count = os.preadv(self.fd, [buffer.view[at + done : at + done + asked]], offset + done)
            except OSError as error:
                place = (self.name, offset + done, length - done)
                raise ReadFailed(*place, _cause(error), error.errno or 0) from error
            if count == 0:
                raise ReadFailed(self.name, offset + done, length - done, "it ends here; it was longer")
            if done + count < length and count % self.align:  # within a sector: the end, or nearly
                count -= count % self.align
                if count == 0:
                    raise ReadFailed(self.name, offset + done, length - done, "it ends here; it was longer")
            done += count

    def extents(self, start: int, length: int) -> Iterator[Extent]:
        """Data and holes of a file by SEEK_DATA; a block device is all data."""
        end = start + length
        if not self._is_file:
            yield Extent(start, length, zero=False)
            return
        while start < end:
            try:
                data = min(end, os.lseek(self.fd, start, os.SEEK_DATA))
            except OSError as error:
                if error.errno != errno.ENXIO:  # not "no data from here on": no answer, so all is data
                    yield Extent(start, end - start, zero=False)
                    return
                data = end
            if data > start:
                yield Extent(start, data - start, zero=True)
            if data < end:
                hole = min(end, os.lseek(self.fd, data, os.SEEK_HOLE))
                yield Extent(data, hole - data, zero=False)
                data = hole
            start = data


@dataclass
class Target(Device):
    """A target that was opened for writing.

    `chunk_bytes`: of its thin pool, 0: not thin. `untouched_is_zero`: what this job never wrote reads
    as zero, and stays so when its chunk is allocated (the pool zeroes). `tail_fd`: a descriptor without
    O_DIRECT for a file's odd end. `admit` is called before space may be allocated, and may wait.
    `uuid_fd`: sysfs' dm/uuid, open, or -1.
    """

    chunk_bytes: int = 0
    untouched_is_zero: bool = False
    tail_fd: int = -1
    dm_uuid: str = ""
    uuid_fd: int = -1
    admit: Callable[[int, int], None] = lambda offset, length: None
    _no_zeroing: bool = field(default=False, init=False)

    def least_zero(self, skipped: bool) -> int:
        """A thin chunk or a hole is worth an operation of its own; on other devices whole blocks are.

        Within one thin chunk nothing is saved: the pool zeroes what a write leaves of a new chunk.
        """
        if self.chunk_bytes:
            return max(self.chunk_bytes, SUB_BLOCK)
        return SUB_BLOCK if self._is_file or skipped else BLOCK

    @property
    def skips_zeros(self) -> bool:
        """Whether what was never written reads as zero."""
        return self.untouched_is_zero

    def write(self, buffer: Buffer, start: int, offset: int, length: int) -> None:
        """Write bytes of the buffer, however short single writes are."""
        self.admit(offset, length)
        done = 0
        while done < length:
            part = length - done
            fd = self.fd
            if self.tail_fd >= 0 and part % self.align:
                fd, part = (self.tail_fd, part) if part < self.align else (fd, part - part % self.align)
            try:
                with self.gauge.io("write", offset + done):
                    part_of = buffer.view[start + done : start + done + part]
                    count = os.pwritev(fd, [part_of], offset + done)
            except OSError as error:
                raise self._failure(error, offset + done, length - done) from error
            if count == 0:
                raise WriteFailed(self.name, offset + done, length - done, "nothing was written")
            # A short direct write may end within a sector: that sector is written again.
            done = length if done + count == length else (done + count) // self.align * self.align

    def zero(self, scratch: Buffer, offset: int, length: int) -> None:
        """Make a range zero: holes in a file, discarded chunks in a thin LV, BLKZEROOUT elsewhere.

        A discard's success says nothing (inside a chunk it leaves the bytes), so after one the range
        is read back. What the kernel does not support is written instead.
        """
        if self.chunk_bytes:
            self._zero_thin(scratch, offset, length)
            return
        for start in range(offset, offset + length, _ZERO_STEP):
            self._zero_step(scratch, start, min(_ZERO_STEP, offset + length - start))

    def _zero_step(self, scratch: Buffer, offset: int, length: int) -> None:
        if not self._no_zeroing:
            try:
                with self.gauge.io("zero", offset):
                    (block.punch_hole if self._is_file else block.zero_out)(self.fd, offset, length)
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise self._failure(error, offset, length) from error
                log.warning("%s cannot zero ranges (%s): zeros are written", self.name, error.strerror)
                self._no_zeroing = True
            else:
                return
        self._write_zeros(scratch, offset, length)

    def _zero_thin(self, scratch: Buffer, offset: int, length: int) -> None:
        end = offset + length
        first = -(-offset // self.chunk_bytes) * self.chunk_bytes
        last = max(first, end // self.chunk_bytes * self.chunk_bytes)
        if first >= end or last == first:
            first = last = end  # no whole chunk: all of it is edge
        elif not self._no_zeroing:
            try:
                with self.gauge.io("discard", first):
                    block.discard(self.fd, first, last - first)
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise self._failure(error, first, last - first) from error
                log.warning("%s cannot discard (%s): zeros are written", self.name, error.strerror)
                self._no_zeroing = True
        for start, length in ((offset, first - offset), (last, end - last)):
            # A pool that does not zero fills the rest of a chunk with old bytes at its first write.
            edge = self._zero_unless_zero if self.untouched_is_zero else self._write_zeros
            edge(scratch, start, length)
        self._zero_unless_zero(scratch, first, last - first)

    def _zero_unless_zero(self, scratch: Buffer, offset: int, length: int) -> None:
        """Read a range back and write zeros only where it is not zero: reading allocates nothing."""
        for start in range(offset, offset + length, BLOCK):
            part = min(BLOCK, offset + length - start)
            self.read(scratch, start, part)
            if not scratch.is_zero(0, part):
                self._write_zeros(scratch, start, part)

    def _write_zeros(self, scratch: Buffer, offset: int, length: int) -> None:
        scratch.clear(0, min(BLOCK, length))
        for start in range(offset, offset + length, BLOCK):
            self.write(scratch, 0, start, min(BLOCK, offset + length - start))

    def flush(self) -> None:
        """fdatasync: also the device's own write cache. A failure is reported once, never retried.

        NFS, and filesystems that allocate late, may tell only now that there is no space: PoolFull.
        """
        try:
            with self.gauge.io("flush", 0):
                os.fdatasync(self.fd)
        except OSError as error:
            raise self._failure(error, 0, self.size_bytes, "flush: ") from error

    def check(self) -> None:
        """Look at size and device-mapper UUID again, through the descriptors."""
        try:
            size = block.size_bytes(self.fd)
        except OSError as error:
            raise TargetChanged("size", str(self.size_bytes), _cause(error)) from error
        if size != self.size_bytes:
            raise TargetChanged("size in bytes", str(self.size_bytes), str(size))
        if self.uuid_fd >= 0:
            try:
                uuid = os.pread(self.uuid_fd, 4096, 0).decode().strip()
            except OSError as error:
                uuid = _cause(error)
            if uuid != self.dm_uuid:
                raise TargetChanged("device-mapper UUID", self.dm_uuid, uuid or "none")

    def _failure(self, error: OSError, offset: int, length: int, what: str = "") -> WriteFailed | PoolFull:
        kind = PoolFull if error.errno in _NO_SPACE else WriteFailed
        return kind(self.name, offset, length, f"{what}{_cause(error)}")


def padded(buffer: Buffer, source: Readable, layout: Layout, number: int) -> None:
    """Fill the buffer with a block of the source, zero where the target goes on beyond it."""
    length = layout.source_length(number)
    if length:
        source.read(buffer, number * BLOCK, length)
    buffer.clear(length, layout.target_length(number))


def _cause(error: OSError) -> str:
    return error.strerror or str(error)
