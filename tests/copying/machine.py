"""A copy over an in-memory device that loses what was not flushed, crashed wherever it can be.

The rule `crash` is one crash schedule: what is done from a start or restart up to a crash. Its script is
drawn as bytes, which Hypothesis shrinks as well as single rules and draws a hundred times faster. `change`
begins a later pass over a source that changed, also where an earlier pass was interrupted.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from p2vd.copying.digests import DigestKind
from p2vd.copying.layout import BLOCK, Extent, Layout, runs
from p2vd.copying.ledger import Batch, Ledger, Tally, Work, commit_cycle
from p2vd.copying.region import Region
from tests.copying.sectors import MASK, SECTORS, Device, Store, parts

KIND = DigestKind.XXH3
SMALL = {"REGION_BLOCKS": 20, "WORK_BLOCKS": 5, "ZERO_WORK_BLOCKS": 12}
"""So that a short copy has several regions and many works: tests put these in place of the real numbers."""

OLD, GARBAGE = 9, 8
BLOCKS = 50
# What a drawn byte makes of a source's block: a hole, zeros to be read, data all over or in parts.
CONTENTS = (None, None, bytes(4), b"\1\1\1\1", b"\2\2\2\2", b"\1\0\0\2", b"\0\3\3\0", b"\0\0\0\4")

GAPS = (
    "idle",
    *("before write", "after write"),
    *("before intent", "intent lost", "intent kept"),
    *("before flush", "after flush", "commit lost", "commit kept", "after commit"),
)
SCRIPT_STEPS = 16
ROUNDS = 4


class Crash(Exception):
    """The power went."""


class FlushFailed(Exception):
    """The device reported that it lost something."""


@dataclass
class Flight:
    """A work in the hands of a thread: blocks written, and bytes by what became of them."""

    work: Work
    at: int = 0
    data_bytes: int = 0
    same_bytes: int = 0


class CopyMachine(RuleBasedStateMachine):
    """The ledger against every crash. Subclasses break one rule each, and must be found out.

    `crashes` counts, by the gap in which they ended, the schedules in which anything was written.
    """

    intents = True
    swapped = False
    forgets_lost = False
    assumes_zero_when_dirty = False
    trusts_first_sector = False
    believes_old_digests = False
    disturbed_commits = False
    crashes: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.layout = Layout(0, 0)
        self.blocks: list[bytes | None] = []
        self.wanted = b""
        self.holes: frozenset[int] = frozenset()
        self.device = Device(b"")
        self.store = Store()
        self.skips = True
        self.ledger: Ledger
        self.flying: list[Flight] = []
        self.crash_at, self.countdown = "", 0
        self.disturb_at, self.disturbance = "", 0
        self.under_way = False
        self.wrote = False
        self.crashed = 0
        self.committing = False

    @precondition(lambda self: not self.under_way)
    @rule(
        drawn=st.binary(min_size=BLOCKS, max_size=BLOCKS),
        size=st.sampled_from([1, 17, 20, BLOCKS]),
        tail=st.integers(0, 3),
        thin=st.booleans(),
    )
    def begin(self, drawn: bytes, size: int, tail: int, thin: bool) -> None:
        self.layout = Layout(size * BLOCK - 7, (size + tail) * BLOCK)
        self.blocks = [CONTENTS[value % len(CONTENTS)] for value in drawn[:size]] + [None] * tail
        # A thin target reads as zero where nothing was written; a thick one holds old bytes.
        self.skips = thin
        self.device = Device(bytes([0 if thin else OLD]) * len(self.blocks) * SECTORS)
        self.store = Store()
        self.look_at_source()
        self.restart()

    @precondition(lambda self: self.layout.blocks and (not self.under_way or self.crashed > 3))
    @rule(drawn=st.binary(min_size=BLOCKS, max_size=BLOCKS))
    def change(self, drawn: bytes) -> None:
        """A later pass begins; each block of the source has changed by one chance in four."""
        for number, value in enumerate(drawn[: self.layout.source_blocks]):
            if value < 64:
                self.blocks[number] = CONTENTS[value % len(CONTENTS)]
        self.store.begin_pass()
        self.look_at_source()
        self.restart()

    def look_at_source(self) -> None:
        self.holes = frozenset(number for number, value in enumerate(self.blocks) if value is None)
        self.wanted = b"".join(value or bytes(SECTORS) for value in self.blocks)
        self.digests = b"".join(self.digest(number) for number in range(len(self.blocks)))
        self.crashed = 0
        self.committing = False

    @precondition(lambda self: self.under_way)
    @rule(
        script=st.binary(min_size=2 * SCRIPT_STEPS, max_size=2 * SCRIPT_STEPS),
        gap=st.sampled_from(GAPS),
        times=st.integers(1, 24),
        kept=st.binary(min_size=8, max_size=8),
        torn=st.binary(min_size=8, max_size=8),
    )
    def crash(self, script: bytes, gap: str, times: int, kept: bytes, torn: bytes) -> None:
        """Follow the script, over and over, until `gap` was met `times` times, and lose power there."""
        self.crash_at, self.countdown = gap, times if gap.endswith("write") else 1 + times // 9
        self.under_way = False
        with contextlib.suppress(Crash):
            for _ in range(1 if gap == "idle" else ROUNDS):
                for step, value in zip(script[::2], script[1::2], strict=True):
                    STEPS[step % len(STEPS)](self, value)
            self.crash_at = "idle"
        self.crashes[self.crash_at] += self.wrote
        self.crash_at = self.disturb_at = ""
        self.committing = False
        self.crashed += 1
        self.device.lose(int.from_bytes(kept, "little"), int.from_bytes(torn, "little"))
        self.check()
        self.restart()

    def teardown(self) -> None:
        """Without further faults the copy ends."""
        if self.under_way:
            while (work := self.ledger.claim()) is not None:
                self.flying.append(Flight(work))
            while self.flying:
                self.write_on(self.flying.pop(), self.layout.blocks)
            self.cycle()
            self.device.lose(0, 0)
            self.restart()
            assert not self.under_way

    def check(self) -> None:
        """No checkpointed block differs from the source, and the counters say how much that is."""
        committed = 0
        for row in self.store.claims():
            base = row.number * SMALL["REGION_BLOCKS"]
            for first, count in runs(row.done):
                start, end = base + first, base + first + count
                sectors = slice(start * SECTORS, end * SECTORS)
                assert self.device.durable[sectors] == self.wanted[sectors]
                claimed = row.digests[first * KIND.size : (first + count) * KIND.size]
                assert claimed == self.digests[start * KIND.size : end * KIND.size]
                committed += self.layout.source_bytes_in(start, count)
        assert self.store.tally.total_bytes == committed

    def restart(self) -> None:
        self.wrote = False
        rows = list(self.store.load())
        # As Checkpoint sorts them, and Session hands them on.
        stale = {row.number: row for row in rows if row.stale and not row.done}
        self.ledger = Ledger(
            self.layout,
            KIND,
            self.extents,
            complete=[row.number for row in rows if row.complete],
            begun={row.number: row for row in rows if not row.complete and row.number not in stale},
            tally=self.store.tally,
            stale=stale.get if self.store.generation > 1 else None,
        )
        self.flying = []
        self.under_way = not self.ledger.done
        if self.ledger.done:  # which means identical
            assert self.store.tally.total_bytes == self.layout.source_bytes
            assert self.device.durable == self.wanted

    def gap(self, name: str) -> None:
        """A place in which the power may go."""
        if name == self.crash_at:
            self.countdown -= 1
            if self.countdown <= 0:
                raise Crash
        if name == self.disturb_at:
            self.disturb_at = ""
            self.fail_write(self.disturbance)

    # The steps of a script; `value` is any byte.

    def claim(self, value: int) -> None:
        del value
        if len(self.flying) < 8 and (work := self.ledger.claim()) is not None:
            self.flying.append(Flight(work))

    def step(self, value: int) -> None:
        """Write some blocks of a work; finish it when all are written."""
        if not self.flying:
            self.claim(value)
        if self.flying:
            self.write_on(self.flying.pop(value % len(self.flying)), 1 + value // 64)

    def put_down(self, value: int) -> None:
        """A pause, or a commit is due: what is written of a work is finished, the rest goes back."""
        if self.flying:
            self.finish(self.flying.pop(value % len(self.flying)), untouched=value < 192)

    def fail_read(self, value: int) -> None:
        """A read fails: what can be had of the rest is copied last."""
        if self.flying:
            self.finish(self.flying.pop(value % len(self.flying)), untouched=True, suspect=True)

    def fail_write(self, value: int) -> None:
        """A write fails; nobody knows what it left."""
        if not self.flying:
            return
        flight = self.flying.pop(value % len(self.flying))
        work, at = flight.work, flight.at
        writes = at < work.count and (not work.zero or not self.skips or work.dirty)
        # During a commit a thread waits with its intent: then a write that needs none failed.
        if writes and not (self.committing and self.ledger.needs_intent(work)):
            self.intend(work)
            self.write((work.first + at) * SECTORS, bytes([GARBAGE]) * (1 + value % SECTORS))
        if self.forgets_lost:
            self.ledger.finish(work, b"", 0, 0)
        else:
            self.ledger.lost(work)

    def commit(self, value: int) -> None:
        del value
        self.cycle()

    def commit_disturbed(self, value: int) -> None:
        """A commit, while another thread's write fails."""
        if self.disturbed_commits:
            self.disturb_at, self.disturbance = ("after flush", "commit lost")[value % 2], value
        self.cycle()
        self.disturb_at = ""

    def fail_flush(self, value: int) -> None:
        def flush() -> None:
            self.gap("before flush")
            self.device.lose(value * 0x0107_1D33_5BC9_E4F1, MASK)
            raise FlushFailed

        with contextlib.suppress(FlushFailed):
            if self.forgets_lost:
                self.ledger.freeze()
                flush()
            commit_cycle(self.ledger, flush=flush, commit=self.save, guard=contextlib.nullcontext())

    # What steps are made of.

    def write_on(self, flight: Flight, steps: int) -> None:
        """Write that many blocks; finish the work with its last."""
        work = flight.work
        if work.zero and not self.ledger.later_pass:
            self.put(work, work.first, bytes(work.count * SECTORS))
            flight.at = work.count
        while flight.at < work.count and steps:
            block = work.first + flight.at
            contents, length = self.contents(block), self.layout.source_length(block)
            if self.is_same(block):
                flight.same_bytes += length
            else:
                self.put(work, block, contents)
                flight.data_bytes += length if any(contents) else 0
            flight.at, steps = flight.at + 1, steps - 1
        if flight.at < work.count:
            self.flying.append(flight)
        else:
            self.finish(flight)

    def finish(self, flight: Flight, *, untouched: bool = False, suspect: bool = False) -> None:
        first, at = flight.work.first, flight.at
        digests = self.digests[first * KIND.size : (first + at) * KIND.size]
        data, same = flight.data_bytes, flight.same_bytes
        self.ledger.finish(
            flight.work, digests, data, at, same_bytes=same, untouched=untouched, suspect=suspect
        )

    def is_same(self, block: int) -> bool:
        """Whether an earlier pass wrote that already, and it is still there."""
        old = self.ledger.old_digest(block) if self.ledger.later_pass else None
        if old is None or old[0] != self.digest(block):
            return False
        return old[1] or self.believes_old_digests or self.device.read(block) == self.contents(block)

    def put(self, work: Work, block: int, contents: bytes) -> None:
        skip = self.skips and (not work.dirty or self.assumes_zero_when_dirty)
        if self.trusts_first_sector and work.dirty and self.begins_right(block, contents):
            return
        for is_data, at, values in parts(contents):
            if is_data or not skip:
                self.intend(work)
                self.write(block * SECTORS + at, values)

    def begins_right(self, block: int, contents: bytes) -> bool:
        """Of blocks that are all data, thus written at once."""
        return all(contents) and self.device.read(block)[0] == contents[0]

    def write(self, sector: int, contents: bytes) -> None:
        self.gap("before write")
        self.device.write(sector, contents)
        self.wrote = True
        self.gap("after write")

    def intend(self, work: Work) -> None:
        if self.ledger.needs_intent(work):
            self.gap("before intent")
            if self.intents:
                row = self.ledger.intent(work.region)
                self.gap("intent lost")
                self.keep([row], self.store.tally)
                self.gap("intent kept")
            self.ledger.intended(work.region)

    def cycle(self) -> None:
        self.committing = False

        def flush() -> None:
            self.gap("before flush")
            self.device.flush()
            self.gap("after flush")

        def commit(batch: Batch) -> None:
            self.committing = True
            self.gap("commit lost")
            self.save(batch)
            self.gap("commit kept")
            self.committing = False

        if self.swapped:
            if self.ledger.freeze() and (batch := self.ledger.batch()) is not None:
                commit(batch)
                self.ledger.commit(batch)
                flush()
        else:
            commit_cycle(self.ledger, flush=flush, commit=commit, guard=contextlib.nullcontext())
        self.gap("after commit")

    def save(self, batch: Batch) -> None:
        self.keep(batch.rows, batch.tally)

    def keep(self, rows: Iterable[Region], tally: Tally) -> None:
        """Commit to the store, and look at what it claims while all that is volatile may still go."""
        packed = [Region.unpack(r.number, r.blocks, r.kind, r.touched, *r.pack()) for r in rows]
        self.store.commit(packed, tally)
        self.wrote = True
        self.check()

    def extents(self, start: int, length: int) -> Iterator[Extent]:
        """A block that is no hole is read, also if it is zero."""
        for at in range(start, start + length, BLOCK):
            yield Extent(at, min(BLOCK, start + length - at), at // BLOCK in self.holes)

    def contents(self, block: int) -> bytes:
        return self.wanted[block * SECTORS : (block + 1) * SECTORS]

    def digest(self, block: int) -> bytes:
        contents = self.contents(block)
        return contents * (KIND.size // SECTORS) if any(contents) else KIND.zero()


STEPS: tuple[Callable[[CopyMachine, int], None], ...] = (
    *(CopyMachine.claim, CopyMachine.claim, CopyMachine.claim),
    *(CopyMachine.step, CopyMachine.step, CopyMachine.step, CopyMachine.step, CopyMachine.step),
    *(CopyMachine.commit, CopyMachine.commit, CopyMachine.commit),
    *(CopyMachine.put_down, CopyMachine.fail_read, CopyMachine.fail_write, CopyMachine.fail_flush),
    CopyMachine.commit_disturbed,
)
