"""A compressed image that is opened: a stop is heard, however much of it is walked over."""

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from p2vd.copying.controls import Gauge, Interrupted
from p2vd.copying.layout import BLOCK
from p2vd.copying.packed_source import packed_source
from p2vd.copying.zstd_format import MAGIC
from p2vd.model.forms import SourceFormat
from p2vd.system.clock import SystemClock
from tests.copying.test_packed_source import PACKED, disk
from tests.copying.test_tool import Files

BLOCKS = 200_000


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return tmp_path / "image"


def opened(image: Path, form: str, ended: Callable[[], bool]) -> None:
    fd = os.open(image, os.O_RDONLY)
    try:
        packed_source(fd, SourceFormat(form), Gauge(SystemClock()), ended, known_bytes=BLOCK)
    finally:
        os.close(fd)


def one_large_frame() -> Iterator[bytes]:
    """As zstd makes it of a whole disk: a frame that tells its size, and blocks without end (RFC 8878)."""
    yield struct.pack("<IBQ", MAGIC, 0xE0, BLOCKS * 10)  # one segment, its size in eight bytes
    block = (10 << 3).to_bytes(3, "little") + bytes(10)  # raw, ten bytes
    for _ in range(BLOCKS):
        yield block


def test_a_stop_is_heard_within_one_large_frame(image: Path) -> None:
    image.write_bytes(b"".join(one_large_frame()))
    asked: list[int] = []

    def ended() -> bool:
        asked.append(len(asked))
        return len(asked) == 5

    with pytest.raises(Interrupted):
        opened(image, "zst", ended)
    assert len(asked) == 5


@pytest.mark.parametrize("name", ["zstd frames", "xz", "xz streams"])
def test_a_stop_is_heard_by_every_form_that_is_walked_over(image: Path, name: str) -> None:
    form, pack, _ = PACKED[name]
    image.write_bytes(pack(disk()))
    with pytest.raises(Interrupted):
        opened(image, form, lambda: True)


@pytest.mark.parametrize("form", ["zst", "gz"])
def test_so_it_is_by_an_index(tmp_path: Path, form: str) -> None:
    files = Files(tmp_path)
    files.source.write_bytes(disk())
    assert files.run("--target-format", f"raw.{form}")[0] == 0
    with pytest.raises(Interrupted):
        opened(files.target, form, lambda: True)
