"""What is to do, under way, done, and durable: the bookkeeping that no crash may fool. Pure.

Blocks go queue -> claimed -> finished -> (flush) -> committed. Nothing is known to be on the target
before the commit that follows a flush which succeeded after it was written; a failed write, zero or
flush puts everything between `claimed` and `committed` back into the queue, because the kernel
reports a failure once and the next flush succeeds with nothing rewritten (design: §4.5).
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from p2vd.copying.digests import DigestKind
from p2vd.copying.layout import (
    BLOCK,
    REGION_BLOCKS,
    WORK_BLOCKS,
    ZERO_WORK_BLOCKS,
    Extent,
    Layout,
    merge_ranges,
    runs,
    split,
)
from p2vd.copying.region import Region


@dataclass(frozen=True)
class Work:
    """Blocks of one region for one thread. `zero`: known to be zero, nothing to read.

    `dirty`: something may have been written there before, so zeros must be made, not assumed.
    """

    first: int
    count: int
    zero: bool = False
    dirty: bool = False
    epoch: int = 0

    @property
    def region(self) -> int:
        """The region it lies in."""
        return self.first // REGION_BLOCKS


@dataclass(frozen=True)
class Finished:
    """Work that was written, not yet durable. `data_bytes` of the source were not zero."""

    work: Work
    digests: bytes
    data_bytes: int
    zero_bytes: int


@dataclass(frozen=True)
class Tally:
    """Bytes of the source by what became of them."""

    data_bytes: int = 0
    zero_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """All of them."""
        return self.data_bytes + self.zero_bytes

    def plus(self, items: Iterable[Finished]) -> "Tally":
        """With those of `items`."""
        data, zero = self.data_bytes, self.zero_bytes
        for item in items:
            data, zero = data + item.data_bytes, zero + item.zero_bytes
        return Tally(data, zero)


class Ledger:
    """The state of one copy. Not thread-safe: the pipeline puts a lock around it."""

    def __init__(
        self,
        layout: Layout,
        kind: DigestKind,
        extents: Callable[[int, int], Iterable[Extent]],
        *,
        complete: Iterable[int] = (),
        begun: Mapping[int, Region] | None = None,
        tally: Tally | None = None,
    ):
        """Start from a checkpoint: `complete` regions, `begun` ones, bytes committed so far."""
        self._layout = layout
        self._kind = kind
        self._extents = extents
        self._complete = set(complete)
        self._regions = {number: region.copy() for number, region in (begun or {}).items()}
        self._dirty = {number for number, region in self._regions.items() if region.touched}
        self._queue: deque[Work] = deque()
        self._fresh = self._plan()
        self._claimed: set[Work] = set()
        self._finished: list[Finished] = []
        self._batch: tuple[Finished, ...] = ()
        self._epoch = 0
        self.committed = tally or Tally()

    @property
    def done(self) -> bool:
        """Whether every block is committed."""
        return len(self._complete) == self._layout.regions

    @property
    def tally(self) -> Tally:
        """Bytes finished, durable or not."""
        return self.committed.plus(self._batch).plus(self._finished)

    @property
    def uncommitted_bytes(self) -> int:
        """Bytes of the target that a crash now would take back."""
        items = (*self._batch, *self._finished)
        return sum(self._layout.target_bytes_in(item.work.first, item.work.count) for item in items)

    def claim(self) -> Work | None:
        """Hand out the next work, lost work first; None: nothing is left to hand out now."""
        work = self._queue.popleft() if self._queue else next(self._fresh, None)
        if work is None:
            return None
        work = replace(work, epoch=self._epoch)
        self._claimed.add(work)
        return work

    def finish(self, work: Work, digests: bytes, data_bytes: int, upto: int | None = None) -> None:
        """Note `work` as written, or its first `upto` blocks; the rest, not begun, is queued again.

        Work that was claimed before something was lost is queued again instead.
        """
        self._claimed.remove(work)
        count = work.count if upto is None else upto
        if work.epoch != self._epoch:
            self._queue.append(replace(work, dirty=True))
            return
        if count < work.count:
            self._queue.append(replace(work, first=work.first + count, count=work.count - count))
        if count:
            part = replace(work, count=count)
            zero_bytes = self._layout.source_bytes_in(part.first, count) - data_bytes
            self._finished.append(Finished(part, digests, data_bytes, zero_bytes))

    def lost(self, work: Work | None = None) -> None:
        """A write, zero (of `work`) or flush failed: all that is not committed is to do again."""
        self._epoch += 1
        if work is not None:
            self._claimed.remove(work)
            self._queue.append(replace(work, dirty=True))
        for item in (*self._batch, *self._finished):
            self._queue.append(replace(item.work, dirty=True))
        self._batch, self._finished = (), []

    def needs_intent(self, work: Work) -> bool:
        """Whether a durable note that the region is touched is missing before `work` may write."""
        return not self._regions[work.region].touched

    def intent(self, number: int) -> Region:
        """The row that says a region is touched; commit it, then call `intended`."""
        row = self._regions[number].copy()
        row.touched = True
        return row

    def intended(self, number: int) -> None:
        """The row of `intent` is durable: writes into the region may begin."""
        self._regions[number].touched = True

    def freeze(self) -> bool:
        """Take what is finished now as the batch that the next flush makes durable; False: nothing."""
        self._batch += tuple(self._finished)
        self._finished = []
        return bool(self._batch)

    @property
    def next_tally(self) -> Tally:
        """Bytes that are durable once the batch is committed."""
        return self.committed.plus(self._batch)

    @property
    def next_window(self) -> tuple[tuple[int, int], ...]:
        """Block ranges of the batch."""
        return tuple(merge_ranges((item.work.first, item.work.count) for item in self._batch))

    def rows(self) -> list[Region]:
        """The regions as they will be with the batch, to be committed after the flush succeeded."""
        changed: dict[int, Region] = {}
        for item in self._batch:
            number = item.work.region
            if number not in changed:
                changed[number] = self._regions[number].copy()
            changed[number].mark(item.work.first % REGION_BLOCKS, item.work.count, item.digests)
        return [changed[number] for number in sorted(changed)]

    def commit(self, rows: Iterable[Region]) -> None:
        """The batch's `rows` are durable. Does nothing if the batch was lost meanwhile."""
        if not self._batch:
            return
        for row in rows:
            if row.complete:
                self._complete.add(row.number)
                del self._regions[row.number]
            else:
                self._regions[row.number] = row
        self.committed = self.committed.plus(self._batch)
        self._batch = ()

    def _plan(self) -> Iterator[Work]:
        for number in range(self._layout.regions):
            if number in self._complete:
                continue
            base = number * REGION_BLOCKS
            blocks = self._layout.blocks_of(number)
            region = self._regions.setdefault(number, Region(number, blocks, self._kind))
            start = min(base * BLOCK, self._layout.source_bytes)
            length = self._layout.source_bytes_in(base, blocks)
            zero = self._layout.zero_blocks(number, self._extents(start, length) if length else ())
            missing = region.missing
            pieces = [
                (base + first, count, is_zero)
                for is_zero, mask, step in (
                    (False, missing & ~zero, WORK_BLOCKS),
                    (True, missing & zero, ZERO_WORK_BLOCKS),
                )
                for run in runs(mask)
                for first, count in split(*run, step)
            ]
            for first, count, is_zero in sorted(pieces):
                yield Work(first, count, is_zero, dirty=number in self._dirty)


def commit_cycle(
    ledger: Ledger,
    *,
    flush: Callable[[], None],
    commit: Callable[[list[Region]], None],
    guard: AbstractContextManager[object],
) -> bool:
    """Make what is finished durable: flush the target, then commit. True if there was anything.

    This order is the heart of the engine: a checkpoint never claims a block that a power cut can
    take back. `guard` keeps rows from changing between being made and being committed (an intent
    is a commit of its own). Whatever `flush` or `commit` raise leaves the whole batch lost.
    """
    if not ledger.freeze():
        return False
    try:
        flush()
        with guard:
            rows = ledger.rows()
            if rows:  # none: a write failed meanwhile, and took the batch with it
                commit(rows)
                ledger.commit(rows)
    except BaseException:
        ledger.lost()
        raise
    return bool(rows)
