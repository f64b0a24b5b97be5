"""Images as sources: said, never guessed; alone, whole and true, or refused before anything is made."""

import contextlib
import json
import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from p2vd.copying import image_headers
from p2vd.copying.layout import BLOCK
from p2vd.model.forms import SourceFormat
from tests.copying.nbd_server import command, needs
from tests.copying.test_tool import Files

pytestmark = needs("qemu-img", "qemu-nbd")

SIZE = 4 * BLOCK
KINDS = ("qcow2", "vmdk", "vhdx", "vdi", "vpc")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    files = Files(tmp_path)
    files.source.write_bytes(random.Random(1).randbytes(3 * BLOCK) + bytes(BLOCK))
    return files


def image(files: Files, kind: str, *options: str) -> Path:
    """An image of the source, which takes its place."""
    path = files.source.with_name(f"disk.{kind}")
    command("qemu-img", "convert", "-f", "raw", "-O", kind, *options, files.source, path)
    files.source = path
    return path


def refusal(files: Files, *words: str) -> str:
    """The sentence of a refusal, which made nothing."""
    code, report = files.run(*words)
    assert (code, report["failure"]["name"]) == (1, "SourceRefused")
    assert not files.target.exists()
    assert not files.checkpoint.exists()
    message: str = report["failure"]["message"]
    return message


def change(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


@pytest.mark.parametrize("kind", KINDS)
def test_what_looks_like_an_image_must_be_said(files: Files, kind: str) -> None:
    path = image(files, kind)
    assert f"--source-format {kind} copies the disk in the image" in refusal(files)
    code, _ = files.run("--source-format", "raw")
    assert code == 0
    assert files.target.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_image_of_that_kind_is_refused(files: Files, kind: str) -> None:
    assert f"it is no {kind} image" in refusal(files, "--source-format", kind)


@pytest.mark.parametrize("kind", KINDS)
def test_garbage_after_the_magic_is_refused(files: Files, kind: str) -> None:
    path = image(files, kind)
    change(path, 72 if kind == "vdi" else 8, random.Random(2).randbytes(1 << 20))
    assert path.name in refusal(files, "--source-format", kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.01, 0.5, 0.9])
def test_what_is_cut_off_is_refused(files: Files, kind: str, share: float) -> None:
    path = image(files, kind)
    with path.open("r+b") as file:
        file.truncate(int(path.stat().st_size * share) // 512 * 512)
    assert path.name in refusal(files, "--source-format", kind)


def test_a_stream_of_vmware_is_read_and_refused_when_it_is_cut_off(files: Files) -> None:
    raw = files.source.read_bytes()
    path = image(files, "vmdk", "-o", "subformat=streamOptimized")
    assert files.run("--source-format", "vmdk")[0] == 0
    assert files.target.read_bytes() == raw
    files.target.unlink()
    files.checkpoint.unlink()
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 512)
    assert "disk.vmdk" in refusal(files, "--source-format", "vmdk")


def test_a_backing_file_is_not_opened(files: Files) -> None:
    """Not even looked for: it is one that every host has."""
    files.source = files.source.with_name("evil.qcow2")
    command("qemu-img", "create", "-u", "-f", "qcow2", "-b", "/etc/passwd", "-F", "raw", files.source, SIZE)
    said = refusal(files, "--source-format", "qcow2")
    assert "a backing file is in another file ('/etc/passwd')" in said
    assert "qemu-img convert" in said


def test_an_external_data_file_is_not_opened(files: Files) -> None:
    files.source = files.source.with_name("evil.qcow2")
    outside = files.source.with_name("outside")
    command("qemu-img", "create", "-f", "qcow2", "-o", f"data_file={outside}", files.source, SIZE)
    outside.unlink()
    said = refusal(files, "--source-format", "qcow2")
    assert f"an external data file is in another file ('{outside}')" in said


@pytest.mark.parametrize("kind", ["monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat"])
def test_a_vmdk_of_several_files_is_not_opened(files: Files, kind: str) -> None:
    image(files, "vmdk", "-o", f"subformat={kind}")
    assert "its data is in another file ('disk-" in refusal(files, "--source-format", "vmdk")


