"""Images that are looked into by the helper as it is, stopped as a file server that hangs stops it."""

import gzip
import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from p2vd.jobs import image_looks
from p2vd.jobs.image_look import SILENT, UNSIZED
from p2vd.model.forms import SourceFormat
from p2vd.system import block
from p2vd.system.process import Child, spawn
from tests.jobs.image_desk import Desk, image

SIZE = (3 << 20) + 512


class Helpers:
    """Starts helpers; the one of that number is stopped before it says a word."""

    def __init__(self, stopped: int) -> None:
        self.stopped = stopped
        self.children: list[Child] = []

    def spawn(self, argv: Sequence[str], channel_fd: int) -> Child:
        child = spawn(argv, channel_fd)
        self.children.append(child)
        if len(self.children) == self.stopped:
            os.kill(child.pid, signal.SIGSTOP)
        return child


def test_a_reading_that_hangs_is_given_up_and_done_again_once_it_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "disk.gz"
    path.write_bytes(gzip.compress(bytes(SIZE), 1))
    path.chmod(0o644)
    fd = os.open(path, os.O_PATH)
    file = replace(image("disk.gz", SourceFormat.GZ), id=str(path), file_id=block.file_id(fd))
    os.close(fd)
    helpers = Helpers(stopped=2)
    monkeypatch.setattr(image_looks, "_RETURN_POLL_S", 0.05)
    with Desk() as desk:
        monkeypatch.setattr(desk.asker, "spawn", helpers.spawn)
        desk.looks = desk.started()
        desk.until([file], {"disk.gz": (0, [UNSIZED])})
        with monkeypatch.context() as patch:
            patch.setattr(image_looks, "SILENCE_S", 0.5)
            desk.name("image")
            desk.until([file], {"disk.gz": (0, [SILENT])})
        desk.clock.now_s += 60
        os.kill(helpers.children[1].pid, signal.SIGCONT)
        desk.until([file], {"disk.gz": (SIZE, [])})
    assert [child.wait(60) for child in helpers.children] == [0, 1, 0, 0]  # the one given up heard of that
