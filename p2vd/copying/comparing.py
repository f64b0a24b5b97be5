"""Reading again: the target, the source, or both, against the digests of the checkpoint."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from p2vd.copying.checkpoint import Checkpoint
from p2vd.copying.controls import Controls, Interrupted
from p2vd.copying.devices import Buffer, Source, padded
from p2vd.copying.digests import zero_digests
from p2vd.copying.errors import ReadFailed, SourceChanged, TargetMismatch
from p2vd.copying.layout import BLOCK, REGION_BLOCKS, WORK_BLOCKS, Layout, bits, merge_ranges, runs, split
from p2vd.copying.region import Region
from p2vd.copying.rescue import RescuedSource
from p2vd.model.size import format_size

log = logging.getLogger(__name__)

_KEPT_REGIONS = 4


@dataclass(frozen=True)
class Piece:
    """Blocks of one region to compare. `known`: holes, zero by the filesystem's word, nothing to read."""

    first: int
    count: int
    known: bool = False


class _Queue:
    """Pieces, for many threads, each surveyed for holes by one of them: the others compare meanwhile."""

    def __init__(self, pieces: Iterable[Piece], survey: Callable[[Piece], Iterable[Piece]]):
        """`survey`: makes of a piece those to compare; it may have to wait for a device."""
        self._left = iter(pieces)
        self._survey = survey
        self._ready: deque[Piece] = deque()
        self._surveying = 0
        self._changed = threading.Condition()

    def take(self) -> Piece | None:
        """The next piece to compare; None: all are taken. Waits where only the surveys of others are left."""
        while True:
            with self._changed:
                if self._ready:
                    return self._ready.popleft()
                piece = next(self._left, None)
                if piece is None:
                    if not self._surveying:
                        return None
                    self._changed.wait()
                    continue
                self._surveying += 1
            found: list[Piece] = []
            try:
                found += self._survey(piece)
            finally:
                with self._changed:
                    self._ready += found
                    self._surveying -= 1
                    self._changed.notify_all()


