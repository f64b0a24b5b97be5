"""A qcow2 as the target: whose file it is, what a kill leaves, compressed clusters written once."""

import contextlib
import os
import random
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from p2vd.copying import qcow2_target
from p2vd.copying.layout import BLOCK
from p2vd.system import block
from tests.copying.nbd_server import command, needs, same_disk
from tests.copying.test_tool import Files
from tests.copying.tool import Tool
from tests.waiting import until, until_ended

pytestmark = needs("qemu-img", "qemu-nbd")

SIZE = 12 * BLOCK
QCOW2 = ("--target-format", "qcow2")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    files = Files(tmp_path)
    files.make(SIZE, data=0.7)
    return files


@pytest.fixture
def tool(tmp_path: Path) -> Tool:
    source = tmp_path / "disk"
    source.write_bytes(random.Random(1).randbytes(SIZE))
    return Tool(source, tmp_path / "target", *QCOW2)


def server_of(tool: Tool) -> int:
    """The process id of the qemu-nbd that a running tool has started."""
    task = Path(f"/proc/{tool.running.pid}/task/{tool.running.pid}/children")
    (child,) = task.read_text().split()
    return int(child)


def equal(files: Files) -> bool:
    return same_disk(files.source, "raw", files.target, "qcow2")


@pytest.mark.parametrize("compression", [(), ("--compress", "zlib"), ("--compress", "zstd")])
@pytest.mark.parametrize("size", [1, 512, BLOCK, 3 * BLOCK + 65536 + 700])
def test_disks_of_any_size(files: Files, size: int, compression: tuple[str, ...]) -> None:
    files.make(size)
    code, report = files.run(*QCOW2, *compression)
    assert (code, report["failure"]) == (0, None)
    assert equal(files)
    assert files.run(*QCOW2, *compression)[1]["digest"] == report["digest"]


def test_a_file_that_is_there_is_never_overwritten(files: Files) -> None:
    files.target.write_bytes(b"mine")
    code, report = files.run(*QCOW2)
    assert (code, report["failure"]["name"]) == (1, "TargetRefused")
    assert files.target.read_bytes() == b"mine"
    assert not files.checkpoint.exists()


def test_another_file_in_its_place_is_refused(files: Files) -> None:
    assert files.run(*QCOW2)[0] == 0
    moved = files.target.with_name("moved")
    files.target.rename(moved)
    files.target.write_bytes(moved.read_bytes())
    code, report = files.run(*QCOW2)
    assert (code, report["failure"]["name"]) == (1, "TargetRefused")
    assert "another file" in report["failure"]["message"]


def test_another_form_at_the_next_run_is_refused(files: Files) -> None:
    assert files.run(*QCOW2)[0] == 0
    for words in ((), (*QCOW2, "--cluster-size", "128 KiB"), (*QCOW2, "--compress", "zlib")):
        code, report = files.run(*words)
        assert (code, report["failure"]["name"]) == (1, "CheckpointMismatch")


@pytest.mark.parametrize("size", ["32 KiB", "96 KiB", "4 MiB"])
def test_clusters_that_qemu_has_not_are_refused(files: Files, size: str) -> None:
    code, report = files.run(*QCOW2, "--cluster-size", size)
    assert (code, report["failure"]["name"]) == (1, "TargetRefused")
    assert not files.target.exists()


def test_the_server_ends_with_the_copy(tool: Tool) -> None:
    tool.start("--bandwidth", "2 MiB")
    tool.until_committed()
    pid = server_of(tool)
    tool.kill()
    until_ended(pid)
    assert tool.run()[0] == 0


def test_a_killed_server_ends_the_copy_and_what_it_leaked_is_freed(tool: Tool, tmp_path: Path) -> None:
    tool.start("--bandwidth", "2 MiB")
    committed = tool.until_committed()
    os.kill(server_of(tool), signal.SIGKILL)
    code, report = tool.end()
    assert code == 2
    assert "qemu-nbd" in report["failure"]["message"]
    code, report = tool.run()
    assert (code, report["failure"]) == (0, None)
    assert report["bytes_skipped"] >= committed
    assert "No errors" in command("qemu-img", "check", tool.target)
    assert same_disk(tmp_path / "disk", "raw", tool.target, "qcow2")


