"""A later pass: what changed is written, what did not is not, and no old map is believed unseen."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from p2vd.copying.checkpoint import Checkpoint
from p2vd.copying.layout import BLOCK
from tests.copying.test_block import tool
from tests.copying.test_tool import Files
from tests.loop import Loop, needs_loop

BLOCKS = 60
SIZE = BLOCKS * BLOCK + 512


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """A source, copied."""
    files = Files(tmp_path)
    files.make(SIZE, data=0.7)
    assert files.run()[0] == 0
    return files


def change(path: Path, *places: int, content: bytes | None = None) -> None:
    with path.open("r+b") as file:
        for place in places:
            file.seek(place)
            file.write(os.urandom(4096) if content is None else content)


@pytest.mark.parametrize("more", [[], ["--target-unchanged"]], ids=["proven", "told"])
def test_only_what_changed_is_written(files: Files, more: list[str]) -> None:
    change(files.source, 0, 7 * BLOCK + 9, 40 * BLOCK)
    before = files.source.stat().st_blocks
    code, report = files.run("--resync", *more)
    assert (code, report["failure"]) == (0, None)
    assert files.equal()
    assert report["bytes_same"] == (BLOCKS - 3) * BLOCK + 512
    assert report["bytes_copied"] + report["bytes_zero"] == 3 * BLOCK
    assert before == files.source.stat().st_blocks


def test_data_that_became_zeros_becomes_zeros(files: Files) -> None:
    change(files.source, 5 * BLOCK, content=bytes(3 * BLOCK))
    code, report = files.run("--resync")
    assert code == 0
    assert files.equal()
    assert report["bytes_same"] >= (BLOCKS - 3) * BLOCK


def test_data_that_became_a_hole_becomes_zeros(files: Files) -> None:
    with files.source.open("r+b") as file:
        file.truncate(20 * BLOCK)
        file.truncate(SIZE)
    assert files.run("--resync")[0] == 0
    assert files.equal()


def test_a_source_that_did_not_change_costs_no_write(files: Files) -> None:
    before = files.target.stat().st_mtime_ns
    code, report = files.run("--resync", "--target-unchanged")
    assert (code, report["bytes_same"], report["bytes_copied"]) == (0, SIZE, 0)
    assert files.target.stat().st_mtime_ns == before


def test_a_target_that_was_written_to_is_refused_by_range_and_left_alone(files: Files) -> None:
    """It may be the disk of a virtual machine by now."""
    change(files.source, 3 * BLOCK)
    change(files.target, 30 * BLOCK)
    before = files.target.read_bytes()
    for _ in range(2):
        code, report = files.run("--resync")
        assert (code, report["failure"]["name"]) == (3, "TargetMismatch")
        assert (report["failure"]["offset"], report["failure"]["length"]) == (30 * BLOCK, BLOCK)
        assert files.target.read_bytes() == before
    # Without --resync the pass that was begun goes on, and comes to the same end.
    assert files.run()[0] == 3
    assert files.target.read_bytes() == before


def test_pass_after_pass(files: Files) -> None:
    chance = random.Random(4)
    for _ in range(4):
        change(files.source, *(chance.randrange(SIZE - 4096) for _ in range(6)))
        assert files.run("--resync")[0] == 0
        assert files.equal()


def test_without_a_checkpoint_there_is_nothing_to_resync_from(files: Files) -> None:
    files.checkpoint.unlink()
    code, report = files.run("--resync")
    assert (code, report["failure"]["name"]) == (1, "CheckpointMissing")


def test_after_a_resync_its_report_is_repeated(files: Files) -> None:
    change(files.source, 7 * BLOCK)
    _, first = files.run("--resync")
    code, second = files.run()
    assert code == 0
    assert {k: v for k, v in first.items() if k != "seconds"} == {
        k: v for k, v in second.items() if k != "seconds"
    }


def slow(files: Files, *more: str) -> subprocess.Popen[str]:
    words = files.words("--json", "--bandwidth", "40M", *more)
    return subprocess.Popen(
        [sys.executable, "-m", "p2vd.copying.worker", *words], stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("goes_on", [["--resync"], []], ids=["anew", "on"])
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_in_the_middle(files: Files, how: signal.Signals, goes_on: list[str], seed: int) -> None:
    """Whatever was half-written is written again; a new pass also finds what changed meanwhile."""
    chance = random.Random(seed)
    change(files.source, *(block * BLOCK for block in range(0, BLOCKS, 2)))
    victim = slow(files, "--resync", "--target-unchanged")
    assert victim.stdout is not None
    for _ in range(chance.randrange(1, 5)):
        victim.stdout.readline()
    victim.send_signal(how)
    victim.communicate()
    if goes_on:
        change(files.source, *(block * BLOCK + 8192 for block in range(0, BLOCKS, 3)))
    code, report = files.run(*goes_on)
    assert (code, report["failure"]) == (0, None)
    assert files.equal()
    assert report["bytes_same"] > 0


def test_what_an_interrupted_pass_may_have_half_written_is_read_before_it_is_trusted(files: Files) -> None:
    """The source changes, the pass writes it and dies before its commit, the source changes back."""
    old = files.source.read_bytes()
    change(files.source, 20 * BLOCK)
    # What a pass leaves that is killed after its write: the region touched, the block on the target new.
    checkpoint = Checkpoint.open(files.checkpoint)
    checkpoint.begin_pass(target_proven=True)
    region = checkpoint.load(0)
    assert region is not None
    region.touched = True
    checkpoint.commit([region])
    checkpoint.close()
    changed = files.source.read_bytes()[20 * BLOCK : 21 * BLOCK]
    change(files.target, 20 * BLOCK, content=changed)
    files.source.write_bytes(old)
    code, report = files.run()
    assert (code, report["failure"]) == (0, None)
    assert files.equal()
    assert report["bytes_same"] == SIZE - BLOCK


def test_a_first_copy_that_was_interrupted_and_a_source_that_changed(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.make(SIZE, data=1)
    victim = slow(files)
    assert victim.stdout is not None
    for _ in range(4):
        victim.stdout.readline()
    victim.kill()
    victim.communicate()
    change(files.source, *(block * BLOCK + 99 for block in range(BLOCKS)))
    code, report = files.run("--resync")
    assert (code, report["failure"]) == (0, None)
    assert files.equal()


@needs_loop
@pytest.mark.root
def test_between_block_devices(tmp_path: Path) -> None:
    with (
        Loop(tmp_path / "a", BLOCKS * BLOCK) as source,
        Loop(tmp_path / "b", (BLOCKS + 3) * BLOCK) as target,
    ):
        words = [source.device, target.device, "--checkpoint", str(tmp_path / "checkpoint")]
        disk = Path(source.device)
        change(disk, *(block * BLOCK for block in range(0, BLOCKS, 2)), content=os.urandom(BLOCK))
        assert tool(*words)[0] == 0
        change(disk, 2 * BLOCK, 9 * BLOCK)
        change(disk, 20 * BLOCK, content=bytes(BLOCK))
        os.sync()
        code, report = tool(*words, "--resync")
        assert (code, report["failure"]) == (0, None)
        assert report["bytes_same"] == (BLOCKS - 3) * BLOCK
        assert source.backing.read_bytes() == target.backing.read_bytes()[: BLOCKS * BLOCK]
