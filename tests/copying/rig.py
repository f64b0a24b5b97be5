"""The real pipeline and the real checkpoint over disks in memory, run through power cuts and failed I/Os.

Threads run as the kernel lets them: a seed repeats what is drawn (disks, faults, where the power fails), not
the order in which threads meet.
"""

import contextlib
import itertools
import random
import threading
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from p2vd.copying.checkpoint import Checkpoint, Header
from p2vd.copying.controls import Controls
from p2vd.copying.digests import DigestKind
from p2vd.copying.errors import CheckpointMismatch, CopyError, PoolFull, WriteFailed
from p2vd.copying.layout import BLOCK, SUB_BLOCK, Layout, runs
from p2vd.copying.ledger import Tally
from p2vd.copying.pipeline import CopyPipeline
from p2vd.copying.region import Region
from p2vd.copying.rescue import RescuedSource
from p2vd.copying.shared import SharedLedger
from p2vd.copying.terms import Binding
from p2vd.copying.throttle import ChunkCredit
from p2vd.system.clock import Clock
from tests.copying.power import GAPS, Disk, Image, PowerCut, PoweredCheckpoint, Supply

KIND = DigestKind.XXH3
SMALL = {"REGION_BLOCKS": 8, "WORK_BLOCKS": 3, "ZERO_WORK_BLOCKS": 5}
"""So that a short copy has several regions and many works: tests put these in place of the real numbers."""

BINDING = Binding("job", 1, "wwid", 0, 512, "lv")


class Impatient:
    """A clock by which a commit is always due and no wait is long."""

    def __init__(self) -> None:
        self._ticks = itertools.count()

    def monotonic(self) -> float:
        return 10.0 * next(self._ticks)

    def now_us(self) -> int:
        return 0

    def sleep(self, seconds: float, until: threading.Event) -> bool:
        return until.wait(min(seconds, 0.0005))


@cache
def data(number: int) -> bytes:
    """One of a few blocks of random bytes."""
    return random.Random(number).randbytes(BLOCK)


def contents(chance: random.Random) -> bytes | None:
    """One block: data all over, in some of its 64 KiB parts, zeros, or a hole."""
    kind, block = chance.random(), data(chance.randrange(4))
    if kind < 0.4:
        return block
    if kind < 0.6:
        return bytes(BLOCK) if kind < 0.5 else None
    parts = (block[at : at + SUB_BLOCK] for at in range(0, BLOCK, SUB_BLOCK))
    return b"".join(part if chance.random() < 0.5 else bytes(SUB_BLOCK) for part in parts)


def pipeline(
    checkpoint: Checkpoint, source: Image, disk: Disk, clock: Clock, threads: int, outlast_full: bool = False
) -> CopyPipeline:
    """The pipeline of a run that goes on from a checkpoint, as a session makes it."""
    header = checkpoint.header
    controls = Controls(clock, ChunkCredit(0))
    books = SharedLedger(
        checkpoint.layout,
        checkpoint.kind,
        source.extents,
        complete=checkpoint.complete,
        begun=checkpoint.begun,
        tally=Tally(header.data_bytes, header.zero_bytes, header.same_bytes),
        stale=(lambda number: checkpoint.load(number) if number in checkpoint.stale else None)
        if header.binding.generation > 1
        else None,
    )
    return CopyPipeline(
        layout=checkpoint.layout,
        source=RescuedSource(source, controls),
        sink=disk,
        ledger=books,
        checkpoint=checkpoint,
        controls=controls,
        clock=clock,
        threads=threads,
        outlast_full=outlast_full,
    )


