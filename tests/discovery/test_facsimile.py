"""The facsimile of a disk: real tools find on it what is on the disk, and never what a hole reads as."""

import errno
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from p2vd.discovery.examiner import Examiner
from p2vd.discovery.facsimile import (
    MOST_BYTES,
    Facsimile,
    FacsimileTools,
    ReadsUntold,
    TooFarSpread,
)
from p2vd.discovery.partitions import parse_probe
from p2vd.model.contents import Contents, Signature, Table
from p2vd.model.size import GIB, MIB, TIB
from p2vd.system.command import CommandFailed
from tests.copying.nbd_server import needs
from tests.discovery.recorded_disk import WHOLE, examined, recorded

pytestmark = [pytest.mark.slow, needs("blkid", "partx")]

BLKID = ("blkid", "--probe", "--output", "udev")


@dataclass
class Fetched:
    """A disk that counts what is fetched of it."""

    file: Path
    places: list[tuple[int, int]] = field(default_factory=list)

    def __call__(self, offset: int, length: int) -> bytes:
        self.places.append((offset, length))
        with self.file.open("rb") as file:
            return os.pread(file.fileno(), length, offset)


@pytest.fixture
def far_label(tmp_path: Path) -> Path:
    """A FAT32 whose label stands only in its root directory, MiBs from where it begins."""
    path = tmp_path / "fat"
    with path.open("wb") as file:
        file.truncate(4 * GIB)
    subprocess.run(["mkfs.vfat", "-F", "32", "-n", "FAR", str(path)], check=True, capture_output=True)
    with path.open("r+b") as file:
        for sector in (0, 6):  # the boot sector, and its copy
            file.seek(sector * 512 + 71)
            file.write(b"NO NAME    ")
    return path


@pytest.fixture
def made() -> Iterator[list[Facsimile]]:
    disks: list[Facsimile] = []
    yield disks
    for disk in disks:
        disk.close()


def of_file(path: Path, made: list[Facsimile]) -> tuple[Facsimile, Fetched]:
    fetched = Fetched(path)
    made.append(Facsimile(path.stat().st_size, 512, fetched))
    return made[-1], fetched


def zeros(offset: int, length: int) -> bytes:
    return bytes(length)


def look(disk: Facsimile, sector_size: int = 0) -> Contents:
    return Examiner(FacsimileTools(disk), sector_size).examine(disk)


@pytest.mark.parametrize("name", WHOLE)
def test_the_real_tools_find_what_they_found_on_the_device(name: str, made: list[Facsimile]) -> None:
    disk, _ = recorded(name)
    made.append(Facsimile(disk.size_bytes, disk.sector_size, disk.sparse_read))
    assert look(made[0], 4096 if disk.sector_size == 4096 else 0) == examined(name)


def test_sectors_that_nobody_told_make_a_gpt_look_damaged(made: list[Facsimile]) -> None:
    """What telling them is for: NBD does not, and blkid cannot be told."""
    disk, _ = recorded("gpt-4k")
    made.append(Facsimile(disk.size_bytes, disk.sector_size, disk.sparse_read))
    assert look(made[0]).table is Table.GPT_DAMAGED


def test_a_gpt_for_other_sectors_than_was_told_is_named(made: list[Facsimile]) -> None:
    for name, told in (("gpt-uefi", 4096), ("gpt-4k", 0)):
        disk, _ = recorded(name)
        made.append(Facsimile(disk.size_bytes, told or 512, disk.sparse_read))
        found = look(made[-1], told)
        assert (found.table, found.partitions) == (Table.GPT_OTHER_SECTORS, ())


@needs("mkfs.vfat")
def test_what_lies_far_from_the_edges_is_fetched_before_it_is_believed(
    far_label: Path, made: list[Facsimile]
) -> None:
    disk, fetched = of_file(far_label, made)
    disk.read(0, MIB)
    disk.read(4 * GIB - MIB, MIB)
    argv = [*BLKID, f"/proc/{os.getpid()}/fd/{disk.fd}"]
    too_early = subprocess.run(argv, check=False, capture_output=True, text=True).stdout
    assert "LABEL=FAR" not in too_early, "this disk shows nothing: holes are no danger to it"
    signature, _ = parse_probe(FacsimileTools(disk).query([*BLKID, disk.path]).stdout)
    assert (signature.type, signature.label) == ("vfat", "FAR")
    assert sum(length for _, length in fetched.places) < 16 * MIB


