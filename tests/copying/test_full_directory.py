"""A directory that runs full, and filesystems that can do little: waited for, told, and correct."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from p2vd.copying import controls
from p2vd.copying.devices import Buffer
from p2vd.copying.layout import BLOCK
from p2vd.copying.protocol import FORMS_VERSION
from p2vd.copying.terms import TargetForm
from p2vd.model.forms import TargetFormat
from p2vd.system import block
from tests.copying.daemon import SIZE, Daemon
from tests.copying.test_tool import ODD, Files

JUDGES = {"raw": ["cat"], "raw.zst": ["zstd", "-dc"], "raw.gz": ["gunzip", "-c"]}
ROOM = 6 * BLOCK


class SmallDisk:
    """A tmpfs with little room, and a neighbour's file on it."""

    def __init__(self, place: Path):
        self.place = place
        self.neighbour = place / "neighbour"

    def mount(self) -> None:
        self._run("mount", "-t", "tmpfs", "-o", f"size={ROOM}", "p2vd-test", str(self.place))
        self.neighbour.write_bytes(b"precious" * 1000)

    def grow(self) -> None:
        self._run("mount", "-o", f"remount,size={64 * BLOCK}", str(self.place))

    def umount(self) -> None:
        self._run("umount", str(self.place))

    def unharmed(self) -> bool:
        return self.neighbour.read_bytes() == b"precious" * 1000

    @staticmethod
    def _run(*words: str) -> None:
        subprocess.run(words, check=True, capture_output=True)


def why_not() -> str:
    """Why nothing can be mounted here; empty: it can."""
    if os.geteuid() != 0:
        return "to mount a filesystem needs root"
    tried = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True, check=False)
    return f"no mounts here: {tried.stderr.strip()}" if tried.returncode else ""


root = pytest.mark.root
needs_mount = pytest.mark.skipif(bool(why_not()), reason=why_not())


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallDisk]:
    place = tmp_path / "small"
    place.mkdir()
    disk = SmallDisk(place)
    disk.mount()
    yield disk
    disk.umount()


def unpacked(path: Path, form: str) -> bytes:
    with path.open("rb") as file:
        return subprocess.run(JUDGES[form], stdin=file, capture_output=True, check=True).stdout


@root
@needs_mount
@pytest.mark.parametrize("form", ["raw", "raw.zst"])
def test_the_tool_waits_for_room_and_goes_on(tmp_path: Path, small: SmallDisk, form: str) -> None:
    files = Files(tmp_path)
    files.make(12 * BLOCK, data=1)
    files.target = small.place / "target"
    argv = [sys.executable, "-m", "p2vd.copying.worker", *files.words("--json", "--target-format", form)]
    tool = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert tool.stdout is not None
    lines = (json.loads(line) for line in tool.stdout)
    held = next(line for line in lines if line["type"] in ("held", "report"))
    assert (held["type"], held["reason"]) == ("held", "no-space")
    assert str(files.target) in held["message"]
    assert small.unharmed()
    small.grow()
    report = next(line for line in lines if line["type"] == "report")
    tool.communicate()
    assert (tool.returncode, report["failure"]) == (0, None)
    assert unpacked(files.target, form) == files.source.read_bytes()
    assert small.unharmed()


@root
@needs_mount
@pytest.mark.parametrize("form", [TargetFormat.RAW, TargetFormat.RAW_ZST])
def test_a_worker_ends_with_the_reason_and_the_next_one_goes_on(
    daemon: Daemon, small: SmallDisk, form: TargetFormat
) -> None:
    """The daemon holds the job for that reason: PoolFull."""
    daemon.target = small.place / "target"
    with daemon.target.open("wb") as file:
        file.truncate(SIZE if form is TargetFormat.RAW else 0)
    daemon.start = replace(
        daemon.start,
        version=1 if form is TargetFormat.RAW else FORMS_VERSION,
        target=replace(daemon.start.target, size_bytes=SIZE),
        target_form=TargetForm(form),
    )
    daemon.begin()
    code, report = daemon.end()
    assert code == 2
    assert report.failure is not None
    assert report.failure.name == "PoolFull"
    assert small.unharmed()
    small.grow()
    daemon.begin(resume=True)
    assert daemon.end()[0] == 0
    assert unpacked(daemon.target, form.value) == daemon.source.read_bytes()
    assert small.unharmed()


@pytest.mark.parametrize("form", JUDGES)
def test_a_filesystem_that_can_do_nothing_special(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, form: str
) -> None:
    """As NFS of old: no direct I/O, no holes punched, none told. Correct all the same, and said aloud."""
    files = Files(tmp_path)
    files.make(ODD)
    really_open, really_seek = os.open, os.lseek

    def no_direct(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return really_open(path, flags, mode, dir_fd=dir_fd)

    def no_holes(fd: int, offset: int, how: int) -> int:
        if how in (os.SEEK_DATA, os.SEEK_HOLE):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return really_seek(fd, offset, how)

    def no_punching(fd: int, offset: int, length: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "open", no_direct)
    monkeypatch.setattr(os, "lseek", no_holes)
    monkeypatch.setattr(block, "punch_hole", no_punching)
    code, report = files.run("--target-format", form, "--verify", "both")
    assert (code, report["failure"]) == (0, None)
    assert unpacked(files.target, form) == files.source.read_bytes()
    assert "no direct I/O" in caplog.text


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_flush_that_tells_of_no_space_is_waited_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """NFS takes writes that it has no room for, and tells at the flush; all of them are written again."""
    files = Files(tmp_path)
    files.make(8 * BLOCK, data=1)
    monkeypatch.setattr(controls, "_NO_SPACE_WAIT_S", 0.2)
    fdatasync, left = os.fdatasync, [3]

    def full(fd: int) -> None:
        if left[0] > 0:
            left[0] -= 1
            os.pwrite(fd, Buffer().view[:4096], 0)  # what was written before may be anything now
            raise OSError(number, os.strerror(number))
        fdatasync(fd)

    monkeypatch.setattr(os, "fdatasync", full)
    code, report = files.run()
    assert (code, report["failure"], left) == (0, None, [0])
    assert files.equal()
