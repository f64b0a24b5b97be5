"""A qcow2 whose filesystem runs full: the copy waits, says so, and goes on when there is room."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2vd.copying.layout import BLOCK
from tests.copying.nbd_server import command, needs, same_disk
from tests.copying.tool import Tool

pytestmark = [pytest.mark.root, needs("qemu-img", "qemu-nbd", "mount")]

SIZE = 12 * BLOCK


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 6 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    command("mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", place)
    yield place
    command("umount", "--lazy", place)


@pytest.mark.parametrize("compression", ["zstd", pytest.param("none", marks=pytest.mark.campaign)])
def test_it_waits_for_room_and_goes_on(small: Path, tmp_path: Path, compression: str) -> None:
    source, neighbour = tmp_path / "disk", small / "neighbour"
    source.write_bytes(random.Random(1).randbytes(SIZE))
    neighbour.write_bytes(b"mine")
    words = ("--target-format", "qcow2", "--compress", compression)
    tool = Tool(source, small / "target", *words)
    tool.checkpoint = tmp_path / "checkpoint"
    tool.start("--checkpoint", tool.checkpoint)
    while (told := tool.hear()) and told["type"] != "held":
        pass
    assert told.get("reason") == "no-space", tool.told
    command("mount", "-o", "remount,size=64m", small)
    code, report = tool.end()
    assert (code, report["failure"]) == (0, None)
    assert same_disk(source, "raw", tool.target, "qcow2")
    assert "No errors" in command("qemu-img", "check", tool.target)
    assert neighbour.read_bytes() == b"mine"
