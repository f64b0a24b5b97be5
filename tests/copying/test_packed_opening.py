"""A compressed image that is opened: a stop is heard, however much of it is walked over."""

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from p2vd.copying.controls import Gauge, Interrupted
from p2vd.copying.devices import Buffer
from p2vd.copying.gzip_source import GzipDecoder
from p2vd.copying.layout import BLOCK
from p2vd.copying.packed_source import packed_source
from p2vd.copying.xz_source import XzDecoder
from p2vd.copying.zstd_format import MAGIC
from p2vd.copying.zstd_packing import ZstdPacking
from p2vd.copying.zstd_source import ZstdDecoder
from p2vd.model.forms import SourceFormat
from p2vd.system.clock import SystemClock
from tests.copying.test_packed_source import PACKED, disk
from tests.copying.test_tool import Files
from tests.fakes import SleepingClock

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


READ_S, UNPACK_S = 0.004, 1.0


@pytest.mark.parametrize("name", ["gzip", "zstd frames", "xz", "raw.zst"])
def test_what_a_source_takes_is_its_reads_alone(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unpacking is the work of this host: nobody else's load is lowered by slowing it down."""
    files, clock, took = Files(tmp_path), SleepingClock(100.0), []
    files.source.write_bytes(disk())
    if name in PACKED:
        form, pack, _ = PACKED[name]
        files.target.write_bytes(pack(disk()))
    else:
        form = "zst"
        assert files.run("--target-format", name)[0] == 0
    pread = os.pread

    def slow_read(fd: int, length: int, at: int) -> bytes:
        clock.now_s += READ_S
        return pread(fd, length, at)

    def slow(unpack: Callable[..., Any]) -> Callable[..., Any]:
        def unpacked(*arguments: Any) -> Any:
            clock.now_s += UNPACK_S
            return unpack(*arguments)

        return unpacked

    for decoder, method in (
        *((each, "read_into") for each in (GzipDecoder, ZstdDecoder, XzDecoder)),
        (ZstdPacking, "unpack"),
    ):
        monkeypatch.setattr(decoder, method, slow(getattr(decoder, method)))
    monkeypatch.setattr(os, "pread", slow_read)
    fd = os.open(files.target, os.O_RDONLY)
    gauge = Gauge(clock, lambda began, ended: took.append(ended - began))
    source, buffer = packed_source(fd, SourceFormat(form), gauge), Buffer()
    took.clear()
    for at in range(0, len(disk()), BLOCK):
        length = min(BLOCK, len(disk()) - at)
        source.read(buffer, at, length)
        assert bytes(buffer.view[:length]) == disk()[at:][:length]
    os.close(fd)
    assert clock.now_s > 100 + UNPACK_S
    assert took
    assert max(took) < 10 * READ_S
