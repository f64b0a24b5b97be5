"""A host that has no process left for QEMU, or kills it: no fault of the image's, and said as it is."""

import errno
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2vd.copying import asker, image_forms, qemu
from p2vd.copying.asking import ImageToAsk
from p2vd.copying.errors import SourceRefused
from p2vd.model.forms import SourceFormat
from p2vd.system.command import CommandFailed, CommandKilled, CommandNotStarted, CommandTimedOut
from tests.copying.nbd_server import command, needs

ARGV = ("qemu-img", "info", "json:{}")
LACK = "Resource temporarily unavailable"


@pytest.fixture
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(subprocess, "Popen", refuse)


@pytest.fixture
def image(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "disk.qcow2"
    command("qemu-img", "create", "-q", "-f", "qcow2", path, "8M")
    fd = os.open(path, os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (CommandNotStarted(ARGV, 0.0, LACK), f"qemu-img could not be started: {LACK}"),
        (CommandKilled(ARGV, 60.0, 9), "qemu-img was ended by SIGKILL before it answered"),
        (CommandTimedOut(ARGV, 60.0), "qemu-img gave no answer in 60 s"),
        (CommandFailed(ARGV, 1, "qemu-img: Could not open 'json:{}': It is bad"), "It is bad"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_each_end_is_told_as_it_was(error: CommandFailed | CommandTimedOut, said: str) -> None:
    assert qemu.explained(error) == said


def test_a_program_that_is_not_there_is_to_be_installed() -> None:
    missing = CommandFailed(ARGV, 127, "No such file or directory: 'qemu-img'")
    assert qemu.explained(missing).endswith("install qemu-utils")


@needs("qemu-img")
def test_an_image_that_cannot_be_looked_at_is_not_refused(image: int, no_process: None) -> None:
    with pytest.raises(CommandNotStarted, match=LACK):
        image_forms.disk_size(image, "/x/disk.qcow2", SourceFormat.QCOW2)


@needs("qemu-img")
def test_an_image_whose_server_does_not_start_is_not_refused(
    image: int, no_process: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = tmp_path / "sockets"
    places.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(places))
    node = qemu.node(SourceFormat.QCOW2, image, direct=False)

    def refuse(problem: str) -> SourceRefused:
        return SourceRefused("/x/disk.qcow2", problem)

    with pytest.raises(CommandNotStarted, match=LACK):
        qemu.serve(node, image, writable=False, connections=1, user=None, refuse=refuse)
    assert list(places.iterdir()) == []


def test_it_says_nothing_of_the_images_size_either() -> None:
    """An answer that counts would be kept until the file is another."""

    def look(*_: object) -> int:
        raise CommandNotStarted(ARGV, 0.0, LACK)

    wanted = ImageToAsk("/x/disk.qcow2", "1:2", SourceFormat.QCOW2)
    answer = asker._answer(wanted, 0, look, lambda: False)
    assert answer.unread
    assert LACK in answer.problem
