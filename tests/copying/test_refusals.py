"""Checkpoints that do not fit, through the command: refused by name, and not a byte of the target changes."""

import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from p2vd.copying.checkpoint import Checkpoint
from p2vd.copying.layout import BLOCK
from tests.copying.test_block import tool
from tests.copying.test_tool import Files
from tests.loop import Loop, needs_loop

BLOCKS = 8
DONE = 5
GARBAGE = b"\xa5"


def unclaim(checkpoint_path: Path) -> None:
    """Take a finished copy's checkpoint back to where only the first blocks are done."""
    checkpoint = Checkpoint.open(checkpoint_path)
    region = checkpoint.load(0)
    assert region is not None
    region.done &= (1 << DONE) - 1
    checkpoint.commit(
        [region], data_bytes=DONE * BLOCK, zero_bytes=0, window=((0, DONE),), verified="", result=None
    )
    checkpoint.close()


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """A copy that stopped half-way; what is not done of the target are other bytes."""
    files = Files(tmp_path)
    files.make(BLOCKS * BLOCK, data=1)
    assert files.run("--verify", "none")[0] == 0
    unclaim(files.checkpoint)
    with files.target.open("r+b") as file:
        file.seek(DONE * BLOCK)
        file.write(GARBAGE * (BLOCKS - DONE) * BLOCK)
    return files


def test_as_it_is_it_goes_on(files: Files) -> None:
    code, report = files.run()
    assert (code, report["failure"], report["bytes_skipped"]) == (0, None, DONE * BLOCK)
    assert files.equal()


def flip_in_the_header(files: Files) -> None:
    contents = bytearray(files.checkpoint.read_bytes())
    contents[contents.index(b'"source_id"') + 20] ^= 4
    files.checkpoint.write_bytes(contents)


def flip_in_a_row(files: Files) -> None:
    contents = bytearray(files.checkpoint.read_bytes())
    contents[-100] ^= 4
    files.checkpoint.write_bytes(contents)


def shorten(length: Callable[[int], int]) -> Callable[[Files], None]:
    def truncate(files: Files) -> None:
        os.truncate(files.checkpoint, length(files.checkpoint.stat().st_size))

    return truncate


def claim_more(files: Files) -> None:
    """As somebody might who thinks that he knows better; nothing but the checksum tells."""
    with sqlite3.connect(files.checkpoint) as db:
        db.execute("UPDATE region SET bitmap = ?", (((1 << BLOCKS) - 1).to_bytes(128, "little"),))
    db.close()


def forget_the_row(files: Files) -> None:
    with sqlite3.connect(files.checkpoint) as db:
        db.execute("DELETE FROM region")
    db.close()


def write_something_else(files: Files) -> None:
    files.checkpoint.write_text("Notes: ask Erna about the backup.\n")


def write_as_a_newer_version(files: Files) -> None:
    with sqlite3.connect(files.checkpoint) as db:
        db.execute("PRAGMA user_version = 7")
    db.close()


def grow_the_source(files: Files) -> None:
    with files.source.open("ab") as file:
        file.write(bytes(4096))


def shrink_the_source(files: Files) -> None:
    os.truncate(files.source, (BLOCKS - 1) * BLOCK)


def replace_the_source(files: Files) -> None:
    """A file of the same size and contents: whether it is the same disk nobody can tell."""
    shutil.copy(files.source, files.source.with_name("other"))
    files.source.with_name("other").replace(files.source)


def grow_the_target(files: Files) -> None:
    with files.target.open("ab") as file:
        file.write(bytes(4096))


def take_another_digest(files: Files) -> None:
    files.words = lambda *more: Files.words(files, "--digest", "sha256", *more)  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("damage", "name"),
    [
        (flip_in_the_header, "CheckpointDamaged"),
        (flip_in_a_row, "CheckpointDamaged"),
        (shorten(lambda size: 0), "CheckpointDamaged"),
        (shorten(lambda size: 100), "CheckpointDamaged"),
        (shorten(lambda size: size - 1), "CheckpointDamaged"),
        (claim_more, "CheckpointDamaged"),
        (forget_the_row, "CheckpointDamaged"),
        (write_something_else, "CheckpointDamaged"),
        (write_as_a_newer_version, "CheckpointVersion"),
        (grow_the_source, "CheckpointMismatch"),
        (shrink_the_source, "CheckpointMismatch"),
        (replace_the_source, "CheckpointMismatch"),
        (take_another_digest, "CheckpointMismatch"),
        (grow_the_target, "TargetRefused"),
    ],
)
@pytest.mark.parametrize("more", [[], ["--force"], ["--resync"]], ids=["", "--force", "--resync"])
def test_what_does_not_fit_is_refused(
    files: Files, damage: Callable[[Files], None], name: str, more: list[str]
) -> None:
    damage(files)
    before, changed = files.target.read_bytes(), files.target.stat().st_mtime_ns
    code, report = files.run(*more)
    assert (code, report["exit_code"], report["failure"]["name"]) == (1, 1, name)
    assert files.target.stat().st_mtime_ns == changed
    assert files.target.read_bytes() == before


def test_a_target_that_is_gone_is_not_made_anew(files: Files) -> None:
    files.target.unlink()
    code, report = files.run()
    assert (code, report["failure"]["name"]) == (1, "OpenFailed")
    assert not files.target.exists()


@needs_loop
@pytest.mark.root
def test_a_checkpoint_of_other_devices_is_refused(tmp_path: Path) -> None:
    """Each of the two disks in its turn is another one, of the same size."""
    size = BLOCKS * BLOCK
    with (
        Loop(tmp_path / "s", size) as source,
        Loop(tmp_path / "t", size) as target,
        Loop(tmp_path / "s2", size) as other_source,
        Loop(tmp_path / "t2", size) as other_target,
    ):
        contents = random.Random(1).randbytes(size)
        for each in (source, other_source):
            each.backing.write_bytes(contents)
        checkpoint = tmp_path / "cp"
        assert tool(source.device, target.device, "--checkpoint", checkpoint)[0] == 0
        unclaim(checkpoint)
        for first, second, field in (
            (other_source, target, "source id"),
            (source, other_target, "target id"),
        ):
            before = second.backing.read_bytes()
            words = [first.device, second.device, "--checkpoint", str(checkpoint), "--force"]
            code, report = tool(*words)
            assert (code, report["failure"]["name"]) == (1, "CheckpointMismatch")
            assert f"its {field} is" in report["failure"]["message"]
            assert second.backing.read_bytes() == before