def test_clusters_that_nobody_counts_are_freed(files: Files) -> None:
    assert files.run(*QCOW2)[0] == 0
    # As QEMU leaves it that is killed after it counted a cluster and before it used it.
    with files.target.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        end = file.tell() // 65536
        file.truncate((end + 1) * 65536)
        file.seek(2 * 65536 + 2 * end)
        file.write(b"\0\1")
    code, _ = files.run(*QCOW2)
    assert code == 0
    assert "No errors" in command("qemu-img", "check", files.target)


def test_a_damaged_image_is_refused(files: Files) -> None:
    assert files.run(*QCOW2)[0] == 0
    with files.target.open("r+b") as file:
        file.seek(3 * 65536)  # the first entry of the first level
        file.write(b"\x80\0\1\0\0\0\0\0")
    code, report = files.run(*QCOW2)
    assert (code, report["failure"]["name"]) == (1, "TargetRefused")
    assert "qemu-img check finds errors" in report["failure"]["message"]


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """As a program has it that is no QEMU."""
    with path.open("r+b") as file:
        assert block.hold_file(file.fileno(), alone=True)
        yield


@contextlib.contextmanager
def qemu(path: Path) -> Iterator[None]:
    """A QEMU that writes to it."""
    place = path.with_name("other.sock")
    server = subprocess.Popen(["qemu-nbd", "-f", "qcow2", f"--socket={place}", str(path)])
    until(place.exists)
    yield
    server.kill()
    server.wait()


@pytest.mark.parametrize("other", [lock, qemu])
def test_an_image_that_another_process_has_locked_is_not_refused_for_good(
    files: Files, monkeypatch: pytest.MonkeyPatch, other: Callable[[Path], AbstractContextManager[None]]
) -> None:
    """The QEMU of an earlier run may hang in the kernel, which ends by itself or by a reboot."""
    assert files.run(*QCOW2)[0] == 0
    monkeypatch.setattr(qcow2_target, "_UNLOCKED_WITHIN_S", 0.0)
    with other(files.target):
        code, report = files.run(*QCOW2)
    assert (code, report["failure"]["name"]) == (2, "TargetLocked")
    assert f"lsof {files.target}" in report["failure"]["message"]
    assert files.run(*QCOW2)[0] == 0


def test_a_run_that_was_killed_before_it_wrote_is_begun_anew(files: Files) -> None:
    """Whatever qemu-img left half-made: the checkpoint knows of nothing in it."""
    files.make(SIZE)
    tool = Tool(files.source, files.target, *QCOW2)
    tool.start("--bandwidth", "1 MiB")
    until(tool.target.exists, every_s=0.005)
    tool.kill()
    code, report = tool.run()
    assert (code, report["failure"]) == (0, None)
    assert same_disk(files.source, "raw", tool.target, "qcow2")


@pytest.mark.parametrize("compression", ["none", "zlib", "zstd"])
def test_a_later_pass_writes_what_changed_and_nothing_is_lost(files: Files, compression: str) -> None:
    """Over clusters that are there, compressible ones over others and the other way round."""
    words = (*QCOW2, "--compress", compression)
    assert files.run(*words)[0] == 0
    chance = random.Random(5)
    with files.source.open("r+b") as file:
        for at in range(0, SIZE, 65536):
            if chance.random() < 0.5:
                file.seek(at)
                file.write(chance.choice((chance.randbytes(65536), b"text" * 16384, bytes(65536))))
    code, report = files.run(*words, "--resync")
    assert (code, report["failure"]) == (0, None)
    assert equal(files)
    assert "No errors" in command("qemu-img", "check", files.target)


def test_compressed_it_is_smaller_and_zeros_take_nothing(files: Files) -> None:
    with files.source.open("wb") as file:
        file.write(b"all work and no play " * (BLOCK // 7))
        file.truncate(400 * BLOCK)
    assert files.run(*QCOW2)[0] == 0
    plain = files.target.stat().st_blocks * 512
    files.target.unlink()
    files.checkpoint.unlink()
    assert files.run(*QCOW2, "--compress", "zstd")[0] == 0
    assert plain < 4 * BLOCK
    assert files.target.stat().st_blocks * 512 < plain // 3
    assert equal(files)
