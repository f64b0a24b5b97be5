"""A source that cannot be read everywhere: what is copied, what is told, and when the copy gives up."""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from p2vd.copying import controls
from p2vd.copying.layout import BLOCK
from tests.copying.test_tool import Files

SECTOR = 4096
"""What is read of a file at least."""


class SickDisk:
    """The kernel's answers for reads of one file; `bad`: sectors that never answer."""

    def __init__(self, source: Path):
        self._source = source
        self._preadv = os.preadv
        self.bad: set[int] = set()
        self.error = errno.EIO
        self.answers: Callable[[], bool] = lambda: True
        self.order: list[int] = []

    def preadv(self, fd: int, buffers: list[memoryview], offset: int) -> int:
        if Path(f"/proc/self/fd/{fd}").readlink() == self._source:
            self.order.append(offset)
            sectors = range(offset // SECTOR, -(-(offset + len(buffers[0])) // SECTOR))
            if not self.answers() or self.bad.intersection(sectors):
                raise OSError(self.error, os.strerror(self.error))
        return self._preadv(fd, buffers, offset)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    files = Files(tmp_path)
    files.make(40 * BLOCK + 700, data=1)
    return files


@pytest.fixture
def disk(files: Files, monkeypatch: pytest.MonkeyPatch) -> SickDisk:
    sick = SickDisk(files.source)
    monkeypatch.setattr(os, "preadv", sick.preadv)
    # Waiting for a sick disk is what the copy does best; here it has got better at once.
    monkeypatch.setattr(controls.Controls, "wait", lambda self, seconds: None)
    return sick


def expected(files: Files, bad: set[int]) -> bytes:
    contents = bytearray(files.source.read_bytes())
    size = len(contents)
    for sector in bad:
        contents[sector * SECTOR : (sector + 1) * SECTOR] = bytes(SECTOR)
    return bytes(contents[:size])


@pytest.mark.parametrize("verify", ["read-back", "both"])
def test_all_but_the_bad_sectors_is_copied(files: Files, disk: SickDisk, verify: str) -> None:
    disk.bad = {0, 700, 701, 5000, 40 * BLOCK // SECTOR}
    code, report = files.run("--bad-sectors", "5", "--verify", verify)
    assert (code, report["failure"]) == (4, None)
    assert files.target.read_bytes() == expected(files, disk.bad)
    assert report["bad_ranges"] == [
        [0, SECTOR],
        [700 * SECTOR, 2 * SECTOR],
        [5000 * SECTOR, SECTOR],
        [40 * BLOCK, 700],
    ]
    assert report["bytes_bad"] == 4 * SECTOR + 700
    assert report["bytes_copied"] + report["bytes_bad"] == 40 * BLOCK + 700


def test_it_is_told_again_by_a_run_that_copies_nothing(files: Files, disk: SickDisk) -> None:
    disk.bad = {700}
    files.run("--bad-sectors", "5")
    code, report = files.run("--bad-sectors", "5")
    assert code == 4
    assert report["bad_ranges"] == [[700 * SECTOR, SECTOR]]


def test_good_areas_come_first(files: Files, disk: SickDisk) -> None:
    disk.bad = {5000}
    files.run("--bad-sectors", "1", "--queue-depth", "1", "--verify", "none")
    assert disk.order.index(5000 * SECTOR // BLOCK * BLOCK) < disk.order.index(39 * BLOCK)
    assert disk.order.index(39 * BLOCK) < disk.order.index(5000 * SECTOR)


def test_by_default_none_may_be_bad(files: Files, disk: SickDisk) -> None:
    disk.bad = {5000}
    code, report = files.run()
    assert code == 2
    assert report["failure"]["name"] == "ReadFailed"
    disk.bad = set()
    assert files.run()[0] == 0
    assert files.equal()


def test_a_read_that_fails_once_is_read_again(files: Files, disk: SickDisk) -> None:
    answers = iter([True, True, False])
    disk.answers = lambda: next(answers, True)
    code, report = files.run()
    assert (code, report["bytes_bad"]) == (0, 0)
    assert files.equal()


def test_more_than_allowed_ends_the_copy_and_a_later_run_may_allow_more(files: Files, disk: SickDisk) -> None:
    disk.bad = {700, 5000, 9000}
    code, report = files.run("--bad-sectors", "2")
    assert code == 2
    assert report["failure"]["name"] == "TooManyBadSectors"
    assert "more than 2 sectors" in report["failure"]["message"]
    assert report["committed_bytes"] >= 8 * BLOCK
    code, report = files.run("--bad-sectors", "3")
    assert code == 4
    assert report["bytes_skipped"] >= 8 * BLOCK
    assert report["bytes_bad"] == 3 * SECTOR
    assert files.target.read_bytes() == expected(files, disk.bad)


def test_a_disk_that_is_gone_is_no_disk_with_bad_sectors(files: Files, disk: SickDisk) -> None:
    """All paths lost: every read fails with the same error as a bad sector."""
    reads = iter(range(30))
    disk.answers = lambda: next(reads, None) is not None
    code, report = files.run("--bad-sectors", "100000")
    assert code == 2
    assert "every other place" in report["failure"]["message"]
    disk.answers = lambda: True
    code, report = files.run("--bad-sectors", "100000")
    assert (code, report["bytes_bad"]) == (0, 0)
    assert files.equal()


def test_an_error_that_is_not_of_the_medium_ends_the_copy(files: Files, disk: SickDisk) -> None:
    disk.bad, disk.error = {5000}, errno.ENODEV
    code, report = files.run("--bad-sectors", "9")
    assert (code, report["failure"]["name"]) == (2, "ReadFailed")


def test_sectors_that_go_bad_after_they_were_copied_do_not_end_it(files: Files, disk: SickDisk) -> None:
    """The sample of the source at the end passes over them; `both`, which must read them, fails."""
    copied = files.run("--bad-sectors", "9", "--verify", "none")
    assert copied[0] == 0
    disk.bad = {700}
    code, report = files.run("--bad-sectors", "9", "--verify", "read-back")
    assert (code, report["bytes_bad"]) == (0, 0)
    code, report = files.run("--bad-sectors", "9", "--verify", "both")
    assert (code, report["failure"]["name"]) == (2, "ReadFailed")


@pytest.mark.parametrize("seed", range(8))
def test_any_pattern_of_bad_sectors(files: Files, disk: SickDisk, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(chance.randrange(1, 12)):
        start = chance.randrange(40 * BLOCK // SECTOR)
        disk.bad |= set(range(start, min(start + chance.choice([1, 2, 9, 300]), 40 * BLOCK // SECTOR)))
    code, report = files.run("--bad-sectors", "100000")
    assert code == 4
    assert files.target.read_bytes() == expected(files, disk.bad)
    assert report["bytes_bad"] == len(disk.bad) * SECTOR
    listed = {n // SECTOR for at, length in report["bad_ranges"] for n in range(at, at + length, SECTOR)}
    assert listed == disk.bad


def test_the_mapfile_says_where(files: Files, disk: SickDisk, tmp_path: Path) -> None:
    disk.bad = {700, 701}
    mapfile = tmp_path / "map"
    files.run("--bad-sectors", "5", "--mapfile", str(mapfile))
    lines = [line.split() for line in mapfile.read_text().splitlines() if not line.startswith("#")]
    blocks = [(int(start, 16), int(length, 16), status) for start, length, status in lines[1:]]
    size = 40 * BLOCK + 700
    bad, after = 700 * SECTOR, 702 * SECTOR
    assert blocks == [(0, bad, "+"), (bad, 2 * SECTOR, "-"), (after, size - after, "+")]


@pytest.mark.skipif(shutil.which("ddrescuelog") is None, reason="GNU ddrescue (gddrescue) is not installed")
def test_ddrescue_reads_the_mapfile(files: Files, disk: SickDisk, tmp_path: Path) -> None:
    disk.bad = {700, 5000}
    mapfile = tmp_path / "map"
    files.run("--bad-sectors", "5", "--mapfile", str(mapfile))
    shown = subprocess.run(
        ["ddrescuelog", "--list-blocks=-", "--block-size", str(SECTOR), str(mapfile)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.split() == ["700", "5000"]


def test_a_mapfile_of_a_copy_that_was_stopped_shows_what_is_left(files: Files, tmp_path: Path) -> None:
    mapfile = tmp_path / "map"
    words = [*files.words("--json", "--bandwidth", "10M", "--mapfile", str(mapfile))]
    slow = subprocess.Popen(
        [sys.executable, "-m", "p2vd.copying.worker", *words], stdout=subprocess.PIPE, text=True
    )
    assert slow.stdout is not None
    for line in slow.stdout:
        if json.loads(line).get("committed_bytes", 0) > 0:
            break
    slow.send_signal(signal.SIGTERM)
    rest, _ = slow.communicate()
    committed = json.loads(rest.splitlines()[-1])["committed_bytes"]
    lines = [line.split() for line in mapfile.read_text().splitlines() if not line.startswith("#")]
    done = sum(int(length, 16) for _, length, status in lines[1:] if status == "+")
    left = sum(int(length, 16) for _, length, status in lines[1:] if status == "?")
    assert (done, left) == (committed, 40 * BLOCK + 700 - committed)
    assert lines[0][1] == "?"


def test_a_mapfile_that_cannot_be_written_is_told_before_the_copy(files: Files, tmp_path: Path) -> None:
    code, report = files.run("--mapfile", str(tmp_path / "missing" / "map"))
    assert code == 1
    assert report["failure"]["name"] == "MapfileUnwritable"
    assert report["bytes_copied"] == 0


@pytest.mark.parametrize(
    "words", [["--bad-sectors", "-1"], ["--bad-sectors", "many"], ["--bad-sectors", "1000000"]]
)
def test_a_number_that_is_none_is_refused(files: Files, words: list[str]) -> None:
    assert files.run(*words)[0] == 1
    assert not files.target.exists()
