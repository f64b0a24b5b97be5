"""What is to do, under way, done, and durable: the bookkeeping that no crash may fool. Pure.

Blocks go queue -> claimed -> finished -> (flush) -> committed. Nothing is known to be on the target
before the commit that follows a flush which succeeded after it was written; a failed write, zero or
flush puts everything between `claimed` and `committed` back into the queue, because the kernel
reports a failure once and the next flush succeeds with nothing rewritten (design: §4.5).

A later pass over a changed source (resync) writes only blocks whose digest is not the one an earlier
pass left. Where something may have been half-written since, that digest says nothing of the target
until the target was read.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

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
    `suspect`: a read failed there; what can be had is read around the bad sectors.
    """

    first: int
    count: int
    zero: bool = False
    dirty: bool = False
    suspect: bool = False
    epoch: int = 0

    @property
    def region(self) -> int:
        """The region it lies in."""
        return self.first // REGION_BLOCKS


@dataclass(frozen=True)
class Finished:
    """Work that was written, not yet durable; `bad`: byte ranges in it that could not be read."""

    work: Work
    digests: bytes
    tally: "Tally"
    bad: tuple[tuple[int, int], ...] = ()
    sizes: bytes = b""


@dataclass(frozen=True)
class Tally:
    """Bytes of the source by what became of them: `same` were on the target already, `bad` unreadable."""

    data_bytes: int = 0
    zero_bytes: int = 0
    same_bytes: int = 0
    bad_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """All of them."""
        return self.data_bytes + self.zero_bytes + self.same_bytes + self.bad_bytes

    def plus(self, items: Iterable[Finished]) -> "Tally":
        """With those of `items`."""
        tallies = [self, *(item.tally for item in items)]
        return Tally(
            sum(each.data_bytes for each in tallies),
            sum(each.zero_bytes for each in tallies),
            sum(each.same_bytes for each in tallies),
            sum(each.bad_bytes for each in tallies),
        )


