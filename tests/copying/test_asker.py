"""The helper that looks into image files: what it says of whole ones, and of those that are not."""

import gzip
import lzma
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from p2vd.copying import asker, asking
from p2vd.copying.asking import Answer, AskRequest, ImageToAsk
from p2vd.copying.controls import Interrupted
from p2vd.copying.layout import BLOCK
from p2vd.model.codec import from_dict, to_dict
from p2vd.model.forms import IMAGE_NAMES, SIZE_UNKNOWN
from p2vd.system import block
from p2vd.system.descriptors import SeqpacketChannel
from p2vd.system.process import spawn
from tests.copying.daemon import NOBODY, PATIENCE_S
from tests.copying.nbd_server import command, needs
from tests.fakes import StoppedClock

SIZE = 3 * BLOCK + 512
DISK = random.Random(1).randbytes(BLOCK) + bytes(SIZE - BLOCK)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A directory to which the worker's user cannot come: it gets the files opened."""
    return tmp_path


def asked(path: Path, *, read_all: bool = False) -> ImageToAsk:
    """An image as discovery sees it."""
    fd = os.open(path, os.O_PATH)
    try:
        return ImageToAsk(str(path), block.file_id(fd), IMAGE_NAMES[path.suffix], read_all)
    finally:
        os.close(fd)


def ask(images: Sequence[ImageToAsk]) -> list[Answer]:
    """All that a helper says of images."""
    ours, theirs = SeqpacketChannel.pair()
    with ours:
        argv = [sys.executable, "-m", "p2vd.copying.asker", "--channel", str(theirs.fileno())]
        child = spawn(argv, theirs.fileno())
        theirs.close()
        ours.send(to_dict(AskRequest(tuple(images), NOBODY, NOBODY)))
        said = []
        while (packet := ours.receive(PATIENCE_S)) is not None:
            said.append(from_dict(Answer, packet[0]))
    assert child.wait(PATIENCE_S) == 0
    return said


def only(path: Path, *, read_all: bool = False) -> Answer:
    (answer,) = ask([asked(path, read_all=read_all)])
    assert answer.path == str(path)
    return answer


def p2vd_copy(source: Path, target: Path, form: str) -> None:
    checkpoint = target.with_name(f"{target.name}.checkpoint")
    words = [str(source), str(target), "--checkpoint", str(checkpoint), "--target-format", form]
    subprocess.run([sys.executable, "-m", "p2vd.copying.worker", *words], check=True)


@pytest.mark.parametrize("form", ["raw.zst", "raw.gz"])
def test_what_p2vd_has_packed_tells_its_size(images: Path, form: str) -> None:
    (images / "disk.raw").write_bytes(DISK)
    path = images / f"disk.{form}"
    p2vd_copy(images / "disk.raw", path, form)
    path.chmod(0o644)
    assert only(path) == Answer(str(path), SIZE)


def test_an_xz_tells_its_size(images: Path) -> None:
    path = images / "disk.img.xz"
    path.write_bytes(lzma.compress(DISK[:BLOCK]) + lzma.compress(DISK[BLOCK:]))
    assert only(path) == Answer(str(path), SIZE)


@pytest.mark.parametrize(
    ("name", "contents"),
    [("disk.gz", gzip.compress(DISK, 1)), ("disk.zst", zstandard.ZstdCompressor().compress(DISK))],
    ids=["gz", "zst"],
)
def test_what_others_have_packed_tells_it_to_who_reads_all(images: Path, name: str, contents: bytes) -> None:
    path = images / name
    path.write_bytes(contents)
    assert only(path) == Answer(str(path), SIZE_UNKNOWN)
    assert only(path, read_all=True) == Answer(str(path), SIZE)


@needs("qemu-img")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("disk.qcow2", ("qcow2",)),
        ("disk.vmdk", ("vmdk",)),
        ("stream.vmdk", ("vmdk", "-o", "subformat=streamOptimized")),
        ("disk.vhdx", ("vhdx",)),
        ("disk.vdi", ("vdi",)),
        ("disk.vhd", ("vpc", "-o", "force_size=on")),
    ],
)
def test_an_image_tells_its_size(images: Path, name: str, words: Sequence[str]) -> None:
    raw, path = images / "disk.raw", images / name
    raw.write_bytes(DISK + bytes(5 * BLOCK - SIZE))
    command("qemu-img", "convert", "-f", "raw", "-O", *words, raw, path)
    path.chmod(0o644)
    assert only(path) == Answer(str(path), 5 * BLOCK)


