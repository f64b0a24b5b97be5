"""A copy over an in-memory device that loses what was not flushed, crashed wherever it can be.

The device keeps durable and volatile contents apart, a number a block, 0 for zeros. A failed flush
drops volatile writes and the next one succeeds, as Linux does. A crash drops any of the volatile ones.
"""

import contextlib
from collections.abc import Iterable, Iterator

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from p2vd.copying.digests import DigestKind
from p2vd.copying.layout import BLOCK, Extent, Layout
from p2vd.copying.ledger import Batch, Ledger, Tally, Work, commit_cycle
from p2vd.copying.region import Region

KIND = DigestKind.XXH3
REGION_BLOCKS = 20
"""Small regions, so that a short copy has several: tests put this in place of the real number."""

GAPS = ("before flush", "after flush", "commit lost", "commit kept", "after commit")


class Crash(Exception):
    """The power went."""


class FlushFailed(Exception):
    """The device reported that it lost something."""


class Device:
    """Blocks, durable and volatile."""

    def __init__(self, contents: dict[int, int]):
        self.durable = dict(contents)
        self.volatile: list[tuple[int, int]] = []

    def write(self, block: int, value: int) -> None:
        self.volatile.append((block, value))

    def flush(self) -> None:
        self.durable.update(self.volatile)
        self.volatile = []

    def keep(self, chosen: list[bool]) -> None:
        """Lose the volatile writes except those chosen."""
        kept = [write for write, keep in zip(self.volatile, chosen, strict=False) if keep]
        self.durable.update(kept)
        self.volatile = []


class Store:
    """What of a checkpoint is durable."""

    def __init__(self) -> None:
        self.rows: dict[int, Region] = {}
        self.tally = Tally()

    def commit(self, rows: list[Region], tally: Tally) -> None:
        self.rows.update({row.number: row.copy() for row in rows})
        self.tally = tally


