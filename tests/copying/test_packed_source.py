"""Sources in compressed images, made by the tools that people use: whole, resumed, refused where damaged."""

import bz2
import gzip
import json
import lzma
import os
import random
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from p2vd.copying.controls import Gauge
from p2vd.copying.devices import Buffer
from p2vd.copying.errors import ImageDamaged, SourceRefused
from p2vd.copying.framed_source import FramedSource
from p2vd.copying.layout import BLOCK
from p2vd.copying.packed_source import packed_source
from p2vd.copying.streams import Points, StreamSource
from p2vd.model.forms import SourceFormat
from p2vd.system.clock import SystemClock
from tests.copying.test_tool import Files

SIZE = 3 * BLOCK + 700


def disk(size: int = SIZE) -> bytes:
    chance = random.Random(4)
    return (chance.randbytes(BLOCK) + bytes(BLOCK) + b"text " * (BLOCK // 4))[: size // 2].ljust(size, b"\7")


def tool(*words: str) -> Callable[[bytes], bytes]:
    def run(data: bytes) -> bytes:
        return subprocess.run(words, input=data, capture_output=True, check=True).stdout

    return run


def in_parts(pack: Callable[[bytes], bytes], size: int = 2 * BLOCK + 5) -> Callable[[bytes], bytes]:
    return lambda data: b"".join(pack(data[at : at + size]) for at in range(0, len(data), size))


ZSTD = tool("zstd", "-q", "-c", "-")
XZ = tool("xz", "-0", "-c", "-")
PACKED: dict[str, tuple[str, Callable[[bytes], bytes], type]] = {
    "gzip": ("gz", tool("gzip", "-1", "-c"), StreamSource),
    "gzip members": ("gz", in_parts(tool("gzip", "-1", "-c")), StreamSource),
    "gzip padded": ("gz", lambda data: gzip.compress(data, 1) + bytes(512), StreamSource),
    "zstd piped": ("zst", ZSTD, StreamSource),
    "zstd frames": ("zst", in_parts(ZSTD), StreamSource),
    "zstd skippable": ("zst", lambda data: b"\x53\x2a\x4d\x18\3\0\0\0abc" + ZSTD(data), StreamSource),
    "xz": ("xz", XZ, StreamSource),
    "xz blocks": ("xz", tool("xz", "-0", "--block-size=1000000", "-c", "-"), StreamSource),
    "xz streams": (
        "xz",
        lambda data: XZ(data[:BLOCK]) + bytes(8) + XZ(data[BLOCK:]) + bytes(4),
        StreamSource,
    ),
    "xz crc32": ("xz", tool("xz", "-0", "--check=crc32", "-c", "-"), StreamSource),
}


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.mark.parametrize("name", PACKED)
def test_the_disk_in_an_image_is_copied_and_proven(files: Files, name: str) -> None:
    form, pack, _ = PACKED[name]
    files.source.write_bytes(pack(disk()))
    code, report = files.run("--source-format", form, "--verify", "both")
    assert (code, report["failure"]) == (0, None)
    assert files.target.read_bytes() == disk()
    assert report["source_stable"] == "proven"


@pytest.mark.parametrize("target", ["raw.zst", "raw.gz"])
def test_what_p2vd_packs_it_unpacks_at_any_place(files: Files, tmp_path: Path, target: str) -> None:
    files.source.write_bytes(disk())
    assert files.run("--target-format", target)[0] == 0
    again = Files(tmp_path)
    again.source, again.target = files.target, tmp_path / "again"
    again.checkpoint = tmp_path / "again.checkpoint"
    form = target.removeprefix("raw.")
    code, report = again.run("--source-format", form)
    assert (code, report["failure"]) == (0, None)
    assert again.target.read_bytes() == disk()
    with Opened(again.source, SourceFormat(form)) as source:
        assert isinstance(source.device, FramedSource)
        assert source.bytes(2 * BLOCK - 10, 20) == disk()[2 * BLOCK - 10 :][:20]


class Opened:
    """An image, open."""

    def __init__(self, path: Path, form: SourceFormat):
        self.fd = os.open(path, os.O_RDONLY)
        self.form = form

    def __enter__(self) -> "Opened":
        self.device = packed_source(self.fd, self.form, Gauge(SystemClock()))
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self.fd)

    def bytes(self, offset: int, length: int) -> bytes:
        buffer = Buffer()
        self.device.read(buffer, offset, length)
        return bytes(buffer.view[:length])


@pytest.mark.parametrize("name", ["gzip members", "zstd piped", "zstd frames", "xz streams", "xz blocks"])
def test_any_order_of_reading(tmp_path: Path, name: str) -> None:
    form, pack, kind = PACKED[name]
    data = disk(20 * BLOCK + 9)
    path = tmp_path / "image"
    path.write_bytes(pack(data))
    with Opened(path, SourceFormat(form)) as source:
        assert isinstance(source.device, kind)
        assert source.device.size_bytes == len(data)
        for block in (0, 20, 0, 3, 2, 19, 1, 20, 0):
            part = data[block * BLOCK :][:BLOCK]
            assert source.bytes(block * BLOCK, len(part)) == part
        assert [each.zero for each in source.device.extents(0, len(data))] == [False]


def test_a_window_saves_going_back(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(gzip.compress(disk(20 * BLOCK), 1))
    with Opened(path, SourceFormat.GZ) as source:
        assert isinstance(source.device, StreamSource)
        for block in (1, 0, 3, 2, 9, 4, 5, 19, 18):
            source.bytes(block * BLOCK, BLOCK)
        assert source.device.restarts == 0
        source.bytes(0, BLOCK)
        assert source.device.restarts == 1


def test_points_are_bounded_and_found() -> None:
    points = Points()
    for number in range(100_000):
        points.add(number * 8 * BLOCK, number)
    found = points.before(77_777 * 8 * BLOCK + 5)
    assert found[0] <= 77_777 * 8 * BLOCK
    assert found[1] * 8 * BLOCK == found[0]
    assert 77_777 - found[1] < 100_000 / 400
    assert points.before(0) == (0, 0)


# ---- what is refused ------------------------------------------------------------------------------


def lying_isize(data: bytes) -> bytes:
    return data[:-4] + struct.pack("<I", 77)


def lying_content_size(data: bytes) -> bytes:
    """A frame that says that it holds a byte more; its checksum is left out."""
    assert data[4] & 0xC0 == 0x80
    size = int.from_bytes(data[6:10] if not data[4] & 0x20 else data[5:9], "little")
    at = 6 if not data[4] & 0x20 else 5
    return data[:at] + struct.pack("<I", size + 1) + data[at + 4 :]


def huge_content_size(data: bytes) -> bytes:
    at = 6 if not data[4] & 0x20 else 5
    return data[:at] + struct.pack("<I", 0xFFFFFFFF) + data[at + 4 :]


def flipped(data: bytes) -> bytes:
    at = len(data) // 2
    return data[:at] + bytes((data[at] ^ 0x10,)) + data[at + 1 :]


def sized_zstd(data: bytes) -> bytes:
    """As `zstd FILE` writes it: the size of the contents in the header."""
    return tool("zstd", "-q", "-c", f"--stream-size={len(data)}", "-")(data)


def whole(form: str) -> bytes:
    return {
        "gz": lambda: gzip.compress(disk(), 1),
        "zst": lambda: sized_zstd(disk()),
        "xz": lambda: XZ(disk()),
    }[form]()


HOSTILE: dict[str, tuple[str, Callable[[], bytes]]] = {
    "gz cut": ("gz", lambda: whole("gz")[:-100_000]),
    "gz cut in its trailer": ("gz", lambda: whole("gz")[:-3]),
    "gz flipped": ("gz", lambda: flipped(whole("gz"))),
    "gz with a lying length": ("gz", lambda: lying_isize(whole("gz"))),
    "gz with garbage behind": ("gz", lambda: whole("gz") + b"garbage"),
    "gz with a cut member behind": ("gz", lambda: whole("gz") + whole("gz")[:5]),
    "gz that is none": ("gz", lambda: b"precious" * 100),
    "gz of nothing": ("gz", bytes),
    "zst cut": ("zst", lambda: whole("zst")[:-100_000]),
    "zst cut in its checksum": ("zst", lambda: whole("zst")[:-2]),
    "zst with garbage behind": ("zst", lambda: whole("zst") + b"garbage"),
    "zst that says more than it can hold": ("zst", lambda: huge_content_size(whole("zst"))),
    "zst with a window of 2 GiB": ("zst", lambda: tool("zstd", "-q", "--long=31", "-c", "-")(disk())),
    "zst that is none": ("zst", lambda: bz2.compress(disk())),
    "zst of nothing": ("zst", bytes),
    "xz cut": ("xz", lambda: whole("xz")[:-100]),
    "xz with garbage behind": ("xz", lambda: whole("xz") + b"garbage!"),
    "xz that is none": ("xz", lambda: b"precious" * 100),
    "xz of nothing": ("xz", bytes),
    "xz with a damaged index": ("xz", lambda: whole("xz")[:-18] + b"!" + whole("xz")[-17:]),
    "xz without its beginning": ("xz", lambda: whole("xz")[4:]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_not_whole_is_refused_and_nothing_is_written(files: Files, name: str) -> None:
    form, make = HOSTILE[name]
    files.source.write_bytes(make())
    code, report = files.run("--source-format", form)
    assert (code, report["failure"]["name"]) == (1, "SourceRefused")
    assert "at byte" in report["failure"]["message"]
    assert not files.target.exists()
    assert not files.checkpoint.exists()


LATER: dict[str, tuple[str, Callable[[], bytes]]] = {
    "zst flipped": ("zst", lambda: flipped(whole("zst"))),
    "zst with a lying size": ("zst", lambda: lying_content_size(whole("zst"))),
    "xz flipped": ("xz", lambda: flipped(whole("xz"))),
    "xz that wants much memory": (
        "xz",
        lambda: lzma.compress(
            disk(), filters=[{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 512 << 20}]
        ),
    ),
}


@pytest.mark.parametrize("name", LATER)
def test_what_turns_out_not_to_be_as_its_index_says_ends_the_copy(files: Files, name: str) -> None:
    form, make = LATER[name]
    files.source.write_bytes(make())
    code, report = files.run("--source-format", form)
    assert (code, report["failure"]["name"]) == (3, "ImageDamaged")
    assert "at byte" in report["failure"]["message"]


@pytest.mark.parametrize("form", ["gz", "zst"])
@pytest.mark.parametrize("at", [0.5, -30])
def test_a_damaged_image_of_p2vd_is_never_taken_for_whole(
    files: Files, tmp_path: Path, form: str, at: float
) -> None:
    """In a frame: found where it is read. In the index: it is read without, or refused."""
    files.source.write_bytes(disk())
    assert files.run("--target-format", f"raw.{form}")[0] == 0
    data = bytearray(files.target.read_bytes())
    data[int(at * len(data)) if isinstance(at, float) else at] ^= 1
    again = Files(tmp_path)
    again.source, again.checkpoint, again.target = tmp_path / "i", tmp_path / "c", tmp_path / "t"
    again.source.write_bytes(data)
    code, report = again.run("--source-format", form)
    if code == 0:
        assert at == -30
        assert again.target.read_bytes() == disk()
    else:
        assert report["failure"]["name"] in ("ImageDamaged", "SourceRefused")


@pytest.mark.parametrize("form", ["gz", "zst"])
def test_two_images_of_p2vd_one_behind_the_other_are_both_read(
    files: Files, tmp_path: Path, form: str
) -> None:
    """As zstd and gunzip would; the last index is of the second one alone."""
    files.source.write_bytes(disk())
    assert files.run("--target-format", f"raw.{form}")[0] == 0
    again = Files(tmp_path)
    again.source, again.checkpoint, again.target = tmp_path / "i", tmp_path / "c", tmp_path / "t"
    again.source.write_bytes(files.target.read_bytes() * 2)
    assert again.run("--source-format", form)[0] == 0
    assert again.target.read_bytes() == disk() * 2


@pytest.mark.parametrize("form", ["gz", "zst", "xz"])
def test_an_image_is_not_taken_for_a_disk_unasked(files: Files, form: str) -> None:
    files.source.write_bytes(whole(form))
    code, report = files.run()
    assert (code, report["failure"]["name"]) == (1, "SourceRefused")
    for choice in (form, "raw"):
        assert f"--source-format {choice}" in report["failure"]["message"]
    assert files.run("--source-format", "raw")[0] == 0
    assert files.equal()


def test_bad_sectors_of_an_image_are_refused(files: Files) -> None:
    files.source.write_bytes(whole("gz"))
    code, report = files.run("--source-format", "gz", "--bad-sectors", "5")
    assert (code, report["failure"]["name"]) == (1, "UsageError")


@pytest.mark.parametrize("form", ["gz", "zst", "xz"])
def test_killed_half_way_it_goes_on(files: Files, form: str) -> None:
    data = disk(10 * BLOCK)
    pack = {"gz": lambda: gzip.compress(data, 1), "zst": lambda: ZSTD(data), "xz": lambda: XZ(data)}
    files.source.write_bytes(pack[form]())
    words = files.words("--json", "--bandwidth", "2M", "--source-format", form)
    victim = subprocess.Popen(
        [sys.executable, "-m", "p2vd.copying.worker", *words], stdout=subprocess.PIPE, text=True
    )
    assert victim.stdout is not None
    while not json.loads(victim.stdout.readline()).get("committed_bytes"):
        pass
    victim.kill()
    victim.communicate()
    code, report = files.run("--source-format", form)
    assert (code, report["failure"]) == (0, None)
    assert report["bytes_skipped"] > 0
    assert files.target.read_bytes() == data


def test_a_bomb_costs_no_memory(tmp_path: Path) -> None:
    """Zeros of 256 MiB in 256 KiB of gzip: a mebibyte at a time."""
    member = gzip.compress(bytes(64 * BLOCK), 9)
    path = tmp_path / "bomb"
    with path.open("wb") as file:
        for _ in range(4):
            file.write(member)
    script = (
        "import os, resource, sys\n"
        "from p2vd.copying.controls import Gauge\n"
        "from p2vd.copying.packed_source import packed_source\n"
        "from p2vd.model.forms import SourceFormat\n"
        "from p2vd.system.clock import SystemClock\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "fd = os.open(sys.argv[1], os.O_RDONLY)\n"
        "size = packed_source(fd, SourceFormat.GZ, Gauge(SystemClock())).size_bytes\n"
        "print(size, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )
    size, grown_kib = map(int, done.stdout.split())
    assert size == 256 * BLOCK
    assert grown_kib < 16 * 1024


@pytest.mark.parametrize("broken", [0, 1, 5, 9])
def test_a_gzip_index_that_lies_is_not_believed(tmp_path: Path, broken: int) -> None:
    from p2vd.copying import gzip_packing

    packing = gzip_packing.GzipPacking(1)
    frames = [packing.pack(memoryview(disk()[at : at + BLOCK])) for at in range(0, SIZE, BLOCK)]
    sizes = [len(frame) for frame in frames]
    sizes[broken % len(sizes)] += 1
    body = b"".join(frames)
    path = tmp_path / "image"
    path.write_bytes(
        body + b"".join(packing.end([struct.pack(f"<{len(sizes)}I", *sizes)], len(sizes), SIZE, len(body)))
    )
    with Opened(path, SourceFormat.GZ) as source:
        assert isinstance(source.device, StreamSource)
        assert source.bytes(0, 10) == disk()[:10]
    sizes[broken % len(sizes)] -= 1
    sizes[0], sizes[1] = sizes[1], sizes[0]
    path.write_bytes(
        body + b"".join(packing.end([struct.pack(f"<{len(sizes)}I", *sizes)], len(sizes), SIZE, len(body)))
    )
    with Opened(path, SourceFormat.GZ) as source, pytest.raises(ImageDamaged):
        source.bytes(0, 10)


def test_gzip_without_its_crc_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image"
    packed = bytearray(gzip.compress(disk(), 1))
    packed[-8:-4] = struct.pack("<I", zlib.crc32(disk()) ^ 1)
    path.write_bytes(packed)
    with pytest.raises(SourceRefused, match="incorrect data check"), Opened(path, SourceFormat.GZ):
        pass
