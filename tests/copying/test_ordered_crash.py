"""The pipeline of compressed targets through power cuts, full disks, failed flushes; flaws are noticed."""

import contextlib
import errno
import itertools
import os
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from p2vd.copying import layout, ledger, ordered_pipeline, packed_target, region
from p2vd.copying.checkpoint import Header
from p2vd.copying.controls import Controls, Gauge
from p2vd.copying.errors import WriteFailed
from p2vd.copying.layout import BLOCK, Layout, runs
from p2vd.copying.ledger import Tally
from p2vd.copying.ordered_pipeline import OrderedPipeline
from p2vd.copying.packed_target import PackedTarget
from p2vd.copying.region import Region
from p2vd.copying.rescue import RescuedSource
from p2vd.copying.shared import SharedLedger
from p2vd.copying.throttle import ChunkCredit
from p2vd.system.clock import SystemClock
from tests.copying.kernel import GAPS, Kernel, Tokens
from tests.copying.power import Image, PowerCut, PoweredCheckpoint, Supply
from tests.copying.rig import BINDING, KIND, SMALL, Impatient, contents
from tests.copying.test_pipeline_crash import commit_then_flush, memory

__all__ = ["memory"]

CRASHES = 100
# A flaw shows at once, or by a rare order of things: a run ends where it is found.
FOUND_WITHIN = 50 * CRASHES
NOT_THERE = "is claimed and is not there"


@pytest.fixture(autouse=True)
def _small_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (layout, ledger, region, packed_target, ordered_pipeline):
        for name, value in SMALL.items():
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)


class Hasty(Impatient):
    """A clock by which a commit is due after some frames."""

    def monotonic(self) -> float:
        return super().monotonic() / 40


