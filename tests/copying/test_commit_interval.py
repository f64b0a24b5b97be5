"""What a crash may take back is bounded by time, however slow the disks are (design: §4.5)."""

import contextlib
import random
import threading
from dataclasses import replace
from pathlib import Path

from p2vd.copying.checkpoint import Checkpoint, Header
from p2vd.copying.devices import Buffer
from p2vd.copying.layout import BLOCK, WORK_BLOCKS
from p2vd.copying.shared import SharedLedger
from tests.copying import rig
from tests.copying.power import Disk, Image
from tests.copying.rig import BINDING, KIND

BLOCKS = 3 * WORK_BLOCKS
READ_S = 0.5
INTERVAL_S = 1.0
POLL_S = 0.25


class Lockstep:
    """A clock that moves while a read takes its time, and lets the committing thread act at each poll."""

    def __init__(self) -> None:
        self._now = 0.0
        self._wakes = 0.0
        self._asleep = False
        self._changed = threading.Condition()

    def monotonic(self) -> float:
        return self._now

    def now_us(self) -> int:
        return 0

    def sleep(self, seconds: float, until: threading.Event) -> bool:
        with self._changed:
            self._wakes, self._asleep = self._now + seconds, True
            self._changed.notify_all()
            while self._asleep and not until.is_set():
                self._changed.wait(0.01)
        return until.is_set()

    def advance(self, seconds: float) -> None:
        """Let that much time pass."""
        target = self._now + seconds
        with self._changed:
            while self._now < target:
                assert self._changed.wait_for(lambda: self._asleep, timeout=60)
                self._now = min(target, self._wakes)
                if self._now == self._wakes:
                    self._asleep = False
                    self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._asleep, timeout=60)


class SlowImage(Image):
    """A source whose every block takes half a second; `seen`: what was committed after each read."""

    def __init__(self, clock: Lockstep):
        super().__init__(rig.data(0) * BLOCKS, frozenset())
        self._clock = clock
        self.books: SharedLedger | None = None
        self.seen: list[int] = []

    def read(self, buffer: Buffer, offset: int, length: int, at: int = 0) -> None:
        self._clock.advance(READ_S)
        assert self.books is not None
        self.seen.append(self.books.now()[0].total_bytes // BLOCK)
        super().read(buffer, offset, length, at)


def test_what_was_written_two_intervals_ago_is_committed(tmp_path: Path) -> None:
    """By a single thread, whose works of 16 blocks take eight seconds each."""
    clock = Lockstep()
    source, disk = SlowImage(clock), Disk(BLOCKS * BLOCK, thin=True, chance=random.Random(1))
    header = Header(replace(BINDING, source_size_bytes=BLOCKS * BLOCK), BLOCKS * BLOCK, KIND.value)
    Checkpoint.create(tmp_path / "checkpoint", header)
    with contextlib.closing(Checkpoint.open(tmp_path / "checkpoint")) as checkpoint:
        copy = rig.pipeline(checkpoint, source, disk, clock, threads=1)
        copy.commit_interval_s, source.books = INTERVAL_S, copy.ledger
        copy.run()
    assert disk.durable == source.contents
    assert len(source.seen) == BLOCKS
    # A block is written when its read ends. The flush takes no time here, looking whether one is due a poll.
    for reads, committed in enumerate(source.seen, 1):
        now = reads * READ_S
        due = [block for block in range(reads - 1) if (block + 1) * READ_S <= now - 2 * INTERVAL_S - POLL_S]
        assert committed >= len(due)
