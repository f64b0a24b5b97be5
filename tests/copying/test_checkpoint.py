"""The checkpoint: what it keeps, and that no damage passes for a checkpoint."""

import random
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from p2vd.copying.checkpoint import Checkpoint, Header
from p2vd.copying.digests import DigestKind
from p2vd.copying.errors import (
    CheckpointDamaged,
    CheckpointLocked,
    CheckpointMismatch,
    CheckpointMissing,
    CheckpointUnwritable,
    CheckpointVersion,
    CopyError,
)
from p2vd.copying.layout import BLOCK, REGION_BLOCKS
from p2vd.copying.region import Region
from p2vd.copying.store import open_checkpoint
from p2vd.copying.terms import Binding

KIND = DigestKind.XXH3
SIZE = (REGION_BLOCKS + 10) * BLOCK
BINDING = Binding("job", 1, "wwid", SIZE, 512, "vg/lv")
HEADER = Header(BINDING, SIZE, "xxh3")


def some_region(number: int = 0, count: int = 3) -> Region:
    region = Region(number, REGION_BLOCKS if number == 0 else 10, KIND, touched=True)
    region.mark(2, count, random.Random(number).randbytes(16 * count))
    return region


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A checkpoint with two regions, closed."""
    path = tmp_path / "checkpoint"
    checkpoint = open_checkpoint(path, HEADER)
    checkpoint.commit([some_region(0), some_region(1)], data_bytes=7, window=((2, 3),))
    checkpoint.close()
    return path


def test_what_was_committed_is_there_again(path: Path) -> None:
    checkpoint = open_checkpoint(path, HEADER)
    assert checkpoint.header.data_bytes == 7
    assert checkpoint.header.window == ((2, 3),)
    assert checkpoint.begun == {0: some_region(0), 1: some_region(1)}
    assert checkpoint.complete == set()
    assert checkpoint.load(1) == some_region(1)


def test_a_complete_region_of_zeros_costs_no_digests(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(tmp_path / "checkpoint", HEADER)
    region = Region(0, REGION_BLOCKS, KIND)
    region.mark(0, REGION_BLOCKS, KIND.zero() * REGION_BLOCKS)
    assert region.pack()[1] == b""
    checkpoint.commit([region])
    assert checkpoint.load(0) == region


def test_a_second_worker_is_locked_out(path: Path) -> None:
    checkpoint = open_checkpoint(path, HEADER)
    with pytest.raises(CheckpointLocked):
        open_checkpoint(path, HEADER)
    checkpoint.close()


@pytest.mark.parametrize(
    ("header", "field"),
    [
        (replace(HEADER, binding=replace(BINDING, source_id="other")), "source id"),
        (replace(HEADER, binding=replace(BINDING, target_id="other")), "target id"),
        (replace(HEADER, binding=replace(BINDING, job="other")), "job"),
        (replace(HEADER, binding=replace(BINDING, generation=2)), "generation"),
        (replace(HEADER, binding=replace(BINDING, source_sector_size=4096)), "source sector size"),
        (replace(HEADER, binding=replace(BINDING, source_size_bytes=SIZE - 512)), "source size bytes"),
        (replace(HEADER, target_bytes=SIZE + BLOCK), "target size in bytes"),
        (replace(HEADER, digest="sha256"), "digest"),
    ],
)
def test_another_copys_checkpoint_is_refused_by_what_differs(path: Path, header: Header, field: str) -> None:
    with pytest.raises(CheckpointMismatch, match=f"its {field} is"):
        open_checkpoint(path, header)


def test_one_that_must_be_there_is_missed(tmp_path: Path) -> None:
    with pytest.raises(CheckpointMissing):
        open_checkpoint(tmp_path / "checkpoint", HEADER, must_exist=True)


def test_one_of_a_newer_version_is_refused(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 2")
    db.close()
    with pytest.raises(CheckpointVersion, match="version 2"):
        open_checkpoint(path, HEADER)


def test_a_row_that_is_missing_or_old_is_noticed(path: Path) -> None:
    with sqlite3.connect(path) as db:
        old = db.execute("SELECT * FROM region WHERE number = 1").fetchone()
    db.close()
    checkpoint = open_checkpoint(path, HEADER)
    checkpoint.commit([some_region(1, count=5)])
    checkpoint.close()
    for statement in (
        "DELETE FROM region WHERE number = 1",
        "INSERT OR REPLACE INTO region VALUES (?,?,?,?,?,?)",
    ):
        copy = path.with_name("copy")
        shutil.copy(path, copy)
        with sqlite3.connect(copy) as db:
            db.execute(statement, old if "?" in statement else ())
        db.close()
        with pytest.raises(CheckpointDamaged, match="missing or old"):
            Checkpoint.open(copy)


def test_another_file_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    for contents in (b"", b"hello", bytes(4096)):
        path.write_bytes(contents)
        with pytest.raises(CheckpointDamaged):
            Checkpoint.open(path)


def test_one_that_cannot_be_made_is_unwritable(tmp_path: Path) -> None:
    with pytest.raises(CheckpointUnwritable):
        open_checkpoint(tmp_path / "no" / "checkpoint", HEADER)


def test_a_full_disk_ends_the_commit(path: Path) -> None:
    checkpoint = open_checkpoint(path, HEADER)
    checkpoint.commit([], window=())
    checkpoint._db.execute("PRAGMA max_page_count = 1")  # what a full filesystem answers, without one
    big = some_region(0, count=1000)
    with pytest.raises(CheckpointUnwritable, match="full"):
        checkpoint.commit([big])
    assert checkpoint.load(0) == some_region(0)
    checkpoint._db.execute("PRAGMA max_page_count = 1000000")
    checkpoint.commit([some_region(0, count=9)])
    checkpoint.close()
    assert open_checkpoint(path, HEADER).begun == {0: some_region(0, count=9), 1: some_region(1)}


def test_a_row_that_becomes_an_older_one_is_noticed(path: Path) -> None:
    checkpoint = open_checkpoint(path, HEADER)
    old = checkpoint._db.execute("SELECT * FROM region WHERE number = 1").fetchone()
    checkpoint.commit([some_region(1, count=5)])
    assert checkpoint.load(1) == some_region(1, count=5)
    checkpoint._db.execute("INSERT OR REPLACE INTO region VALUES (?,?,?,?,?,?)", old)
    with pytest.raises(CheckpointDamaged, match="changed behind our back"):
        checkpoint.load(1)
    checkpoint.close()


def damaged_or_same(path: Path, original: Header) -> None:
    """Damage is refused by name, or was where nothing is."""
    for leftover in (path.with_name(path.name + "-wal"), path.with_name(path.name + "-journal")):
        leftover.unlink(missing_ok=True)
    try:
        checkpoint = Checkpoint.open(path)
    except CopyError:
        return
    try:
        assert replace(checkpoint.header, sequence=original.sequence) == original
        assert checkpoint.begun == {0: some_region(0), 1: some_region(1)}
    finally:
        checkpoint.close()


def check_damage(path: Path, positions: range | list[int], truncations: range | list[int]) -> None:
    checkpoint = Checkpoint.open(path)
    original = checkpoint.header
    checkpoint.close()
    whole = path.read_bytes()
    victim = path.with_name("victim")
    for position in positions:
        flipped = bytearray(whole)
        flipped[position] ^= 1 << position % 8
        victim.write_bytes(flipped)
        damaged_or_same(victim, original)
    for length in truncations:
        victim.write_bytes(whole[:length])
        damaged_or_same(victim, original)


def test_flipped_bits_and_truncation_never_pass(path: Path) -> None:
    size, chance = path.stat().st_size, random.Random(1)
    check_damage(path, [*range(100), *chance.sample(range(size), 300)], chance.sample(range(size), 60))


@pytest.mark.campaign
def test_every_byte_and_every_length(path: Path) -> None:
    size = path.stat().st_size
    check_damage(path, range(size), range(size))


def states_of_a_killed_commit(path: Path) -> tuple[Checkpoint, bytes, bytes]:
    """Commit once more; return the checkpoint, and its files as a kill right after the commit leaves them.

    At that moment the commit is in the write-ahead log only.
    """
    checkpoint = Checkpoint.open(path)
    kept: list[bytes] = []

    def look(statement: str) -> None:
        if statement.startswith("PRAGMA wal_checkpoint"):
            kept[:] = [path.read_bytes(), path.with_name(path.name + "-wal").read_bytes()]

    checkpoint._db.set_trace_callback(look)
    checkpoint.commit([some_region(1, count=7)], data_bytes=9)
    return checkpoint, kept[0], kept[1]


def test_a_commit_that_a_kill_left_in_the_log_is_there(path: Path) -> None:
    after, main, log = states_of_a_killed_commit(path)
    after.close()
    victim = path.with_name("victim")
    victim.write_bytes(main)
    victim.with_name("victim-wal").write_bytes(log)
    checkpoint = Checkpoint.open(victim)
    assert (checkpoint.header.data_bytes, checkpoint.begun[1]) == (9, some_region(1, count=7))
    checkpoint.close()


def test_a_damaged_log_costs_at_most_the_commit_in_it(path: Path) -> None:
    """No write that the commit allowed has begun: that waits until the log was emptied."""
    after, main, log = states_of_a_killed_commit(path)
    after.close()
    chance, victim = random.Random(1), path.with_name("victim")
    flips = [*range(64), *chance.sample(range(len(log)), 150)]
    damaged = [log[:at] + bytes([log[at] ^ 1 << chance.randrange(8)]) + log[at + 1 :] for at in flips]
    damaged += [log[:length] for length in chance.sample(range(len(log)), 60)]
    seen = set()
    for bad_log in damaged:
        victim.write_bytes(main)
        victim.with_name("victim-wal").write_bytes(bad_log)
        try:
            checkpoint = Checkpoint.open(victim)
        except CopyError:
            continue
        seen.add(checkpoint.header.data_bytes)
        assert checkpoint.begun == {0: some_region(0), 1: some_region(1)}
        checkpoint.close()
    assert seen == {7}
