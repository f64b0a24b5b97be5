"""A comparison by many threads, of disks that think about their holes: an NBD server may take minutes."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from p2vd.copying.checkpoint import Checkpoint, Header
from p2vd.copying.comparing import Comparer, Piece
from p2vd.copying.controls import Controls, Interrupted
from p2vd.copying.devices import Buffer
from p2vd.copying.digests import DigestKind
from p2vd.copying.errors import ReadFailed, TargetMismatch
from p2vd.copying.layout import BLOCK, REGION_BLOCKS, WORK_BLOCKS, Extent
from p2vd.copying.region import Region
from p2vd.copying.terms import Binding
from p2vd.copying.throttle import ChunkCredit
from p2vd.system.clock import SystemClock
from tests.copying.power import Image

LONG_S = 10.0
REGIONS = 3
SIZE_BYTES = REGIONS * REGION_BLOCKS * BLOCK


def nothing(block: int) -> None:
    """What most tests do while a block is asked about, or read."""


class Slow(Image):
    """Zeros. `asked` is called while a range that begins with a block is asked about, `got` as it is read."""

    def __init__(self, asked: Callable[[int], None] = nothing, got: Callable[[int], None] = nothing):
        super().__init__(b"", frozenset())
        self.size_bytes = SIZE_BYTES
        self.asked, self.got = asked, got
        self.holes: frozenset[int] = frozenset()
        self.odd: frozenset[int] = frozenset()
        self.questions: Counter[int] = Counter()
        self.reads: Counter[int] = Counter()
        self._books = threading.Lock()

    def extents(self, start: int, length: int) -> Iterator[Extent]:
        with self._books:
            self.questions[start // BLOCK] += 1
        self.asked(start // BLOCK)
        for at in range(start, start + length, BLOCK):
            yield Extent(at, BLOCK, at // BLOCK in self.holes)

    def read(self, buffer: Buffer, offset: int, length: int, at: int = 0) -> None:
        block = offset // BLOCK
        with self._books:
            self.reads[block] += 1
        self.got(block)
        buffer.clear(at, at + length)
        if block in self.odd:
            buffer.view[at] = 1


@pytest.fixture
def checkpoint(tmp_path: Path) -> Iterator[Checkpoint]:
    """Of a copy of zeros that is complete."""
    header = Header(Binding("job", 1, "wwid", SIZE_BYTES, 512, "lv"), SIZE_BYTES, DigestKind.XXH3.value)
    Checkpoint.create(tmp_path / "checkpoint", header)
    books = Checkpoint.open(tmp_path / "checkpoint")
    regions = [Region(number, REGION_BLOCKS, books.kind) for number in range(REGIONS)]
    for region in regions:
        region.mark(0, REGION_BLOCKS, books.kind.zero() * REGION_BLOCKS)
    books.commit(regions)
    yield books
    books.close()


def comparer(checkpoint: Checkpoint, target: Slow, threads: int) -> Comparer:
    return Comparer(checkpoint, Controls(SystemClock(), ChunkCredit(0)), None, target, threads)


def test_a_disk_that_thinks_about_its_holes_keeps_nobody_from_comparing(checkpoint: Checkpoint) -> None:
    first, second, third = (Piece(number * REGION_BLOCKS, 1) for number in range(3))
    asked, read = threading.Event(), threading.Event()

    def ask(block: int) -> None:
        if block == second.first:
            asked.set()
            assert read.wait(LONG_S), "it waits for whoever asks"

    def got(block: int) -> None:
        if block == first.first:
            assert asked.wait(LONG_S)
        elif block == third.first:
            read.set()

    comparison = comparer(checkpoint, Slow(ask, got), 2)
    comparison.run((first, second, third))
    assert comparison.done_bytes == 3 * BLOCK


def test_what_one_thread_asked_about_the_others_compare_too(checkpoint: Checkpoint) -> None:
    both = threading.Barrier(2)

    def got(block: int) -> None:
        if block % WORK_BLOCKS == 0:
            both.wait(LONG_S)

    comparison = comparer(checkpoint, Slow(got=got), 2)
    comparison.run((Piece(0, 2 * WORK_BLOCKS),))
    assert comparison.done_bytes == 2 * WORK_BLOCKS * BLOCK


def test_each_range_is_asked_about_once_and_each_block_compared_once(checkpoint: Checkpoint) -> None:
    target = Slow()
    pieces = [Piece(number * REGION_BLOCKS + at, 40) for number in range(REGIONS) for at in range(0, 400, 50)]
    blocks = [block for piece in pieces for block in range(piece.first, piece.first + piece.count)]
    target.holes = frozenset(block for block in blocks if block % 40 >= 20)
    target.odd = frozenset(block for block in blocks if block % 40 == 3)
    comparison = comparer(checkpoint, target, 8)
    with pytest.raises(TargetMismatch) as caught:
        comparison.run(pieces)
    assert target.questions == Counter(piece.first for piece in pieces)
    assert target.reads == Counter(block for block in blocks if block not in target.holes)
    assert caught.value.length == len(target.odd) * BLOCK
    assert comparison.done_bytes == len(blocks) * BLOCK


def test_a_disk_that_fails_to_tell_its_holes_ends_it(checkpoint: Checkpoint) -> None:
    def ask(block: int) -> None:
        if block:
            raise ReadFailed("nbd", block * BLOCK, BLOCK, "the server ended the conversation")

    with pytest.raises(ReadFailed):
        comparer(checkpoint, Slow(ask), 4).run((Piece(0, 1), Piece(REGION_BLOCKS, 1)))


def test_who_waits_for_the_last_answer_hears_a_stop(checkpoint: Checkpoint) -> None:
    """The others have nothing left to do; the run ends with whoever asks, and compares nothing more."""
    target = Slow(lambda block: comparison.controls.stop())
    comparison = comparer(checkpoint, target, 4)
    with pytest.raises(Interrupted):
        comparison.run((Piece(0, 1),))
    assert not target.reads