@dataclass
class Comparer:
    """Compares blocks by several threads. `source`, `target`: which of them to read, None: not.

    `tolerant`: a block that the source no longer gives is passed over.
    """

    checkpoint: Checkpoint
    controls: Controls
    source: RescuedSource | None
    target: Source | None
    threads: int = 8
    tolerant: bool = False
    done_bytes: int = 0
    _source_bad: list[tuple[int, int]] = field(default_factory=list)
    _target_bad: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._layout: Layout = self.checkpoint.layout
        self._kind = self.checkpoint.kind
        self._lock = threading.Lock()
        self._regions: dict[int, Region] = {}

    def run(self, pieces: Iterable[Piece]) -> None:
        """Compare all `pieces`. Raises TargetMismatch or SourceChanged after all was read, Interrupted."""
        remaining = _Queue(pieces, self._without_holes)
        threads = [
            threading.Thread(target=self._work, args=(remaining,), name=f"compare-{number}")
            for number in range(self.threads)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.controls.failure is not None:
            raise self.controls.failure
        if self._target_bad:
            raise TargetMismatch(*_describe(self._target_bad))
        if self._source_bad:
            raise SourceChanged(*_describe(self._source_bad))
        if self.controls.ended.is_set():
            raise Interrupted

    def whole(self) -> Iterator[Piece]:
        """All blocks of the target."""
        for number in range(self._layout.regions):
            yield Piece(number * REGION_BLOCKS, self._layout.blocks_of(number))

    def _without_holes(self, piece: Piece) -> Iterator[Piece]:
        """A piece, what are holes of it as known zeros, the rest as a thread takes it at a time."""
        holes = self._holes(piece)
        for first, count in runs(bits(0, piece.count) & ~holes):
            yield from (Piece(piece.first + at, n) for at, n in split(first, count, WORK_BLOCKS))
        for first, count in runs(holes):
            yield Piece(piece.first + first, count, known=True)

    def _holes(self, piece: Piece) -> int:
        """The bits of a piece's blocks that are holes in every file that is to be compared."""
        number, at = divmod(piece.first, REGION_BLOCKS)
        mask = bits(at, piece.count)
        for device in (self.source, self.target):
            if device is not None:
                layout = Layout(device.size_bytes, max(device.size_bytes, self._layout.target_bytes))
                length = layout.source_bytes_in(piece.first, piece.count)
                extents = device.extents(piece.first * BLOCK, length) if length else ()
                mask &= layout.zero_blocks(number, extents)
        return mask >> at

    def _work(self, pieces: _Queue) -> None:
        buffer, other = Buffer(), Buffer()
        try:
            while self.controls.gate() and (piece := pieces.take()) is not None:
                if not self._known(piece):
                    for block in range(piece.first, piece.first + piece.count):
                        if not self.controls.gate():
                            return
                        self._compare(block, buffer, other)
                with self._lock:
                    self.done_bytes += self._layout.source_bytes_in(piece.first, piece.count)
        except Interrupted:
            return
        except BaseException as error:  # whatever it is, the comparison ends with it
            self.controls.fail(error)

    def _known(self, piece: Piece) -> bool:
        """Whether nothing needs to be read: holes, where the digests say zeros."""
        if not piece.known:
            return False
        size, first = self._kind.size, piece.first % REGION_BLOCKS
        stored = self._region(piece.first // REGION_BLOCKS).digests
        zeros = zero_digests(self._kind, self._layout, piece.first, piece.count)
        return stored[first * size : (first + piece.count) * size] == zeros

    def _compare(self, block: int, buffer: Buffer, other: Buffer) -> None:
        length, of_source = self._layout.target_length(block), self._layout.source_length(block)
        if not self._kind.size:
            self._compare_directly(block, buffer, other)
            return
        expected = self._region(block // REGION_BLOCKS).digest(block % REGION_BLOCKS)
        zero = expected == self._kind.zero(of_source)
        if self.target is not None:
            self.target.read(buffer, block * BLOCK, length)
            if not self._fits(buffer, expected, zero, of_source, length):
                self._note(self._target_bad, block, length)
        if self.source is not None and of_source:
            self.controls.pace(of_source)
            try:
                self.source.read(buffer, block * BLOCK, of_source)
            except ReadFailed as error:
                if not (self.tolerant and self.source.rescuable(error)):
                    raise
                log.warning("%s It was read once, and is not read again.", error)
                return
            if not self._fits(buffer, expected, zero, of_source, of_source):
                self._note(self._source_bad, block, of_source)

    def _fits(self, buffer: Buffer, expected: bytes, zero: bool, of_source: int, length: int) -> bool:
        if zero:
            return buffer.is_zero(0, length)
        if not buffer.is_zero(of_source, length - of_source):
            return False
        return self._kind.of(buffer.view[:of_source]) == expected

    def _compare_directly(self, block: int, buffer: Buffer, other: Buffer) -> None:
        """Without digests only a comparison of source and target says anything."""
        if self.source is None or self.target is None:
            return
        length = self._layout.target_length(block)
        self.controls.pace(self._layout.source_length(block))
        padded(other, self.source, self._layout, block)
        self.target.read(buffer, block * BLOCK, length)
        if not buffer.same(other, length):
            self._note(self._target_bad, block, length)

    def _region(self, number: int) -> Region:
        with self._lock:
            region = self._regions.get(number)
            if region is None:
                region = self.checkpoint.load(number)
                if region is None:
                    raise ValueError(f"region {number} is compared before it was copied")
                while len(self._regions) >= _KEPT_REGIONS:
                    del self._regions[next(iter(self._regions))]
                self._regions[number] = region
            return region

    def _note(self, ranges: list[tuple[int, int]], block: int, length: int) -> None:
        with self._lock:
            ranges.append((block * BLOCK, length))
            if len(ranges) > 1000:
                ranges[:] = merge_ranges(ranges)


def _describe(ranges: list[tuple[int, int]]) -> tuple[str, int, int]:
    """A sentence's part, the first offset and the bytes in all."""
    merged = merge_ranges(ranges)
    total = sum(length for _, length in merged)
    shown = ", ".join(f"{start}+{length}" for start, length in merged[:5])
    more = f" and {len(merged) - 5} more" if len(merged) > 5 else ""
    return f"{format_size(total)} at byte offset+length {shown}{more}", merged[0][0], total
