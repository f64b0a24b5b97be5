"""A volume read again by a process of its own: against each MiB's digest, or that of the whole."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from p2vd.copying.checkpoint import Checkpoint
from p2vd.copying.errors import CheckpointDamaged
from p2vd.copying.layout import BLOCK
from p2vd.copying.verification import VERSION, VerifyProgress, VerifyReport, VerifyStart, decode, encode
from p2vd.copying.verifier import Witness
from p2vd.system.descriptors import SeqpacketChannel
from p2vd.system.process import spawn
from tests.copying.daemon import NOBODY, PATIENCE_S, SIZE, Daemon
from tests.loop import Loop, needs_loop

TARGET = SIZE + 4 * BLOCK
WHOLE = "whole-digest"


@dataclass
class Copied:
    """A copy that is done: its target, its checkpoint, and what a verification of it is told."""

    target: Path
    checkpoint: Path
    start: VerifyStart

    def verify(self, flags: int = os.O_RDONLY, **changes: Any) -> VerifyReport:
        """Have the target read by a process; return its report."""
        ours, theirs = SeqpacketChannel.pair()
        program = [sys.executable, "-m", "p2vd.copying.verifier", "--channel", str(theirs.fileno())]
        child = spawn([*program, "--verify", "job"], theirs.fileno())
        theirs.close()
        fd = os.open(self.target, flags)
        with ours:
            ours.send(encode(replace(self.start, **changes)), [fd])
            os.close(fd)
            while True:
                packet = ours.receive(PATIENCE_S)
                assert packet is not None, "it ended without a report"
                message = decode(packet[0])
                if isinstance(message, VerifyReport):
                    break
                assert isinstance(message, VerifyProgress)
        assert child.wait(PATIENCE_S) == (message.failure is not None)
        return message

    def write(self, offset: int, data: bytes) -> None:
        with self.target.open("r+b") as file:
            file.seek(offset)
            file.write(data)


@pytest.fixture
def copied(daemon: Daemon) -> Copied:
    daemon.begin()
    _, report = daemon.end()
    checkpoint = Path(daemon.start.checkpoint_path)
    start = VerifyStart(
        VERSION, "job", 1, TARGET, SIZE, report.digest, str(checkpoint), worker_uid=NOBODY, worker_gid=NOBODY
    )
    return Copied(daemon.target, checkpoint, start)


def test_a_volume_that_nobody_touched_is_unchanged(copied: Copied) -> None:
    report = copied.verify()
    assert report == VerifyReport(TARGET, equal=True, against="digests")


def test_a_difference_is_told_by_its_mebibyte(copied: Copied) -> None:
    copied.write(3 * BLOCK + 17, b"x")
    copied.write(4 * BLOCK, b"y")
    copied.write(9 * BLOCK + 1, b"z")
    report = copied.verify()
    assert (report.equal, report.differing_bytes) == (False, 3 * BLOCK)
    assert report.differing == ((3 * BLOCK, 2 * BLOCK), (9 * BLOCK, BLOCK))


@pytest.mark.parametrize("offset", [SIZE, TARGET - 1])
def test_what_is_beyond_the_source_has_to_be_zero(copied: Copied, offset: int) -> None:
    copied.write(offset, b"x")
    assert [start for start, _ in copied.verify().differing] == [offset // BLOCK * BLOCK]


def lose(path: Path) -> None:
    path.unlink()


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100] + bytes(100))


def interrupt(path: Path) -> None:
    path.with_name(path.name + "-wal").write_bytes(b"x")


@pytest.mark.parametrize("spoil", [lose, damage, interrupt])
def test_without_a_checkpoint_the_whole_is_compared(copied: Copied, spoil: Callable[[Path], None]) -> None:
    spoil(copied.checkpoint)
    report = copied.verify()
    assert (report.equal, report.against) == (True, WHOLE)
    assert report.without_checkpoint
    copied.write(5, b"x")
    report = copied.verify()
    assert (report.equal, report.differing) == (False, ())


@pytest.mark.parametrize("change", [{"job": "other"}, {"generation": 2}])
def test_the_checkpoint_of_another_copy_is_not_believed(copied: Copied, change: dict[str, Any]) -> None:
    report = copied.verify(**change)
    assert (report.equal, report.against) == (True, WHOLE)
    assert "is of another copy" in report.without_checkpoint


def test_a_checkpoint_that_is_not_the_receipts_is_not_believed(copied: Copied) -> None:
    report = copied.verify(digest="xxh3:" + "0" * 32)
    assert (report.equal, report.against) == (False, WHOLE)
    assert "are not those of the receipt" in report.without_checkpoint


def test_a_descriptor_that_could_write_is_refused(copied: Copied) -> None:
    report = copied.verify(flags=os.O_RDWR)
    assert report.failure is not None
    assert "with the right to write" in report.failure.message


def test_a_volume_that_became_smaller_is_refused(copied: Copied) -> None:
    os.truncate(copied.target, TARGET - BLOCK)
    report = copied.verify()
    assert report.failure is not None
    assert f"it has {TARGET - BLOCK} bytes" in report.failure.message


def test_a_volume_that_grew_is_read_as_far_as_the_receipt_goes(copied: Copied) -> None:
    copied.write(TARGET, b"more")
    assert copied.verify().equal


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"version": VERSION + 1}, "this process"),
        ({"threads": 0}, "0 threads"),
        ({"digest": "md5:1"}, "'md5' is no digest"),
    ],
)
def test_a_start_that_makes_no_sense_is_refused(copied: Copied, change: dict[str, Any], told: str) -> None:
    report = copied.verify(**change)
    assert report.failure is not None
    assert (report.failure.name, told in report.failure.message) == ("ProtocolMismatch", True)


def test_it_ends_when_the_daemon_is_gone(copied: Copied) -> None:
    ours, theirs = SeqpacketChannel.pair()
    program = [sys.executable, "-m", "p2vd.copying.verifier", "--channel", str(theirs.fileno())]
    child = spawn(program, theirs.fileno())
    theirs.close()
    fd = os.open(copied.target, os.O_RDONLY)
    ours.send(encode(replace(copied.start, bandwidth_bytes_per_s=1 << 20)), [fd])
    os.close(fd)
    ours.receive(PATIENCE_S)
    ours.close()
    assert child.wait(PATIENCE_S) != 0


def test_reading_a_checkpoint_leaves_it_as_it_is(copied: Copied) -> None:
    before = copied.checkpoint.read_bytes()
    names = sorted(copied.checkpoint.parent.iterdir())
    checkpoint = Checkpoint.read(copied.checkpoint)
    assert checkpoint.whole_digest() == copied.start.digest
    assert checkpoint.load(0) is not None
    checkpoint.close()
    assert copied.checkpoint.read_bytes() == before
    assert sorted(copied.checkpoint.parent.iterdir()) == names


def test_an_empty_checkpoint_is_a_damaged_one(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").touch()
    with pytest.raises(CheckpointDamaged):
        Checkpoint.read(tmp_path / "checkpoint")
    with pytest.raises(FileNotFoundError):
        Checkpoint.read(tmp_path / "none")


@needs_loop
def test_writes_to_a_device_are_counted_while_it_is_read(tmp_path: Path) -> None:
    with Loop(tmp_path / "disk", 4 * BLOCK) as disk:
        fd = os.open(disk.device, os.O_RDONLY | os.O_DIRECT)
        try:
            witness = Witness.of(fd)
            before = witness.writes()
            assert before >= 0
            assert witness.sequence.isdigit()
            assert witness.dm_uuid() == ""
            with Path(disk.device).open("r+b") as file:
                file.write(b"x")
                file.flush()
                os.fsync(file.fileno())
            assert witness.writes() > before
        finally:
            os.close(fd)
