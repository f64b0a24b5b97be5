"""`p2vd-copy` on loop devices, killed and terminated at random moments: identical, and little copied again.

What is copied again is what the kernel counted as written to the target less what the checkpoint gained. The
bound is design §4.5's, by the run's own commits: what was handed in before the last but one that it told of
is in the last one, and a thread hands in after one interval. So no more is lost than its bandwidth let it
move since an interval before that commit.
"""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from p2vd.copying.checkpoint import Checkpoint
from p2vd.copying.layout import BLOCK
from tests.loop import Loop, needs_loop

pytestmark = [pytest.mark.root, needs_loop]

SIZE = 128 * BLOCK
RATE = 32 * BLOCK
INTERVAL_S = 1.0
STRIKES = 100
STRIKES_A_COPY = 4
MOST_LINES = 8


@dataclass
class Run:
    """One run of the tool: what it told of its commits, and how it ended."""

    started_us: int
    commits_us: list[int] = field(default_factory=list)
    committed_bytes: int = 0
    code: int = 0
    ended_us: int = 0

    def heard(self, line: str) -> None:
        """Note what a line of --json tells of commits."""
        told = json.loads(line)
        self.committed_bytes = max(self.committed_bytes, told.get("committed_bytes", 0))
        commit = told.get("last_checkpoint_us", 0)
        if commit and commit not in self.commits_us:
            self.commits_us.append(commit)

    def may_repeat(self, depth: int) -> int:
        """The most bytes that design §4.5 lets the next run copy again."""
        since = self.commits_us[-2] if len(self.commits_us) > 1 else self.started_us
        moved = RATE * ((self.ended_us - since) / 1_000_000 + INTERVAL_S)
        saved_up_and_overdrawn = RATE // 4 + BLOCK
        # A thread hands in between blocks: one may be older, and one is under way.
        in_hand = 2 * depth * BLOCK
        return round(moved) + saved_up_and_overdrawn + in_hand


class Copy:
    """One copy between two loop devices, the target full of old bytes."""

    def __init__(self, directory: Path, source: Loop, target: Loop, chance: random.Random):
        self._directory, self._source, self._target, self._chance = directory, source, target, chance
        self._checkpoint = directory / "checkpoint"
        self._depth = chance.choice((1, 2, 8))
        with source.backing.open("r+b") as file:
            for _ in range(0, SIZE, BLOCK // 4):
                file.write(chance.randbytes(BLOCK // 4) if chance.random() < 0.4 else bytes(BLOCK // 4))
        target.backing.write_bytes(b"\xa5" * SIZE)

    def strike(self, number: signal.Signals) -> bool:
        """Run and send the signal at a random moment; False: it was done before."""
        committed, written = self._committed(), self._written()
        run = Run(time.time_ns() // 1000)
        words = ["--json", "--bandwidth", str(RATE), "--queue-depth", str(self._depth)]
        victim = subprocess.Popen(self._argv(*words), stdout=subprocess.PIPE, text=True)
        assert victim.stdout is not None
        for _ in range(self._chance.randrange(MOST_LINES)):
            if line := victim.stdout.readline():
                run.heard(line)
        try:
            victim.wait(self._chance.uniform(0, 0.5))
        except subprocess.TimeoutExpired:
            victim.send_signal(number)
        rest, _ = victim.communicate()
        run.code, run.ended_us = victim.returncode, time.time_ns() // 1000
        for line in rest.splitlines(keepends=True):
            if line.endswith("\n"):  # a kill may cut the last one
                run.heard(line)
        gained = self._committed() - committed
        repeated = self._written() - written - gained
        print(f"{number.name}: {len(run.commits_us)} commits told, {gained} bytes gained, {repeated} lost")
        assert committed + gained >= run.committed_bytes
        if number is signal.SIGKILL:
            assert run.code in (-number, 0)
            assert 0 <= repeated <= run.may_repeat(self._depth)
        else:  # -SIGTERM: it came before the program had begun
            assert run.code in (5, 0, -number)
            assert repeated == 0
        return run.code != 0

    def finish(self) -> None:
        """Without a signal it ends, identical, having written nothing that was committed."""
        committed, written = self._committed(), self._written()
        done = subprocess.run(self._argv("--json"), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert json.loads(done.stdout.splitlines()[-1])["bytes_skipped"] == committed
        assert self._written() - written == SIZE - committed
        assert self._source.backing.read_bytes() == self._target.backing.read_bytes()

    def _argv(self, *more: str) -> list[str]:
        words = [self._source.device, self._target.device, "--checkpoint", str(self._checkpoint), "--force"]
        return [sys.executable, "-m", "p2vd.copying.worker", *words, *more]

    def _written(self) -> int:
        """Bytes that the kernel counted as written or zeroed on the target."""
        stat = Path("/sys/class/block") / Path(self._target.device).name / "stat"
        return int(stat.read_text().split()[6]) * 512

    def _committed(self) -> int:
        """Bytes that a copy of the checkpoint, as it is now, claims and counts."""
        if not self._checkpoint.exists():
            return 0
        copy = self._directory / "copy"
        for suffix in ("", "-wal"):
            if Path(f"{self._checkpoint}{suffix}").exists():
                shutil.copy(f"{self._checkpoint}{suffix}", f"{copy}{suffix}")
        checkpoint = Checkpoint.open(copy)
        counted = checkpoint.header.data_bytes + checkpoint.header.zero_bytes
        claimed = sum(row.done.bit_count() for row in checkpoint.regions()) * BLOCK
        checkpoint.close()
        assert counted == claimed
        return counted


@pytest.fixture
def copies(tmp_path: Path, campaign_seed: int, request: pytest.FixtureRequest) -> Iterator[Iterator[Copy]]:
    """Copies, one after another, each between devices of its own."""
    chance = random.Random(f"{campaign_seed}-{request.node.name}")

    def make() -> Generator[Copy, None, None]:
        number = 0
        while True:
            directory = tmp_path / str(number)
            directory.mkdir()
            with Loop(directory / "s", SIZE) as source, Loop(directory / "t", SIZE) as target:
                yield Copy(directory, source, target, chance)
            shutil.rmtree(directory)
            number += 1

    made = make()
    yield made
    made.close()


@pytest.mark.campaign
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
def test_struck_at_random_moments_it_ends_identical(
    request: pytest.FixtureRequest, copies: Iterator[Copy], number: signal.Signals
) -> None:
    left = STRIKES if request.config.option.full else STRIKES_A_COPY
    while left:
        copy = next(copies)
        for _ in range(min(left, STRIKES_A_COPY)):
            if not copy.strike(number):
                break
            left -= 1
        copy.finish()