@needs("qemu-img")
def test_what_is_wrong_with_an_image_is_said_by_name(images: Path) -> None:
    """And one that is refused keeps none of the others from being looked into."""
    whole = images / "whole.qcow2"
    command("qemu-img", "create", "-q", "-f", "qcow2", whole, "8M")
    good = whole.read_bytes()
    command("qemu-img", "create", "-q", "-f", "qcow2", "-b", whole, "-F", "qcow2", images / "on.qcow2")
    for name, contents in {
        "encrypted.qcow2": good[:32] + b"\0\0\0\1" + good[36:],
        "corrupt.qcow2": good[:79] + b"\2" + good[80:],
        "lies.qcow2": good[:24] + b"\x0f" + good[25:],
        "short.qcow2": good[: 64 << 10],
        "torn.qcow2": good[:50],
        "zeros.vhdx": bytes(BLOCK),
        "zeros.gz": bytes(BLOCK),
        "empty.zst": b"",
        "cut.xz": lzma.compress(DISK)[:-4],
    }.items():
        (images / name).write_bytes(contents)
    (images / "secret.qcow2").write_bytes(good)
    paths = sorted(images.glob("*.*"))
    for path in paths:
        path.chmod(0o600 if path.name == "secret.qcow2" else 0o644)
    said = {Path(answer.path).name: answer for answer in ask([asked(path) for path in paths])}
    assert said.pop("whole.qcow2").size_bytes == 8 * BLOCK
    if os.geteuid() == 0:
        assert "setfacl" in said["secret.qcow2"].problem
    del said["secret.qcow2"]
    expected = {
        "on.qcow2": "a backing file is in another file",
        "encrypted.qcow2": "it is encrypted",
        "corrupt.qcow2": "marked it as corrupt",
        "lies.qcow2": "more than its tables can hold",
        "short.qcow2": "it is cut off or lies",
        "torn.qcow2": "header is cut off",
        "zeros.vhdx": "it is no vhdx image",
        "zeros.gz": "it does not begin as one",
        "empty.zst": "it is empty",
        "cut.xz": "no stream ends there",
    }
    assert said.keys() == expected.keys()
    for name, words in expected.items():
        assert words in said[name].problem
        assert name in said[name].problem


def test_another_file_in_its_place_is_not_looked_into(images: Path) -> None:
    path = images / "disk.img.xz"
    path.write_bytes(lzma.compress(DISK))
    before = asked(path)
    (images / "new").write_bytes(lzma.compress(DISK))
    (images / "new").rename(path)
    (answer,) = ask([before])
    assert "another file" in answer.problem


def test_one_who_is_not_waited_for_ends(images: Path) -> None:
    """However much there is left to unpack."""
    path = images / "disk.gz"
    with gzip.open(path, "wb", 1) as file:
        for _ in range(512):
            file.write(bytes(BLOCK))
    ours, theirs = SeqpacketChannel.pair()
    argv = [sys.executable, "-m", "p2vd.copying.asker", "--channel", str(theirs.fileno())]
    child = spawn(argv, theirs.fileno())
    theirs.close()
    ours.send(to_dict(AskRequest((asked(path, read_all=True),), NOBODY, NOBODY)))
    ours.close()
    assert child.wait(PATIENCE_S) == 1


@pytest.mark.parametrize(
    ("name", "contents"),
    [
        ("disk.gz", gzip.compress(DISK, 1)),
        ("empty-members.gz", gzip.compress(b"") * 60_000),  # it is read for long, and holds nothing
        ("padded.gz", gzip.compress(b"x") + bytes(2 * BLOCK)),
        ("disk.zst", zstandard.ZstdCompressor(write_content_size=False).compress(bytes(3 * BLOCK))),
    ],
    ids=["gz", "empty members", "padding", "zst"],
)
def test_a_reading_says_that_it_goes_on_however_little_comes_of_it(
    tmp_path: Path, name: str, contents: bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(contents)
    image, heard = asked(path, read_all=True), []
    look = asker._look_for(image.format, lambda: heard.append(name))
    assert callable(look)
    with path.open("rb") as file:
        look(replace(image, read_all=False), file.fileno(), lambda: False)
        assert heard == []  # a look is quick
        look(image, file.fileno(), lambda: False)
    assert len(heard) > 3


def test_the_daemon_hears_that_every_few_seconds_and_a_reading_ends_when_it_is_gone() -> None:
    ours, theirs = SeqpacketChannel.pair()
    clock = StoppedClock(0.0)
    signs = asker._Signs(theirs, clock)
    for clock.now_s in (1.0, 4.9, 5.0, 6.0, 9.9, 10.0):
        signs.goes_on()
    for _ in range(2):
        assert ours.receive(0) == (asking.GOES_ON, [])
    with pytest.raises(TimeoutError):
        ours.receive(0)
    ours.close()
    clock.now_s = 20.0
    with theirs, pytest.raises(Interrupted):
        signs.goes_on()
