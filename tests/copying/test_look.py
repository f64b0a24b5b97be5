"""Disks in images, open for a look at a few places: what that may cost, and what ends it."""

import gzip
import lzma
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from p2vd.copying import look, qemu
from p2vd.copying.errors import SourceRefused
from p2vd.copying.look import InOrderOnly, LookedAt, UnpacksTooLong
from p2vd.copying.nbd_errors import Lost
from p2vd.copying.streams import StreamSource
from p2vd.discovery.examining import ExamineRequest
from p2vd.jobs import form_examiner
from p2vd.model.contents import Examination
from p2vd.model.forms import SourceFormat
from p2vd.model.size import KIB, MIB
from tests.copying.nbd_server import command, needs
from tests.copying.test_asker import asked
from tests.copying.test_packed_source import Opened

PART = 40 * MIB
SIZE = 3 * PART


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """A disk of 120 MiB, of which 40 MiB each can be unpacked by themselves."""
    path = tmp_path / "disk.xz"
    path.write_bytes(3 * lzma.compress(bytes(PART), preset=0))
    return path


def opened(path: Path, size_bytes: int = SIZE) -> LookedAt:
    return look.image(asked(path), size_bytes, lambda: False)()


def test_what_has_to_be_unpacked_to_get_to_a_place(packed: Path) -> None:
    with Opened(packed, SourceFormat.XZ) as source:
        disk = source.device
        assert isinstance(disk, StreamSource)
        assert [disk.lead(at) for at in (0, 5, PART, PART + 8 * MIB)] == [0, 5, 0, 8 * MIB]
        source.bytes(PART + 8 * MIB, 10)
        assert disk.unpacked_bytes == 9 * MIB
        kept, next_one, behind, other = PART + 8 * MIB + 5, PART + 9 * MIB + 5, PART - MIB, 2 * PART + MIB
        assert [disk.lead(at) for at in (kept, next_one, behind, other)] == [0, 5, PART - MIB, MIB]
        source.bytes(PART + 10 * MIB, 10)
        source.bytes(PART + 8 * MIB, 10)
        assert disk.unpacked_bytes == 11 * MIB


def test_a_block_that_a_first_reading_kept_is_there(tmp_path: Path) -> None:
    path = tmp_path / "disk.gz"
    path.write_bytes(gzip.compress(bytes(PART), 1))
    with Opened(path, SourceFormat.GZ) as source:
        disk = source.device
        assert isinstance(disk, StreamSource)
        assert [disk.lead(at) for at in (PART - 5, PART - MIB - 5)] == [0, PART - MIB - 5]
        source.bytes(PART - 5, 5)
        assert disk.unpacked_bytes == 0
        assert disk.lead(PART - 5) == PART - 5


def test_what_is_kept_costs_nothing_and_all_else_has_an_end(
    packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "MOST_UNPACKED_BYTES", PART + 20 * MIB)
    disk = opened(packed)
    for at in range(30 * MIB, PART, 64 * KIB):
        assert disk.read(at, 4096) == bytes(4096)
    assert disk.read(PART - 5, 10) == bytes(10)
    with pytest.raises(UnpacksTooLong, match="more than 60 MiB"):
        disk.read(SIZE - 4096, 4096)
    disk.close()


def test_that_there_was_no_time_is_no_property_of_the_image(
    packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = asked(packed)
    request = ExamineRequest(image.path, SIZE, 512, format=image.format, file_id=image.file_id)
    monkeypatch.setattr(look, "MOST_UNPACKING_S", 0.0)
    reply = form_examiner.answer(request, lambda: None, lambda: False)
    assert (reply.contents, reply.examination) == (None, Examination.FAILED)
    assert "takes too long here (more than 0 s)" in reply.problem


def test_one_place_that_is_too_far_from_where_unpacking_can_begin(tmp_path: Path) -> None:
    path = tmp_path / "disk.xz"
    path.write_bytes(lzma.compress(bytes(SIZE), preset=0))
    with pytest.raises(InOrderOnly, match="119 MiB have to be unpacked"):
        opened(path).read(SIZE - 4096, 4096)


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """A disk of 120 MiB for which a server of our own is started."""
    raw, path = tmp_path / "disk.raw", tmp_path / "disk.qcow2"
    with raw.open("wb") as file:
        file.truncate(SIZE)
        file.seek(PART)
        file.write(random.Random(1).randbytes(MIB))
    command("qemu-img", "convert", "-f", "raw", raw, path, "-O", "qcow2")
    return path


Servers = list[qemu.ImageServer]


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Servers:
    """Those that were started."""
    started: Servers = []
    serve: Callable[..., qemu.ImageServer] = qemu.serve

    def noted(*args: object, **options: object) -> qemu.ImageServer:
        started.append(serve(*args, **options))
        return started[-1]

    monkeypatch.setattr(qemu, "serve", noted)
    return started


@needs("qemu-nbd", "qemu-img")
def test_a_server_of_our_own_that_ends_while_it_is_read_is_no_silent_one(
    served: Path, servers: Servers
) -> None:
    disk = opened(served)
    assert disk.read(0, 4096) == bytes(4096)
    servers[0].child.kill()
    servers[0].child.wait(60.0)
    with pytest.raises(SourceRefused, match="QEMU does not serve it: "):
        disk.read(PART, 4096)
    disk.close()


@needs("qemu-nbd", "qemu-img")
def test_one_that_does_not_speak_ends(
    served: Path, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    from p2vd.copying import nbd_dialer

    def over(*_: object) -> None:
        raise Lost("it said something else")

    monkeypatch.setattr(nbd_dialer, "over", over)
    with pytest.raises(SourceRefused, match="QEMU does not serve it: it said something else"):
        opened(served)
    assert servers[0].child.poll() is not None