@dataclass(frozen=True)
class Batch:
    """One commit: the regions as they will be, and what the header will say.

    `window`: block ranges of this commit. `bad`: byte ranges of the source that could not be read, all.
    """

    rows: tuple[Region, ...]
    tally: Tally
    window: tuple[tuple[int, int], ...]
    bad: tuple[tuple[int, int], ...]

    def claims(self) -> dict[str, Any]:
        """What the checkpoint's header will say, by its fields."""
        return {
            "data_bytes": self.tally.data_bytes,
            "zero_bytes": self.tally.zero_bytes,
            "same_bytes": self.tally.same_bytes,
            "window": self.window,
            "bad": self.bad,
        }


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
        bad: Iterable[tuple[int, int]] = (),
        stale: Callable[[int], Region | None] | None = None,
        work_blocks: int = 0,
    ):
        """Start from a checkpoint: `complete` regions, `begun` ones, bytes committed so far, bad ranges.

        `stale`: in a later pass, gives the region as an earlier one left it. `work_blocks`: how many a
        work has at most that is not known to be zero; 0: as many as usual.
        """
        self._layout = layout
        self._kind = kind
        self._extents = extents
        self._complete = set(complete)
        self._regions = {number: region.copy() for number, region in (begun or {}).items()}
        self._stale = stale
        self._work_blocks = work_blocks or WORK_BLOCKS
        self._unsure: set[int] = set()
        self._queue: deque[Work] = deque()
        self._suspects: deque[Work] = deque()
        self._fresh: deque[Work] = deque()
        self._next_region = 0
        self._claimed: set[Work] = set()
        self._finished: list[Finished] = []
        self._batch: tuple[Finished, ...] = ()
        self._sealed: tuple[Finished, ...] = ()
        self._epoch = 0
        self._bad = tuple(bad)
        self.committed = tally or Tally()
        # Asked for after each work of each thread: counted along, never by going through all that is pending.
        self.tally = self.committed
        """Bytes finished, durable or not."""
        self.uncommitted_bytes = 0
        """Bytes of the target that a crash now would take back."""

    @property
    def done(self) -> bool:
        """Whether every block is committed."""
        return len(self._complete) == self._layout.regions

    @property
    def later_pass(self) -> bool:
        """Whether an earlier pass may have left digests."""
        return self._stale is not None

    def unplanned(self) -> int | None:
        """The region whose holes must be known before the next work can be handed out; None: none."""
        if self._queue or self._fresh:
            return None
        while self._next_region in self._complete:
            self._next_region += 1
        return self._next_region if self._next_region < self._layout.regions else None

    def survey(self, number: int) -> int:
        """Ask the source which blocks of a region are holes, as bits: that may take long. Changes nothing."""
        blocks = self._layout.blocks_of(number)
        start = min(number * REGION_BLOCKS * BLOCK, self._layout.source_bytes)
        length = self._layout.source_bytes_in(number * REGION_BLOCKS, blocks)
        return self._layout.zero_blocks(number, self._extents(start, length) if length else ())

    def plan(self, number: int, zero: int) -> None:
        """Have the works of the region that is `unplanned`, whose `survey` is `zero`."""
        if number != self._next_region:
            raise ValueError(f"region {number} is planned, not {self._next_region}")
        self._next_region += 1
        base, blocks = number * REGION_BLOCKS, self._layout.blocks_of(number)
        region = self._regions.get(number) or (self._stale and self._stale(number))
        region = self._regions.setdefault(number, region or Region(number, blocks, self._kind))
        dirty = region.touched or self._stale is not None
        if region.touched:
            self._unsure.add(number)
        missing = region.missing
        pieces = [
            (base + first, count, is_zero)
            for is_zero, mask, step in (
                (False, missing & ~zero, self._work_blocks),
                (True, missing & zero, ZERO_WORK_BLOCKS),
            )
            for run in runs(mask)
            for first, count in split(*run, step)
        ]
        self._fresh += (Work(first, count, is_zero, dirty=dirty) for first, count, is_zero in sorted(pieces))

    def claim(self) -> Work | None:
        """Hand out the next work, lost work first, suspect work last; None: nothing is left now."""
        while (number := self.unplanned()) is not None:
            self.plan(number, self.survey(number))
        queue = self._queue or self._fresh or self._suspects
        if not queue:
            return None
        work = queue.popleft()
        work = replace(work, epoch=self._epoch)
        self._claimed.add(work)
        return work

    def finish(
        self,
        work: Work,
        digests: bytes,
        data_bytes: int,
        upto: int | None = None,
        *,
        same_bytes: int = 0,
        bad: Iterable[tuple[int, int]] = (),
        untouched: bool = False,
        suspect: bool = False,
        sizes: bytes = b"",
    ) -> None:
        """Note `work` as written, or its first `upto` blocks; the rest is queued again.

        `untouched`: of the rest nothing was begun; `suspect`: because its first block could not be read.
        Work that was claimed before something was lost is queued again instead.
        """
        self._claimed.remove(work)
        count = work.count if upto is None else upto
        if work.epoch != self._epoch:
            self._again(work)
            return
        if count < work.count:
            rest = replace(work, first=work.first + count, count=work.count - count)
            rest = replace(rest, suspect=suspect or work.suspect)
            if untouched:
                (self._suspects if rest.suspect else self._queue).appendleft(rest)
            else:
                self._again(rest)
        if count:
            part, bad = replace(work, count=count), tuple(bad)
            end = (part.first + count) * BLOCK
            bad = tuple((start, length) for start, length in bad if start < end)
            bad_bytes = sum(length for _, length in bad)
            zero_bytes = self._layout.source_bytes_in(part.first, count) - data_bytes - same_bytes - bad_bytes
            tally = Tally(data_bytes, zero_bytes, same_bytes, bad_bytes)
            self._finished.append(Finished(part, digests, tally, bad, sizes))
            self.tally = self.tally.plus((self._finished[-1],))
            self.uncommitted_bytes += self._layout.target_bytes_in(part.first, count)

    def _recount(self) -> None:
        """Count anew, after pending items were lost or became durable."""
        pending = (*self._sealed, *self._batch, *self._finished)
        self.tally = self.committed.plus(pending)
        self.uncommitted_bytes = sum(
            self._layout.target_bytes_in(item.work.first, item.work.count) for item in pending
        )

    def _again(self, work: Work) -> None:
        """Queue work again. A block of it may be half-written: no zeros and no old digest are assumed."""
        self._unsure.add(work.region)
        (self._suspects if work.suspect else self._queue).append(replace(work, dirty=True))

    def lost(self, work: Work | None = None) -> None:
        """A write, zero (of `work`), flush or commit (None) failed: all that is not durable is to do again.

        A batch that was flushed is durable, and about to be claimed: a failed write takes nothing from it.
        """
        self._epoch += 1
        if work is not None:
            self._claimed.remove(work)
            self._again(work)
        else:
            self._batch, self._sealed = (*self._sealed, *self._batch), ()
        for item in (*self._batch, *self._finished):
            self._again(item.work)
        self._batch, self._finished = (), []
        self._recount()

    def sort(self) -> None:
        """Hand out what is queued in the order of the disk: for targets that are written in that order.

        Nothing may be claimed at this moment.
        """
        if self._claimed:
            raise ValueError(f"{len(self._claimed)} works are under way")
        self._queue = deque(sorted(self._queue, key=lambda work: work.first))

    def old_digest(self, block: int) -> tuple[bytes, bool] | None:
        """The digest an earlier pass left of a block that is not done; and whether the target has it still.

        If that is not sure, it counts only once the target was read and has that digest.
        """
        number = block // REGION_BLOCKS
        old = self._regions[number].old_digest(block % REGION_BLOCKS)
        return None if old is None else (old, number not in self._unsure)

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

    def batch(self) -> Batch | None:
        """What is to be committed now that the flush succeeded; None: the batch was lost meanwhile."""
        if not self._batch:
            return None
        self._sealed, self._batch = self._batch, ()
        changed: dict[int, Region] = {}
        for item in self._sealed:
            number = item.work.region
            if number not in changed:
                changed[number] = self._regions[number].copy()
            changed[number].mark(item.work.first % REGION_BLOCKS, item.work.count, item.digests, item.sizes)
        return Batch(
            tuple(changed[number] for number in sorted(changed)),
            self.committed.plus(self._sealed),
            tuple(merge_ranges((item.work.first, item.work.count) for item in self._sealed)),
            tuple(merge_ranges([*self._bad, *(each for item in self._sealed for each in item.bad)])),
        )

    def commit(self, batch: Batch) -> None:
        """The batch is committed."""
        for row in batch.rows:
            if row.complete:
                self._complete.add(row.number)
                del self._regions[row.number]
            else:
                self._regions[row.number] = row
        self.committed, self._bad = batch.tally, batch.bad
        self._sealed = ()
        self._recount()


def commit_cycle(
    ledger: Ledger,
    *,
    flush: Callable[[], None],
    commit: Callable[[Batch], None],
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
            batch = ledger.batch()
            if batch is not None:  # None: a write failed meanwhile, and took the batch with it
                commit(batch)
                ledger.commit(batch)
    except BaseException:
        ledger.lost()
        raise
    return batch is not None