class Rig:
    """One copy, from the first run to its end; `crashes` counts the power cuts by where they came.

    `faults`: the share of runs in which also writes, zeros and flushes fail, a tenth of them. `fills`:
    some of those find no space, and the copy goes on.
    """

    def __init__(
        self, path: Path, chance: random.Random, crashes: Counter[str], faults: float, fills: bool = False
    ):
        self.path, self.chance, self.crashes, self.faults = path, chance, crashes, faults
        self.kinds = (WriteFailed, PoolFull, PoolFull) if fills else (WriteFailed,)
        size = chance.choice((1, 8, 20, 30)) * BLOCK - chance.choice((0, 7))
        self.layout = Layout(size, size + chance.randrange(3) * BLOCK)
        self.drawn: list[bytes | None] = [None] * self.layout.source_blocks
        self.former = self.drawn.copy()
        self.disk = Disk(self.layout.target_bytes, chance.random() < 0.5, chance)
        self.done = False
        self.draw(1.0)
        binding = replace(BINDING, source_size_bytes=size)
        Checkpoint.create(path, Header(binding, self.layout.target_bytes, KIND.value))

    def draw(self, share: float) -> None:
        """Change that share of the source's blocks, some to what they were once."""
        for number in range(self.layout.source_blocks):
            if self.chance.random() < share:
                new = contents(self.chance) if self.chance.random() < 0.7 else self.former[number]
                self.former[number], self.drawn[number] = self.drawn[number], new
        holes = frozenset(number for number, block in enumerate(self.drawn) if block is None)
        image = b"".join(block or bytes(BLOCK) for block in self.drawn)[: self.layout.source_bytes]
        self.source = Image(image, holes)
        self.wanted = image + bytes(self.layout.target_bytes - len(image))
        self.blocks = [self.wanted[at : at + BLOCK] for at in range(0, len(self.wanted), BLOCK)]
        lengths = (self.layout.source_length(number) for number in range(self.layout.blocks))
        self.digests = [
            KIND.of(block[:length]) if length else KIND.zero()
            for block, length in zip(self.blocks, lengths, strict=True)
        ]

    def follow(self) -> None:
        """Crash and go on, perhaps with a later pass; in the end it is identical."""
        for left in reversed(range(self.chance.choice((1, 1, 2, 3)))):
            while not self.done and self.chance.random() < 0.85:
                gap = self.chance.choice(GAPS)
                few = {"write": 12, "zero": 3, "intent": 1}.get(gap.split()[1], 2)
                failing = 0.1 if self.chance.random() < self.faults else 0.0
                self.run(Supply(gap, self.chance.randint(1, few)), failing)
                self.damage()
            if left:
                self.draw(0.3)
                with contextlib.closing(self.opened()) as checkpoint:
                    checkpoint.begin_pass(target_proven=True)
                self.done = False
        self.run(Supply(), 0)
        self.disk.lose_power()
        assert self.done
        assert self.disk.durable == self.wanted

    def run(self, supply: Supply, failing: float) -> None:
        """One run of the copy, from its checkpoint to its end or to a failure."""
        checkpoint = self.opened()
        self.disk.supply = checkpoint.supply = supply
        self.disk.fails = lambda what: self.fault(what) if self.chance.random() < failing else None
        lies: list[AssertionError] = []

        def look(rows: list[Region]) -> None:
            try:
                self.check(rows)
            except AssertionError as error:
                lies.append(error)
                raise

        checkpoint.on_commit = look
        copy = pipeline(checkpoint, self.source, self.disk, Impatient(), self.chance.randint(1, 3), True)
        try:
            with contextlib.suppress(PowerCut, WriteFailed):
                copy.run()
        finally:
            checkpoint.close()
        if lies:
            raise lies[0]
        if supply.failed:
            self.crashes[supply.gap] += 1
            self.disk.lose_power()
        with contextlib.closing(self.opened()) as checkpoint:
            rows = [row for row in checkpoint.regions() if row.done]
            self.check(rows)
            self.done = len(checkpoint.complete) == self.layout.regions
            assert self.counted(checkpoint) == self.claimed(rows), "what is claimed is not what is counted"

    def fault(self, what: str) -> type[WriteFailed | PoolFull]:
        return self.chance.choice(self.kinds)

    def check(self, rows: list[Region]) -> None:
        """No block that a checkpoint claims differs from the source, by what is durable."""
        for row in rows:
            for number, durable in self.disk.claims(row, SMALL["REGION_BLOCKS"]):
                assert durable == self.blocks[number], f"block {number} is claimed and is not there"
                assert row.digest(number % SMALL["REGION_BLOCKS"]) == self.digests[number]

    def counted(self, checkpoint: Checkpoint) -> int:
        """Bytes of the source that a checkpoint says are done."""
        header = checkpoint.header
        return header.data_bytes + header.zero_bytes + header.same_bytes

    def claimed(self, rows: list[Region]) -> int:
        """Bytes of the source in the blocks that rows say are done."""
        return sum(
            self.layout.source_bytes_in(row.number * SMALL["REGION_BLOCKS"] + first, count)
            for row in rows
            for first, count in runs(row.done)
        )

    def damage(self) -> None:
        """The checkpoint of this moment is refused once it is damaged, or nothing of it was."""
        victim = self.path.with_name("victim")
        whole = bytearray(self.path.read_bytes())
        at = self.chance.randrange(len(whole))
        if self.chance.random() < 0.5:
            whole[at] ^= 1 << self.chance.randrange(8)
        else:
            del whole[at:]
        for leftover in victim.parent.glob("victim*"):
            leftover.unlink()
        victim.write_bytes(whole)
        with contextlib.closing(self.opened()) as good:
            with pytest.raises(CheckpointMismatch):
                good.require(replace(BINDING, source_id="other"), self.layout.target_bytes, KIND.value)
            with contextlib.suppress(CopyError), contextlib.closing(Checkpoint.open(victim)) as bad:
                assert replace(bad.header, sequence=good.header.sequence) == good.header
                assert (bad.begun, bad.complete, bad.stale) == (good.begun, good.complete, good.stale)

    def opened(self) -> PoweredCheckpoint:
        return PoweredCheckpoint.open(self.path)
