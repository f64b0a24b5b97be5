"""What the ledger says of bytes finished and not yet durable, counted along, is what there is."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from hypothesis import given
from hypothesis import strategies as st

from p2vd.copying.digests import DigestKind
from p2vd.copying.layout import BLOCK, REGION_BLOCKS, Extent, Layout, merge_ranges
from p2vd.copying.ledger import Batch, Ledger, Tally, Work, commit_cycle
from p2vd.copying.ordered_pipeline import Line, Packed
from p2vd.copying.shared import SharedLedger
from p2vd.model.size import GIB, MIB

LONG_S = 60.0
T = TypeVar("T")
LAYOUT = Layout(300 * BLOCK - 700, 310 * BLOCK)
STEPS = ("claim", "claim", "finish", "finish", "part", "lost", "commit", "fail flush", "disturbed")


def every_second_half_a_hole(start: int, length: int) -> Iterator[Extent]:
    """16 blocks of data, 16 of a hole."""
    for at in range(start, start + length, 16 * BLOCK):
        yield Extent(at, min(16 * BLOCK, start + length - at), zero=at // BLOCK % 32 >= 16)


class Counted:
    """A ledger, and what it should say by adding up from scratch what this test knows to be pending."""

    def __init__(self) -> None:
        self.ledger = Ledger(LAYOUT, DigestKind.NONE, every_second_half_a_hole)
        self.claimed: list[tuple[Work, bool]] = []
        self.pending: list[tuple[int, int]] = []
        self.committed: list[tuple[int, int]] = []

    def claim(self) -> None:
        if (work := self.ledger.claim()) is not None:
            self.claimed.append((work, False))

    def finish(self, count: int | None = None) -> None:
        if not self.claimed:
            return
        work, outdated = self.claimed.pop(0)
        count = work.count if count is None else min(count, work.count)
        length = LAYOUT.source_bytes_in(work.first, count)
        self.ledger.finish(work, b"", 0 if work.zero else length, count)
        if count and not outdated:
            self.pending.append((work.first, count))

    def forget(self, kept: list[tuple[int, int]]) -> None:
        """All that is pending is lost but for `kept`, and so is what is being written."""
        self.pending = kept
        self.claimed = [(work, True) for work, _ in self.claimed]

    def lost(self, sealed: list[tuple[int, int]]) -> None:
        if self.claimed:
            work, _ = self.claimed.pop()
            self.ledger.lost(work)
            self.forget(list(sealed))

    def commit(self, flush: Callable[[], None], disturb: Callable[[], None]) -> None:
        batched = list(self.pending)

        def commit(batch: Batch) -> None:
            disturb()
            self.committed += batched
            assert batch.tally == self.sum(self.committed)

        with contextlib.suppress(OSError):
            if commit_cycle(self.ledger, flush=flush, commit=commit, guard=contextlib.nullcontext()):
                self.pending = [each for each in self.pending if each not in batched]

    def fail_flush(self) -> None:
        pending = bool(self.pending)

        def flush() -> None:
            raise OSError

        self.commit(flush, lambda: None)
        if pending:
            self.forget([])

    def step(self, name: str) -> None:
        match name:
            case "claim":
                self.claim()
            case "finish":
                self.finish()
            case "part":
                self.finish(3)
            case "lost":
                self.lost([])
            case "commit":
                self.commit(lambda: None, lambda: None)
            case "fail flush":
                self.fail_flush()
            case "disturbed":
                self.commit(lambda: None, lambda: self.lost(self.pending))
        assert self.ledger.tally == self.sum([*self.committed, *self.pending])
        assert self.ledger.uncommitted_bytes == sum(LAYOUT.target_bytes_in(*each) for each in self.pending)

    @staticmethod
    def sum(pieces: list[tuple[int, int]]) -> Tally:
        of_source = [(first // 16 % 2, LAYOUT.source_bytes_in(first, count)) for first, count in pieces]
        data = sum(length for hole, length in of_source if not hole)
        return Tally(data, sum(length for hole, length in of_source if hole))


@given(st.lists(st.sampled_from(STEPS), max_size=60))
def test_what_is_pending_is_counted_along(steps: list[str]) -> None:
    counted = Counted()
    for name in steps:
        counted.step(name)


def meanwhile(ask: Callable[[], T]) -> T:
    """What another thread gets that asks now. Fails where it would wait for this one."""
    answers: list[T] = []
    thread = threading.Thread(target=lambda: answers.append(ask()), daemon=True)
    thread.start()
    thread.join(LONG_S)
    assert answers, "it waits for whoever asks the source"
    return answers[0]


def test_a_source_that_thinks_about_its_holes_keeps_nobody_from_the_books() -> None:
    """An NBD server may take minutes for it: that is told as a stall, and progress is told."""
    seen: list[tuple[Tally, Work | None]] = []

    def extents(start: int, length: int) -> Iterator[Extent]:
        if start:  # the second region
            books.finish(works[0], b"", 0, 0, untouched=True)
            seen.append((meanwhile(books.now)[1], meanwhile(books.claim)))
        yield Extent(start, length, zero=False)

    size = 2 * REGION_BLOCKS * BLOCK
    books = SharedLedger(Layout(size, size), DigestKind.NONE, extents, work_blocks=REGION_BLOCKS)
    works = [work for work in (books.claim(),) if work is not None]
    second = books.claim()
    assert second is not None
    assert second.first == REGION_BLOCKS
    # What was put back is handed out to others, who do not wait for the answer.
    assert seen == [(Tally(), works[0])]


def test_what_is_packed_is_written_while_the_source_thinks_about_its_holes() -> None:
    taken: list[tuple[Work, Packed] | None] = []

    def claim() -> Work:
        if line.left():
            taken.append(meanwhile(lambda: next(line.take())))
        return Work(len(taken), 1)

    line = Line(claim, 4)
    line.join()
    packed = Packed(b"", b"", b"", 0)
    first = line.claim()
    assert first is not None
    line.hand_in(first[0], packed)
    line.claim()
    assert taken == [(first[1], packed)]


def test_no_work_zeroes_more_at_a_time_than_iscsi_sessions_bear() -> None:
    """A disk that is one hole (design: §4.9): a thin target is discarded a work at a time, in one request."""
    layout = Layout(3 * GIB, 3 * GIB + BLOCK)
    ledger = Ledger(layout, DigestKind.NONE, lambda start, length: [Extent(start, length, zero=True)])
    claimed: list[tuple[int, int]] = []
    while (work := ledger.claim()) is not None:
        assert work.zero
        assert work.count * BLOCK <= 128 * MIB
        claimed.append((work.first, work.count))
    assert merge_ranges(claimed) == [(0, layout.blocks)]
    assert sum(count for _, count in claimed) == layout.blocks
