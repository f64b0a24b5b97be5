"""A worker hears its daemon while it prepares its copy, however long QEMU looks at an image."""

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2vd.copying.controls import Controls
from p2vd.copying.orders import Orders
from p2vd.copying.protocol import Bandwidth, Pause, Resume, Stop, encode
from p2vd.copying.terms import SourceForm, TargetForm
from p2vd.copying.throttle import ChunkCredit
from p2vd.model.forms import SourceFormat, TargetFormat
from p2vd.system.clock import SystemClock
from p2vd.system.descriptors import SeqpacketChannel
from tests.copying.daemon import PATIENCE_S, Daemon
from tests.copying.nbd_server import command, needs
from tests.copying.test_handed_forms import begin, disk, opened
from tests.waiting import until, until_ended

__all__ = ["disk"]  # a fixture

QCOW2 = SourceForm(SourceFormat.QCOW2)


@pytest.fixture
def checking(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file in which a `qemu-img check` that takes for ever tells its process id."""
    with tempfile.TemporaryDirectory() as name:  # not pytest's own, which root alone may enter
        place = Path(name)
        place.chmod(0o755)  # whoever the worker is runs the program
        told, program = place / "told", place / "qemu-img"
        told.touch()
        told.chmod(0o666)
        program.write_text(
            f'#!/bin/sh\n[ "$1" = check ] || exec {shutil.which("qemu-img")} "$@"\n'
            f"echo $$ > {told}\nexec sleep 600\n"
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", name, prepend=":")
        yield told


def process_of(told: Path) -> int:
    until(lambda: told.read_text().endswith("\n"), "nobody looks at the image")
    return int(told.read_text())


def begin_image(daemon: Daemon, disk: Path) -> None:
    image = disk.with_name("image.qcow2")
    command("qemu-img", "convert", "-f", "raw", "-O", "qcow2", disk, image)
    image.chmod(0o644)
    begin(daemon, QCOW2, TargetForm(TargetFormat.RAW), [opened(image), opened(daemon.target, os.O_RDWR)])


@needs("qemu-img", "qemu-nbd")
def test_a_stop_is_heard_while_an_image_is_checked(daemon: Daemon, disk: Path, checking: Path) -> None:
    begin_image(daemon, disk)
    pid = process_of(checking)
    daemon.tell(Pause())
    daemon.tell(Stop())
    code, report = daemon.end()
    assert (code, report.failure) == (5, None)
    until_ended(pid)
    assert daemon.target.stat().st_size == 0


@needs("qemu-img", "qemu-nbd")
def test_a_daemon_that_goes_while_an_image_is_checked_takes_its_worker_along(
    daemon: Daemon, disk: Path, checking: Path
) -> None:
    begin_image(daemon, disk)
    pid = process_of(checking)
    daemon.channel.close()
    assert daemon.gone() == 5
    until_ended(pid)


def test_what_is_said_before_the_copy_runs_is_obeyed() -> None:
    ours, theirs = SeqpacketChannel.pair()
    with ours, theirs:
        orders = Orders(theirs, Controls(SystemClock(), ChunkCredit(0)), threading.Event())
        assert not orders.ended()
        for message in (Pause(), Resume(), Pause(), Bandwidth(1)):
            ours.send(encode(message))
            assert not orders.ended()
        assert orders.controls.held
        orders.running = True
        ours.send(encode(Stop()))
        assert not orders.ended(), "a thread of the copy hears what is the conversation's"
        orders.listen(PATIENCE_S)
        assert orders.ended()


def test_a_signal_ends_it_too() -> None:
    ours, theirs = SeqpacketChannel.pair()
    with ours, theirs:
        orders = Orders(theirs, Controls(SystemClock(), ChunkCredit(0)), threading.Event())
        orders.stop_asked.set()
        assert orders.ended()
        assert orders.controls.stopped
