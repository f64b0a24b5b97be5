"""`p2vd-copy` and sizes that no disk should have: exact to the byte, and no bigger for being long."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from p2vd.copying.layout import BLOCK, REGION_BLOCKS
from p2vd.model.size import GIB, KIB, TIB
from tests.copying.test_block import tool
from tests.copying.test_tool import Files
from tests.loop import Loop, needs_loop

HUGE = 16 * TIB - 3 * BLOCK + 700
"""As long as a file of ext4 can be, about, and no multiple of anything."""

# Not ru_maxrss of a child: that begins with the memory of the process that forked it.
TELLS_ITS_MEMORY = """
import re, sys
from pathlib import Path
from p2vd.copying.worker import main
code = main(sys.argv[1:])
print(re.search("VmHWM:.*", Path("/proc/self/status").read_text())[0], file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize(
    "size",
    [2, 511, 513, 5 * 512, 4095, 4097, 3 * 4096, BLOCK - 1, BLOCK + 1, 2 * BLOCK + 3 * 512, 7 * BLOCK + 4097],
)
@pytest.mark.parametrize("data", [1.0, 0.4], ids=["data", "data and holes"])
def test_a_file_is_copied_to_its_last_byte(tmp_path: Path, size: int, data: float) -> None:
    files = Files(tmp_path)
    files.make(size, seed=size, data=data)
    code, report = files.run("--verify", "both")
    assert (code, report["failure"]) == (0, None)
    assert files.equal()
    assert report["bytes_copied"] + report["bytes_zero"] == report["bytes_verified"] == size


@pytest.mark.root
@needs_loop
@pytest.mark.parametrize("sector", [512, 4096])
@pytest.mark.parametrize("sectors", [0, 1, 3])
def test_a_device_of_a_few_sectors(tmp_path: Path, sector: int, sectors: int) -> None:
    with (
        Loop(tmp_path / "s", sectors * sector, sector) as source,
        Loop(tmp_path / "t", (sectors + 2) * sector, sector) as target,
    ):
        source.backing.write_bytes(random.Random(sector).randbytes(sectors * sector))
        target.backing.write_bytes(b"\xa5" * (sectors + 2) * sector)
        words = ["--checkpoint", str(tmp_path / "cp"), "--force", "--verify", "both"]
        code, report = tool(source.device, target.device, *words)
        assert (code, report["failure"]) == (0, None)
        assert target.backing.read_bytes() == source.backing.read_bytes() + bytes(2 * sector)
        assert report["bytes_copied"] == sectors * sector


def data_in(path: Path) -> Iterator[tuple[int, bytes]]:
    """What a sparse file holds besides zeros, block by block."""
    with path.open("rb") as file:
        end, at = file.seek(0, os.SEEK_END), 0
        while at < end:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA) // BLOCK * BLOCK
            except OSError:  # ENXIO: only holes from here on
                return
            file.seek(at)
            contents = file.read(BLOCK)
            if any(contents):
                yield at, contents.rstrip(b"\0")
            at += BLOCK


def copied(directory: Path, size: int, places: dict[int, bytes]) -> tuple[dict[str, Any], int]:
    """Copy a sparse file with some bytes in some places; return the report and the peak memory in bytes."""
    directory.mkdir()
    files = Files(directory)
    with files.source.open("wb") as file:
        file.truncate(size)
        for at, contents in places.items():
            file.seek(at)
            file.write(contents)
    argv = [sys.executable, "-c", TELLS_ITS_MEMORY, *files.words("--json")]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    report = json.loads(done.stdout.splitlines()[-1])
    assert files.target.stat().st_size == size
    assert list(data_in(files.target)) == list(data_in(files.source))
    assert files.target.stat().st_blocks * 512 < (len(places) + 1) * BLOCK
    return report, int(done.stderr.split()[-2]) * KIB


def places(size: int) -> dict[int, bytes]:
    return {0: b"first", size // 3: b"across" * 20_000, size // 2: b"middle", size - 4: b"last"}


@pytest.fixture(scope="module")
def huge(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], int, int]:
    """The report of a copy of 16 TiB, its peak memory, and that of a copy of 16 GiB."""
    directory = tmp_path_factory.mktemp("huge")
    _, small_memory = copied(directory / "small", 16 * GIB, places(16 * GIB))
    try:
        report, memory = copied(directory / "huge", HUGE, places(HUGE))
    except OSError as error:
        pytest.skip(f"{directory} cannot hold a sparse file of 16 TiB: {error}")
    return report, memory, small_memory


def test_sixteen_tib_are_copied_to_the_last_byte(huge: tuple[dict[str, Any], int, int]) -> None:
    report, _, _ = huge
    assert report["bytes_copied"] + report["bytes_zero"] == report["bytes_verified"] == HUGE


def test_memory_is_flat(huge: tuple[dict[str, Any], int, int]) -> None:
    """A region costs a checksum and entries of tables, less than 1 KiB; digests only while it is open."""
    _, memory, small_memory = huge
    more_regions = (HUGE - 16 * GIB) // (REGION_BLOCKS * BLOCK)
    print(f"peak {memory // KIB} KiB for 16 TiB, {small_memory // KIB} KiB for 16 GiB")
    assert memory - small_memory < more_regions * KIB
