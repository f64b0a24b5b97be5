"""A file that holds the disk in compressed frames: appended to, in the order of the disk, and read back.

What a crash leaves behind the durable length that the checkpoint has is cut off before anything is
appended. That is harmless only in a file that this copy made, which its opener has seen to.
"""

import errno
import os
import stat
import threading
from array import array
from collections.abc import Iterator

from p2vd.copying.checkpoint import Checkpoint
from p2vd.copying.controls import Gauge
from p2vd.copying.devices import Buffer, Device
from p2vd.copying.errors import (
    CheckpointDamaged,
    PoolFull,
    ReadFailed,
    TargetChanged,
    TargetMismatch,
    WriteFailed,
)
from p2vd.copying.layout import BLOCK, REGION_BLOCKS, Extent, runs
from p2vd.copying.packing import Packing, unpack_sizes
from p2vd.system import block

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_KEPT_REGIONS = 4
_END_PIECE = 1 << 20


class PackedTarget(Device):
    """The file behind `fd`, which is open for reading and writing and is not shared.

    The sizes of its frames are the checkpoint's: nothing of that grows with the disk in memory, but for
    eight bytes a GiB. Appending is one thread's; reading any number's, while nothing is appended.
    """

    def __init__(self, fd: int, name: str, checkpoint: Checkpoint, packing: Packing, gauge: Gauge):
        block.set_direct(fd, False)  # frames have any length
        super().__init__(fd, name, checkpoint.layout.target_bytes, gauge, reading="read-back")
        self.packing = packing
        self._checkpoint = checkpoint
        self._layout = checkpoint.layout
        self._lock = threading.Lock()
        self._sizes: dict[int, array[int]] = {}
        self._starts: array[int] = array("Q")
        self._written = -1
        self._count_regions()
        if self._starts[-1] != self.durable:
            problem = f"its frames have {self._starts[-1]} bytes, {self.durable} are durable"
            raise CheckpointDamaged(name, problem)

    @property
    def durable(self) -> int:
        """How many bytes of the file the checkpoint claims; the end is not among them."""
        return self._checkpoint.header.packed_bytes

    @property
    def appended(self) -> int:
        """How long the file is now, by what was appended; only after `cut_back`."""
        return self._written

    # Writing: `cut_back`, then `append`, `flush` and `check`, then `finish`.

    def cut_back(self) -> None:
        """Cut off what is not durable. Raises WriteFailed."""
        self._cut(self.durable)

    def _cut(self, length: int) -> None:
        try:
            size = os.fstat(self.fd).st_size
            if size < length:
                raise TargetChanged("size in bytes", f"at least {length}", str(size))
            with self.gauge.io("truncate", length):
                os.ftruncate(self.fd, length)
        except OSError as error:
            raise WriteFailed(self.name, length, 0, f"truncate: {_cause(error)}") from error
        self._written = length

    def append(self, frames: bytes) -> None:
        """Write frames behind the last, however short single writes are. Raises WriteFailed, PoolFull.

        After a failure only `cut_back` helps.
        """
        view, at = memoryview(frames), self._written
        while view:
            try:
                with self.gauge.io("write", at):
                    count = os.pwrite(self.fd, view, at)
            except OSError as error:
                raise self._failure(error, at, len(view), "") from error
            if count == 0:
                raise WriteFailed(self.name, at, len(view), "nothing was written")
            view, at = view[count:], at + count
        self._written = at

    def flush(self) -> None:
        """fdatasync, the file's new length included. Raises WriteFailed, PoolFull."""
        try:
            with self.gauge.io("flush", self._written):
                os.fdatasync(self.fd)
        except OSError as error:  # NFS and delayed allocation tell only now that there is no space
            raise self._failure(error, self._written, 0, "flush: ") from error
        # What is durable is read back from the disk, not from memory.
        os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def check(self) -> None:
        """See that the file is as it was left. Raises TargetChanged."""
        try:
            status = os.fstat(self.fd)
        except OSError as error:
            raise TargetChanged("size", str(self._written), _cause(error)) from error
        if stat.S_ISREG(status.st_mode) and status.st_nlink == 0:
            raise TargetChanged("name", "kept", "gone: the file was removed")
        if self._written < 0:
            if status.st_size < self.durable:
                raise TargetChanged("size in bytes", f"at least {self.durable}", str(status.st_size))
        elif status.st_size != self._written:
            raise TargetChanged("size in bytes", str(self._written), str(status.st_size))

    def finish(self) -> None:
        """Write the index behind the last frame and make it durable; done again, it is the same.

        Raises WriteFailed, PoolFull.
        """
        self.cut_back()
        try:
            for piece in self._end():
                self.append(piece)
            self.flush()
        except BaseException:
            self._written = -1
            raise

    def prove_end(self) -> None:
        """Read the index and compare it, and that nothing follows. Raises TargetMismatch."""
        at = self.durable
        for piece in self._end():
            if self._pread(len(piece), at) != piece:
                raise TargetMismatch(f"its index, at byte {at} of the file", at, len(piece))
            at += len(piece)
        if os.fstat(self.fd).st_size != at:
            raise TargetMismatch(f"bytes follow its end, at byte {at} of the file", at, 0)

    def _end(self) -> Iterator[bytes]:
        """What stands behind the last frame, in pieces that are worth a write."""
        self._count_regions()
        sizes = (bytes(region.sizes) for region in self._checkpoint.regions())
        pieces = self.packing.end(sizes, self._layout.blocks, self.size_bytes, self.durable)
        waiting = bytearray()
        for piece in pieces:
            waiting += piece
            if len(waiting) >= _END_PIECE:
                yield bytes(waiting)
                waiting.clear()
        yield bytes(waiting)

    def _failure(self, error: OSError, at: int, length: int, what: str) -> WriteFailed | PoolFull:
        kind = PoolFull if error.errno in _NO_SPACE else WriteFailed
        return kind(self.name, at, length, f"{what}{_cause(error)}")

    # Reading: of what is committed.

    def read(self, buffer: Buffer, offset: int, length: int, at: int = 0) -> None:
        """Fill `length` bytes of the buffer from the disk's `offset`. Raises ReadFailed, TargetMismatch."""
        while length:
            number, within = divmod(offset, BLOCK)
            part = min(length, BLOCK - within)
            self._unpack(buffer, number, within, part, at)
            offset, length, at = offset + part, length - part, at + part

    def _unpack(self, buffer: Buffer, number: int, within: int, length: int, at: int) -> None:
        place, size = self._place(number)
        frame = self._pread(size, place)
        if frame == self.packing.zero_frame:
            buffer.clear(at, at + length)
            return
        try:
            contents = self.packing.unpack(frame, self._layout.target_length(number))
        except ValueError as error:
            where = f"the MiB at byte offset {number * BLOCK} (byte {place} of the file): {error}"
            raise TargetMismatch(where, number * BLOCK, length) from error
        buffer.view[at : at + length] = contents[within : within + length]

    def extents(self, start: int, length: int) -> Iterator[Extent]:
        """What holds zeros only, by having read the frames there; all else is data."""
        end, zero = start + length, self.packing.zero_frame
        at = start
        for first, count in self._alike(start // BLOCK, -(-end // BLOCK), len(zero)):
            place, _ = self._place(first)
            whole = self._pread(count * len(zero), place) == zero * count
            begin, upto = max(start, first * BLOCK), min(end, (first + count) * BLOCK)
            if whole and begin < upto:
                if at < begin:
                    yield Extent(at, begin - at, zero=False)
                yield Extent(begin, upto - begin, zero=True)
                at = upto
        if at < end:
            yield Extent(at, end - at, zero=False)

    def _alike(self, first: int, end: int, size: int) -> Iterator[tuple[int, int]]:
        """Runs of blocks whose frames have that size: (first, count), none across a region."""
        for number in range(first // REGION_BLOCKS, -(-end // REGION_BLOCKS)):
            base = number * REGION_BLOCKS
            low, high = max(first, base), min(end, base + self._layout.blocks_of(number))
            sizes = self._region_sizes(number)
            bits = "".join("01"[sizes[at - base] == size] for at in range(high - 1, low - 1, -1))
            for at, count in runs(int(bits or "0", 2)):
                yield low + at, count

    def _place(self, number: int) -> tuple[int, int]:
        """Where the frame of a block begins, and its size."""
        region, at = divmod(number, REGION_BLOCKS)
        sizes = self._region_sizes(region)
        return self._starts[region] + sum(sizes[:at]), sizes[at]

    def _region_sizes(self, number: int) -> "array[int]":
        with self._lock:
            sizes = self._sizes.get(number)
            if sizes is None:
                region = self._checkpoint.load(number)
                if region is None:
                    raise ValueError(f"region {number} is read before it was copied")
                sizes = unpack_sizes(region.sizes)
                while len(self._sizes) >= _KEPT_REGIONS:
                    del self._sizes[next(iter(self._sizes))]
                self._sizes[number] = sizes
            return sizes

    def _count_regions(self) -> None:
        """Learn where each region begins in the file, from the checkpoint as it is now."""
        with self._lock:
            self._sizes.clear()
            lengths = array("Q", bytes(8 * self._layout.regions))
            for region in self._checkpoint.regions():
                lengths[region.number] = sum(unpack_sizes(region.sizes))
            self._starts = array("Q", [0])
            for length in lengths:
                self._starts.append(self._starts[-1] + length)

    def _pread(self, length: int, at: int) -> bytes:
        """Read from the file itself. Raises TargetMismatch where it ends too early, ReadFailed."""
        data = b""
        while len(data) < length:
            more = self._pread_once(length - len(data), at + len(data))
            if not more:
                raise TargetMismatch(f"its file ends at byte {at + len(data)}", at, length)
            data += more
        return data

    def _pread_once(self, length: int, at: int) -> bytes:
        try:
            with self.gauge.io(self.reading, at):
                return os.pread(self.fd, length, at)
        except OSError as error:
            raise ReadFailed(self.name, at, length, _cause(error), error.errno or 0) from error


def _cause(error: OSError) -> str:
    return error.strerror or str(error)
