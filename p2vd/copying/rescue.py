"""A source that cannot be read everywhere: tried again, narrowed down to the sector, zeros in its place.

As GNU ddrescue does, the good areas are copied first; what lies around a failed read comes last and is
halved until the sectors that cannot be read stand alone.
"""

import errno
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from p2vd.copying.controls import Controls
from p2vd.copying.devices import Buffer, Source
from p2vd.copying.errors import ReadFailed, TooManyBadSectors
from p2vd.copying.layout import BLOCK, Extent, gaps, merge_ranges

log = logging.getLogger(__name__)

# What the kernel answers where a sector is at fault (block/blk-core.c, blk_errors: BLK_STS_MEDIUM,
# _PROTECTION, _TARGET, and _IOERR for all that it cannot tell). A device that is gone or timed out
# answers otherwise, and is no disk with bad sectors.
_MEDIUM = {errno.EIO, errno.ENODATA, errno.EILSEQ, errno.EREMOTEIO}
_ATTEMPTS = 3
_FIRST_WAIT_S = 0.25
_PROBES = 16

Range = tuple[int, int]
"""Byte offset and length."""


@dataclass
class RescuedSource:
    """A source of which `limit` sectors may be unreadable; 0: none. For many threads.

    A sector is what the device reads at least: its logical sector, 4 KiB of a file.

    `known`: byte ranges that an earlier run found unreadable; they are not read again.
    """

    device: Source
    controls: Controls
    limit: int = 0
    known: Iterable[Range] = ()

    def __post_init__(self) -> None:
        self._bad = merge_ranges(self.known)
        self._bad_sectors = self._sectors(self._bad)
        self._lock = threading.Lock()
        self._latest_good = -1

    @property
    def size_bytes(self) -> int:
        """The size of the device."""
        return self.device.size_bytes

    def extents(self, start: int, length: int) -> Iterator[Extent]:
        """Data and holes, as the device knows them."""
        return self.device.extents(start, length)

    def read(self, buffer: Buffer, offset: int, length: int, at: int = 0) -> None:
        """Read as a device, with zeros for sectors that are known to be bad.

        Where none may be bad, a failed read is tried again after a while. Raises ReadFailed, Interrupted.
        """
        bad = [(start - offset, count) for start, count in self.bad_in(offset, length)]
        for start, count in gaps(bad, length) if bad else ((0, length),):
            self._read(buffer, offset + start, count, at + start)
        for start, count in bad:
            buffer.clear(at + start, at + start + count)
        self._latest_good = offset

    def bad_in(self, offset: int, length: int) -> list[Range]:
        """What is known to be bad of a range."""
        if not self._bad:
            return []
        with self._lock:
            found = [(max(start, offset), min(start + count, offset + length)) for start, count in self._bad]
        return [(start, end - start) for start, end in found if start < end]

    def rescuable(self, error: ReadFailed) -> bool:
        """Whether to copy around a failed read, and to come back for what can be had there."""
        return bool(self.limit) and error.errno in _MEDIUM

    def rescue(self, buffer: Buffer, offset: int, length: int) -> list[Range]:
        """Fill the buffer with what can be read; return what cannot, now known to be bad.

        Raises TooManyBadSectors; ReadFailed where the whole device does not answer; Interrupted.
        """
        try:
            self.read(buffer, offset, length)
        except ReadFailed as error:
            if not self.rescuable(error):
                raise
        else:
            return self.bad_in(offset, length)
        bad = self._narrow(buffer, offset, [(offset, length)])
        for attempt in range(_ATTEMPTS - 1):
            if bad:
                self.controls.wait(_FIRST_WAIT_S * 2**attempt)
                # A path that was lost meanwhile looks like bad sectors, all over the device.
                self._require_answer(bad[0])
                bad = self._narrow(buffer, offset, bad)
        self._note(bad)
        return self.bad_in(offset, length)

    def _narrow(self, buffer: Buffer, base: int, ranges: Iterable[Range]) -> list[Range]:
        """Halve what fails until single sectors are left; these are zero in the buffer."""
        bad: list[Range] = []
        todo = list(ranges)[::-1]
        while todo:
            self.controls.wait(0)
            start, length = todo.pop()
            try:
                self.device.read(buffer, start, length, start - base)
            except ReadFailed as error:
                if not self.rescuable(error):
                    raise
                if length > self.device.align:
                    half = max(1, length // self.device.align // 2) * self.device.align
                    todo += [(start + half, length - half), (start, half)]
                else:
                    buffer.clear(start - base, start - base + length)
                    bad.append((start, length))
                    if self._bad_sectors + len(bad) > self.limit:
                        raise TooManyBadSectors(self.device.name, self.limit, start) from error
        return merge_ranges(bad)

    def _require_answer(self, failed: Range) -> None:
        """Raise ReadFailed where no place of the device that can be expected to be good is readable."""
        places = [self._latest_good] if self._latest_good >= 0 else []
        places += range(0, self.size_bytes, max(BLOCK, self.size_bytes // _PROBES // BLOCK * BLOCK))
        scratch = Buffer()
        for place in places:
            try:
                self.device.read(scratch, place, min(self.device.align, self.size_bytes - place))
            except ReadFailed:
                continue
            return
        cause = "and so does every other place: the disk or its paths are gone"
        raise ReadFailed(self.device.name, *failed, cause, errno.EIO)

    def _note(self, bad: list[Range]) -> None:
        if not bad:
            return
        with self._lock:
            self._bad = merge_ranges([*self._bad, *bad])
            self._bad_sectors = self._sectors(self._bad)
        for start, length in bad:
            log.warning(
                "%s: %d bytes at offset %d cannot be read; zeros take their place",
                self.device.name,
                length,
                start,
            )

    def _sectors(self, ranges: Iterable[Range]) -> int:
        return sum(-(-length // self.device.align) for _, length in ranges)

    def _read(self, buffer: Buffer, offset: int, length: int, at: int) -> None:
        try:
            self.device.read(buffer, offset, length, at)
        except ReadFailed as error:
            if self.limit or error.errno not in _MEDIUM:
                raise
            log.warning("%s It is tried again.", error)
            self._read_again(lambda: self.device.read(buffer, offset, length, at))

    def _read_again(self, read: Callable[[], None]) -> None:
        # Imported here: few copies need it, and each would wait for its import.
        import tenacity

        self.controls.wait(_FIRST_WAIT_S)
        tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(ReadFailed),
            stop=tenacity.stop_after_attempt(_ATTEMPTS - 1),
            wait=tenacity.wait_exponential(_FIRST_WAIT_S * 2),
            sleep=self.controls.wait,
            reraise=True,
        )(read)