@pytest.mark.parametrize(
    ("at", "value", "problem"),
    [
        (4, struct.pack(">I", 9), "version is 9"),
        (20, struct.pack(">I", 40), "2^40 bytes"),
        (24, struct.pack(">Q", 1 << 50), "more than its tables can hold"),
        (24, struct.pack(">Q", 1 << 62), "its disk has"),
        (32, struct.pack(">I", 2), "encrypted"),
        (40, struct.pack(">Q", 1 << 40), "its table of clusters"),
        (48, struct.pack(">Q", 1 << 40), "its table of reference counts"),
        (72, struct.pack(">Q", 1 << 1), "marked it as corrupt"),
        (72, struct.pack(">Q", 1 << 40), "features that p2vd does not know"),
    ],
)
def test_a_header_that_lies_is_refused(files: Files, at: int, value: bytes, problem: str) -> None:
    change(image(files, "qcow2"), at, value)
    assert problem in refusal(files, "--source-format", "qcow2")


def test_damaged_tables_are_refused(files: Files) -> None:
    """Where a cluster is said to be where none can be: QEMU would read zeros, or another cluster."""
    path = image(files, "qcow2")
    told = json.loads(command("qemu-img", "map", "--output=json", path))
    (first, *_) = (each["offset"] for each in told if "offset" in each)
    contents = path.read_bytes()
    entry = struct.pack(">Q", 1 << 63 | first)
    change(path, contents.index(entry), struct.pack(">Q", 1 << 63 | 1 << 40))
    assert "it is damaged: qemu-img check says" in refusal(files, "--source-format", "qcow2")


def _vdi_parent(path: Path) -> None:
    change(path, 440, b"\1" * 16)


def _vpc_checksum(path: Path) -> None:
    change(path, path.stat().st_size - 512 + 30, b"\xff")


def _vpc_lost_block(path: Path) -> None:
    (table,) = struct.unpack(">Q", path.read_bytes()[512 + 16 : 512 + 24])
    change(path, table, struct.pack(">I", 1 << 24))


def _vmdk_parent(path: Path) -> None:
    at = path.read_bytes().index(b"parentCID=ffffffff")
    change(path, at, b"parentCID=00000001")


@pytest.mark.parametrize(
    ("kind", "harm", "problem"),
    [
        ("vdi", _vdi_parent, "a parent is in another file"),
        ("vpc", _vpc_checksum, "wrong checksum"),
        ("vpc", _vpc_lost_block, "one of its blocks"),
        ("vmdk", _vmdk_parent, "a parent is in another file"),
    ],
)
def test_other_lies(files: Files, kind: str, harm: Callable[[Path], None], problem: str) -> None:
    harm(image(files, kind))
    assert problem in refusal(files, "--source-format", kind)


def test_a_fixed_vpc_is_known_by_its_end(files: Files) -> None:
    raw = files.source.read_bytes()
    image(files, "vpc", "-o", "subformat=fixed,force_size=on")
    assert "--source-format vpc" in refusal(files)
    assert files.run("--source-format", "vpc")[0] == 0
    assert files.target.read_bytes() == raw


def test_a_device_node_is_no_image(files: Files) -> None:
    files.source = Path("/dev/null")
    assert "is for files" in refusal(files, "--source-format", "qcow2")


@pytest.mark.parametrize("kind", [SourceFormat(name) for name in KINDS], ids=lambda kind: kind.value)
def test_no_bytes_make_the_headers_check_fail_otherwise(files: Files, kind: SourceFormat) -> None:
    """Whatever a few flipped or lost bytes of a header say, the answer is a ValueError or none."""
    whole = bytearray(image(files, kind.value).read_bytes()[: 512 << 10])
    chance = random.Random(3)
    for _ in range(400):
        contents = whole.copy()
        for _ in range(chance.choice((1, 3, 8))):
            contents[chance.choice((chance.randrange(600), chance.randrange(len(contents))))] = (
                chance.randrange(256)
            )
        del contents[chance.choice((len(contents), chance.randrange(len(contents)))) :]

        def read(at: int, length: int, contents: bytearray = contents) -> bytes:
            return bytes(contents[at : at + length])

        with contextlib.suppress(ValueError):
            image_headers.check(kind, read, len(contents))