def test_each_place_is_fetched_once(far_label: Path, made: list[Facsimile]) -> None:
    disk, fetched = of_file(far_label, made)
    look(disk)
    once = list(fetched.places)
    assert look(disk).signature.label == "FAR"
    assert fetched.places == once
    assert disk.fetched_bytes <= sum(length for _, length in once) <= MOST_BYTES


def test_a_large_disk_of_zeros_is_blank_and_costs_little(made: list[Facsimile]) -> None:
    made.append(Facsimile(100 * TIB + 512, 512, zeros))
    found = look(made[0])
    assert (found.blank, found.table, found.signature) == (True, Table.NONE, Signature())
    assert made[0].fetched_bytes < 8 * MIB


def test_reads_end_where_the_disk_ends(made: list[Facsimile]) -> None:
    made.append(Facsimile(MIB + 512, 512, lambda offset, length: b"x" * length))
    assert made[0].read(MIB, 4096) == b"x" * 512
    assert made[0].read(MIB + 512, 10) == made[0].read(1 << 70, 10) == b""


# ---- what must not be taken for a disk with nothing on it -------------------------------------------


def a_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a blkid of ours before the system's."""
    path = tmp_path / "bin/blkid"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")


@pytest.fixture
def disk(made: list[Facsimile]) -> Facsimile:
    made.append(Facsimile(TIB, 512, zeros))
    return made[0]


def test_a_tool_that_gives_no_account_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disk: Facsimile
) -> None:
    a_tool(tmp_path, monkeypatch, "exit 2")
    with pytest.raises(ReadsUntold, match="blkid gives no account of what it reads"):
        look(disk)


@pytest.mark.parametrize("script", ["exit 3", "echo '1: libblkid: LOWPROBE: read: off=0 len=9' >&2; exit 3"])
def test_a_tool_that_fails_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disk: Facsimile, script: str
) -> None:
    a_tool(tmp_path, monkeypatch, script)
    with pytest.raises(CommandFailed, match="exit status 3: it said nothing"):
        look(disk)


@pytest.mark.parametrize("account", [f"off=0 len={2 * MOST_BYTES}", f"off=0 len={1 << 62}"])
def test_a_tool_that_wants_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disk: Facsimile, account: str
) -> None:
    a_tool(tmp_path, monkeypatch, f"echo '1: libblkid: LOWPROBE: \tread: {account}' >&2")
    with pytest.raises(TooFarSpread, match="are asked for"):
        look(disk)
    assert disk.fetched_bytes <= MOST_BYTES


def test_a_tool_that_wants_ever_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disk: Facsimile
) -> None:
    counted = f"n=$(($(cat {tmp_path}/n 2>/dev/null || echo 1) + 1)); echo $n >{tmp_path}/n"
    a_tool(
        tmp_path, monkeypatch, f'{counted}; echo "1: libblkid: LOWPROBE: read: off=${{n}}000000 len=9" >&2'
    )
    with pytest.raises(TooFarSpread, match="40 times for more"):
        look(disk)


def test_many_places_are_no_way_around_the_bound(disk: Facsimile) -> None:
    with pytest.raises(TooFarSpread, match="more than 128 MiB"):
        disk.fill((at * MIB, 32 << 10) for at in range(5000))
    for at in range(128):
        disk.read(at * GIB, MIB)
    with pytest.raises(TooFarSpread, match="more than 128 MiB"):
        disk.read(TIB - MIB, MIB)
    assert disk.fetched_bytes <= MOST_BYTES


def test_a_disk_that_gives_less_than_it_says(made: list[Facsimile]) -> None:
    made.append(Facsimile(GIB, 512, lambda offset, length: bytes(max(0, min(length, MIB - offset)))))
    with pytest.raises(OSError, match="were asked for") as raised:
        look(made[0])
    assert raised.value.errno == errno.EIO