class Rig:
    """One copy of a disk into a file of frames, from the first run to its end."""

    def __init__(self, directory: Path, chance: random.Random, crashes: Counter[str], failing: float):
        self.path, self.chance, self.crashes, self.failing = directory, chance, crashes, failing
        size = chance.choice((0, 1, 8, 20, 30)) * BLOCK + chance.choice((0, 7))
        self.layout = Layout(size, size)
        drawn = [contents(chance) for _ in range(self.layout.source_blocks)]
        image = b"".join(block or bytes(BLOCK) for block in drawn)[:size]
        self.source = Image(image, frozenset(at for at, block in enumerate(drawn) if block is None))
        self.kernel, self.packing = Kernel(chance), Tokens()
        self.names = [self.packing.name(image[at : at + BLOCK]) for at in range(0, size, BLOCK)]
        self.done = False
        binding = replace(BINDING, source_size_bytes=size)
        PoweredCheckpoint.create(directory / "checkpoint", Header(binding, size, KIND.value))

    def follow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Crash and go on until it ends; then the file is whole, and nothing follows its end."""
        monkeypatch.setattr(packed_target, "os", self.kernel)
        while not self.done and self.chance.random() < 0.9:
            gap = self.chance.choice(GAPS)
            few = 12 if gap.endswith("write") else 2
            self.run(Supply(gap, self.chance.randint(1, few)), self.failing)
        self.run(Supply(), 0)
        self.kernel.lose_power()
        assert self.done
        with contextlib.closing(self.opened()) as checkpoint:
            durable = checkpoint.header.packed_bytes
            sizes = (bytes(row.sizes) for row in checkpoint.regions())
            end = b"".join(self.packing.end(sizes, self.layout.blocks, self.layout.target_bytes, durable))
        assert self.kernel.durable == self.kernel.durable[:durable] + end
        assert list(self.packing.names(self.kernel.durable[:durable])) == self.names

    def run(self, supply: Supply, failing: float) -> None:
        """One run of the copy, from its checkpoint to its end or to a failure."""
        checkpoint = self.opened()
        self.packing.level = self.chance.randrange(4)
        self.kernel.supply = checkpoint.supply = supply
        self.kernel.fails = lambda what: self.fault(what) if self.chance.random() < failing else 0
        lies: list[AssertionError] = []

        def look(rows: list[Region]) -> None:
            try:
                self.check(checkpoint)
            except AssertionError as error:
                lies.append(error)
                raise

        checkpoint.on_commit = look
        controls = Controls(Impatient(), ChunkCredit(0))
        try:
            with contextlib.suppress(PowerCut, WriteFailed), Path(os.devnull).open("r+b") as file:
                target = PackedTarget(file.fileno(), "packed", checkpoint, self.packing, Gauge(SystemClock()))
                header = checkpoint.header
                books = SharedLedger(
                    checkpoint.layout,
                    checkpoint.kind,
                    self.source.extents,
                    complete=checkpoint.complete,
                    begun=checkpoint.begun,
                    tally=Tally(header.data_bytes, header.zero_bytes),
                    work_blocks=1,
                )
                OrderedPipeline(
                    checkpoint.layout,
                    RescuedSource(self.source, controls),
                    target,
                    books,
                    checkpoint,
                    controls,
                    Hasty(),
                    self.chance.randint(1, 4),
                    outlast_full=True,
                ).run()
                assert books.done
                self.finish(target)
        finally:
            checkpoint.close()
        if lies:
            raise lies[0]
        if supply.failed:
            self.crashes[supply.gap] += 1
            self.kernel.lose_power()
        with contextlib.closing(self.opened()) as checkpoint:
            self.check(checkpoint)

    def finish(self, target: PackedTarget) -> None:
        """The end, and a look at what stands there."""
        self.kernel.fails = lambda what: 0
        target.finish()
        target.prove_end()
        target.check()
        self.done = True

    def fault(self, what: str) -> int:
        return self.chance.choice((errno.EIO, errno.ENOSPC, errno.ENOSPC, errno.EDQUOT))

    def check(self, checkpoint: PoweredCheckpoint) -> None:
        """What a checkpoint claims is a prefix of the disk, and is durable, to the byte."""
        header = checkpoint.header
        done = sorted(
            row.number * SMALL["REGION_BLOCKS"] + block
            for row in checkpoint.regions()
            for first, count in runs(row.done)
            for block in range(first, first + count)
        )
        assert done == list(range(len(done))), "blocks are committed out of order"
        claimed = min(len(done) * BLOCK, self.layout.source_bytes)
        assert header.data_bytes + header.zero_bytes == claimed
        try:
            found = list(self.packing.names(self.kernel.durable[: header.packed_bytes]))
        except Exception as error:
            raise AssertionError(f"a frame {NOT_THERE}: {error}") from error
        assert found == self.names[: len(done)], f"a block {NOT_THERE}"

    def opened(self) -> PoweredCheckpoint:
        return PoweredCheckpoint.open(self.path / "checkpoint")


def crash(
    monkeypatch: pytest.MonkeyPatch, directory: Path, seed: int, crashes: int, failing: float = 0.05
) -> Counter[str]:
    """Copy disk after disk until there were that many power cuts."""
    chance, seen = random.Random(seed), Counter[str]()
    for number in itertools.count():
        if seen.total() >= crashes:
            break
        place = directory / str(number)
        place.mkdir()
        Rig(place, chance, seen, failing if chance.random() < 0.5 else 0.0).follow(monkeypatch)
        (place / "checkpoint").unlink()
    return seen


@pytest.mark.campaign
def test_power_cuts_take_back_nothing_that_is_committed(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, memory: Path, campaign_seed: int
) -> None:
    wanted = CRASHES * (40 if request.config.option.full else 1)
    seen = crash(monkeypatch, memory, campaign_seed, wanted)
    print(f"{seen.total()} power cuts: {dict(seen)}")
    assert set(seen) == set(GAPS)


def test_a_commit_before_its_flush_is_found_out(
    monkeypatch: pytest.MonkeyPatch, memory: Path, campaign_seed: int
) -> None:
    monkeypatch.setattr(ordered_pipeline, "commit_cycle", commit_then_flush)
    with pytest.raises(AssertionError, match=NOT_THERE):
        crash(monkeypatch, memory, campaign_seed, FOUND_WITHIN)


def test_a_tail_that_is_not_cut_off_is_found_out(
    monkeypatch: pytest.MonkeyPatch, memory: Path, campaign_seed: int
) -> None:
    def pretend(target: PackedTarget) -> None:
        target._written = target.durable

    monkeypatch.setattr(PackedTarget, "cut_back", pretend)
    with pytest.raises(Exception, match=r"size in bytes|follow"):
        crash(monkeypatch, memory, campaign_seed, FOUND_WITHIN)


def test_frames_out_of_order_are_found_out(
    monkeypatch: pytest.MonkeyPatch, memory: Path, campaign_seed: int
) -> None:
    """After a full disk the queue must be put in order again."""
    monkeypatch.setattr(SharedLedger, "sort", lambda self: None)
    with pytest.raises(AssertionError):
        crash(monkeypatch, memory, campaign_seed, FOUND_WITHIN, failing=0.2)
