"""`p2vd-copy` on loop devices: old bytes, odd sizes, SIGKILL, and targets that refuse."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from p2vd.copying.layout import BLOCK
from tests.loop import Loop, needs_loop

pytestmark = [pytest.mark.root, needs_loop]

SIZE = 40 * BLOCK + 12 * 4096
TARGET = 48 * BLOCK


def tool(*words: str | Path) -> tuple[int, dict[str, Any]]:
    argv = [sys.executable, "-m", "p2vd.copying.worker", *map(str, words), "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


def fill(path: Path, size: int, seed: int) -> None:
    """Data in about a third of the 64 KiB parts, zeros elsewhere."""
    chance = random.Random(seed)
    with path.open("r+b") as file:
        for at in range(0, size, 65536):
            if chance.random() < 0.3:
                file.seek(at)
                file.write(chance.randbytes(min(65536, size - at)))


@pytest.fixture(params=[512, 4096], ids=["512-byte sectors", "4096-byte sectors"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Loop, Loop]]:
    """A source, and a larger target that is full of old bytes."""
    sector = request.param
    with Loop(tmp_path / "s", SIZE, sector) as source, Loop(tmp_path / "t", TARGET, sector) as target:
        fill(source.backing, SIZE, 1)
        target.backing.write_bytes(b"\xa5" * TARGET)
        yield source, target


def identical(source: Loop, target: Loop) -> bool:
    return source.backing.read_bytes() + bytes(TARGET - SIZE) == target.backing.read_bytes()


def test_old_bytes_become_zeros_and_the_tail_too(pair: tuple[Loop, Loop], tmp_path: Path) -> None:
    source, target = pair
    words = [source.device, target.device, "--checkpoint", str(tmp_path / "cp")]
    code, report = tool(*words)
    assert (code, report["failure"]["name"]) == (1, "TargetRefused")
    assert not (tmp_path / "cp").exists()
    code, report = tool(*words, "--target-is-zero", "--force")
    assert (code, report["failure"]["name"]) == (1, "TargetRefused")
    code, report = tool(*words, "--force")
    assert (code, report["failure"]) == (0, None)
    assert identical(source, target)
    assert report["bytes_copied"] + report["bytes_zero"] == SIZE


def test_a_target_that_is_zero_keeps_its_holes(tmp_path: Path) -> None:
    with Loop(tmp_path / "s", SIZE) as source, Loop(tmp_path / "t", TARGET) as target:
        fill(source.backing, SIZE, 2)
        code, _ = tool(source.device, target.device, "--checkpoint", tmp_path / "cp", "--target-is-zero")
        assert code == 0
        assert identical(source, target)
        assert target.backing.stat().st_blocks * 512 < SIZE // 2


def kill_and_resume(source: Loop, target: Loop, directory: Path, seed: int, more: list[str]) -> None:
    chance = random.Random(seed)
    words = [source.device, target.device, "--checkpoint", str(directory / "cp"), *more]
    argv = [sys.executable, "-m", "p2vd.copying.worker", *words, "--json"]
    committed = 0
    for _ in range(3):
        victim = subprocess.Popen([*argv, "--bandwidth", "16M"], stdout=subprocess.PIPE, text=True)
        assert victim.stdout is not None
        for _ in range(chance.randrange(1, 4)):
            line = victim.stdout.readline()
            committed = max(committed, json.loads(line).get("committed_bytes", 0) if line else 0)
        victim.kill()
        victim.communicate()
    code, report = tool(*words)
    assert (code, report["failure"]) == (0, None)
    assert report["bytes_skipped"] >= committed
    assert identical(source, target)


@pytest.mark.parametrize("seed", range(2))
def test_killed_it_goes_on_over_old_bytes(pair: tuple[Loop, Loop], tmp_path: Path, seed: int) -> None:
    kill_and_resume(*pair, tmp_path, seed, ["--force"])


def make_filesystem(device: str) -> None:
    subprocess.run(["mkfs.ext4", "-q", device], check=True)


def make_partitions(device: str) -> None:
    # A protective MBR with one partition: what libblkid calls dos.
    entry = bytes([0x80, 0, 2, 0, 0x83, 1, 1, 0]) + (8).to_bytes(4, "little") + (64).to_bytes(4, "little")
    with Path(device).open("r+b") as file:
        file.write(bytes(446) + entry + bytes(48) + b"\x55\xaa")


@pytest.mark.parametrize("make", [make_filesystem, make_partitions])
def test_a_signature_refuses_always(tmp_path: Path, make: Callable[[str], None]) -> None:
    with Loop(tmp_path / "s", SIZE) as source, Loop(tmp_path / "t", TARGET) as target:
        make(target.device)
        before = target.backing.read_bytes()
        code, report = tool(source.device, target.device, "--checkpoint", tmp_path / "cp", "--force")
        assert (code, report["failure"]["name"]) == (1, "TargetRefused")
        assert "wipefs" in report["failure"]["message"]
        assert target.backing.read_bytes() == before


def test_devices_in_use_refuse_always(tmp_path: Path) -> None:
    with Loop(tmp_path / "s", SIZE) as source, Loop(tmp_path / "t", TARGET) as target:
        for busy in (source, target):
            fd = os.open(busy.device, os.O_RDONLY | os.O_EXCL)
            code, report = tool(source.device, target.device, "--checkpoint", tmp_path / "cp", "--force")
            os.close(fd)
            assert (code, report["failure"]["name"]) == (1, "DeviceInUse")
            assert busy.device in report["failure"]["message"]


def test_a_target_that_cannot_be_right_is_refused(tmp_path: Path) -> None:
    with (
        Loop(tmp_path / "s", SIZE) as source,
        Loop(tmp_path / "small", SIZE - BLOCK) as small,
        Loop(tmp_path / "4k", TARGET, 4096) as sectors,
    ):
        for target, words in ((small, "it has"), (sectors, "its sectors"), (source, "it is the source")):
            code, report = tool(source.device, target.device, "--checkpoint", tmp_path / "cp")
            assert code == 1
            assert words in report["failure"]["message"]


def test_a_device_becomes_a_file_and_back(tmp_path: Path) -> None:
    with Loop(tmp_path / "s", SIZE) as source, Loop(tmp_path / "t", SIZE) as target:
        fill(source.backing, SIZE, 3)
        image = tmp_path / "image"
        assert tool(source.device, image, "--checkpoint", tmp_path / "cp1")[0] == 0
        assert image.read_bytes() == source.backing.read_bytes()
        assert tool(image, target.device, "--checkpoint", tmp_path / "cp2")[0] == 0
        assert target.backing.read_bytes() == source.backing.read_bytes()