class CopyMachine(RuleBasedStateMachine):
    """The ledger against every crash. Subclasses break one rule each, and must be found out."""

    intents = True
    swapped = False
    forgets_lost = False
    assumes_zero_when_dirty = False

    def __init__(self) -> None:
        super().__init__()
        self.layout = Layout(0, 0)
        self.source: dict[int, int] = {}
        self.device = Device({})
        self.store = Store()
        self.skips = True
        self.ledger: Ledger
        self.flying: list[tuple[Work, int]] = []

    @initialize(
        data=st.dictionaries(st.integers(0, 49), st.integers(0, 3), max_size=20),
        size=st.sampled_from([1, 17, 20, 50]),
        tail=st.integers(0, 3),
        thin=st.booleans(),
    )
    def begin(self, data: dict[int, int], size: int, tail: int, thin: bool) -> None:
        self.layout = Layout(size * BLOCK - 7, (size + tail) * BLOCK)
        self.source = {block: value for block, value in data.items() if block < size}
        # A thin target reads as zero where nothing was written; a thick one holds old bytes.
        self.skips = thin
        self.device = Device({} if thin else dict.fromkeys(range(size + tail), 9))
        self.restart()

    def restart(self) -> None:
        rows = [row.copy() for row in self.store.rows.values()]
        self.ledger = Ledger(
            self.layout,
            KIND,
            self.extents,
            complete=[row.number for row in rows if row.complete],
            begun={row.number: row for row in rows if not row.complete},
            tally=self.store.tally,
        )
        self.flying = []

    def extents(self, start: int, length: int) -> Iterator[Extent]:
        """Blocks that were never drawn are holes; a drawn zero is read."""
        for at in range(start, start + length, BLOCK):
            yield Extent(at, min(BLOCK, start + length - at), at // BLOCK not in self.source)

    def wanted(self, block: int) -> int:
        return self.source.get(block, 0)

    @rule()
    def claim(self) -> None:
        if (work := self.ledger.claim()) is not None:
            self.flying.append((work, 0))

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), steps=st.integers(1, 16))
    def step(self, data: st.DataObject, steps: int) -> None:
        """Write some blocks of a work; finish it when all are written."""
        index = data.draw(st.integers(0, len(self.flying) - 1))
        work, at = self.flying.pop(index)
        steps = work.count if work.zero else steps
        for block in range(work.first + at, min(work.first + at + steps, work.first + work.count)):
            self.put(work, block)
        at = min(work.count, at + steps)
        if at < work.count:
            self.flying.append((work, at))
        else:
            self.ledger.finish(work, self.digests(work, at), self.data(work, at))

    @precondition(lambda self: self.flying)
    @rule(index=st.integers(0, 5))
    def put_down(self, index: int) -> None:
        """A pause: what is written of a work is finished, the rest goes back."""
        work, at = self.flying.pop(index % len(self.flying))
        self.ledger.finish(work, self.digests(work, at), self.data(work, at), at)

    @precondition(lambda self: self.flying)
    @rule(index=st.integers(0, 5))
    def fail_write(self, index: int) -> None:
        """A write fails; nobody knows what it left."""
        work, at = self.flying.pop(index % len(self.flying))
        if at < work.count and (not work.zero or not self.skips or work.dirty):
            self.intend(work)
            self.device.write(work.first + at, 8)
        self.lose(work)

    @rule()
    def commit(self) -> None:
        self.cycle(None)

    @rule(kept=st.lists(st.booleans(), max_size=40))
    def fail_flush(self, kept: list[bool]) -> None:
        def flush() -> None:
            self.device.keep(kept)
            raise FlushFailed

        with contextlib.suppress(FlushFailed):
            if self.forgets_lost:
                self.ledger.freeze()
                flush()
            commit_cycle(self.ledger, flush=flush, commit=self.save, guard=contextlib.nullcontext())

    @rule(gap=st.sampled_from(GAPS), kept=st.lists(st.booleans(), max_size=40))
    def crash(self, gap: str, kept: list[bool]) -> None:
        with contextlib.suppress(Crash):
            self.cycle(gap)
        self.device.keep(kept)
        self.restart()

    def cycle(self, gap: str | None) -> None:
        def at(place: str) -> None:
            if gap == place:
                raise Crash

        def flush() -> None:
            at("before flush")
            self.device.flush()
            at("after flush")

        def commit(batch: Batch) -> None:
            at("commit lost")
            self.save(batch)
            at("commit kept")

        if self.swapped:
            if self.ledger.freeze():
                batch = self.ledger.batch()
                assert batch is not None
                commit(batch)
                self.ledger.commit(batch)
                flush()
        else:
            commit_cycle(self.ledger, flush=flush, commit=commit, guard=contextlib.nullcontext())
        at("after commit")

    def put(self, work: Work, block: int) -> None:
        value = self.wanted(block)
        dirty = work.dirty and not self.assumes_zero_when_dirty
        if value or not self.skips or dirty:
            self.intend(work)
            self.device.write(block, value)

    def intend(self, work: Work) -> None:
        if self.ledger.needs_intent(work):
            if self.intents:
                self.keep([self.ledger.intent(work.region)], self.store.tally)
            self.ledger.intended(work.region)

    def save(self, batch: Batch) -> None:
        self.keep(batch.rows, batch.tally)

    def keep(self, rows: Iterable[Region], tally: Tally) -> None:
        packed = [Region.unpack(r.number, r.blocks, r.kind, r.touched, *r.pack()) for r in rows]
        self.store.commit(packed, tally)

    def lose(self, work: Work) -> None:
        if self.forgets_lost:
            self.ledger.finish(work, b"", 0, 0)
        else:
            self.ledger.lost(work)

    def digests(self, work: Work, count: int) -> bytes:
        return b"".join(self.digest(block) for block in range(work.first, work.first + count))

    def digest(self, block: int) -> bytes:
        value = self.wanted(block)
        return bytes([value] * KIND.size) if value else KIND.zero()

    def data(self, work: Work, count: int) -> int:
        blocks = range(work.first, work.first + count)
        return sum(self.layout.source_length(block) for block in blocks if self.wanted(block))

    @invariant()
    def what_is_committed_is_there(self) -> None:
        """A power cut now, losing all that may be lost, contradicts no checkpoint."""
        for row in self.store.rows.values():
            for block in range(row.blocks):
                if row.done >> block & 1:
                    number = row.number * REGION_BLOCKS + block
                    assert self.device.durable.get(number, 0) == self.wanted(number)
                    assert row.digest(block) == self.digest(number)

    @invariant()
    def counters_add_up(self) -> None:
        committed = sum(
            self.layout.source_length(row.number * REGION_BLOCKS + block)
            for row in self.store.rows.values()
            for block in range(row.blocks)
            if row.done >> block & 1
        )
        assert self.store.tally.total_bytes == committed

    def teardown(self) -> None:
        """Without further faults the copy ends, identical."""
        if not self.layout.blocks:
            return
        for _ in range(3):
            while self.flying:
                work, at = self.flying.pop()
                for block in range(work.first + at, work.first + work.count):
                    self.put(work, block)
                self.ledger.finish(work, self.digests(work, work.count), self.data(work, work.count))
            self.cycle(None)
            while (work_or_none := self.ledger.claim()) is not None:
                self.flying.append((work_or_none, 0))
        assert self.ledger.done
        assert self.store.tally.total_bytes == self.layout.source_bytes
        for block in range(self.layout.blocks):
            assert self.device.durable.get(block, 0) == self.wanted(block)
