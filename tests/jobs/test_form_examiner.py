"""The helper that looks at exports and images: real servers and images, each with what Windows left on it."""

import gzip
import lzma
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from p2vd.copying import nbd_asker
from p2vd.copying.terms import NbdServer as Server
from p2vd.discovery.examining import ExamineReply, ExamineRequest
from p2vd.jobs.contents_keeper import ContentsKeeper
from p2vd.jobs.examiner_helper import ExaminerHelper
from p2vd.jobs.form_helper import FormHelper
from p2vd.model.contents import Examination
from p2vd.model.disk import Source, Transport
from p2vd.model.forms import IMAGE_NAMES
from p2vd.model.inventory import Inventory
from p2vd.model.nbd import NbdExport
from p2vd.model.size import GIB, MIB
from p2vd.planning.contents import HIBERNATED as HIBERNATED_CODE
from p2vd.planning.contents import contents_reasons
from p2vd.system import block
from tests.copying.daemon import NOBODY
from tests.copying.nbd_server import Authority, NbdServer, command, free_port, needs
from tests.discovery.recorded_disk import examined, recorded
from tests.waiting import until, until_stopped

pytestmark = [pytest.mark.slow, needs("blkid", "partx", "nbdkit")]

LONG_S = 40.0
WINDOWS = "windows-hibernated"
HIBERNATED = examined(WINDOWS)
SIZE = 40 * MIB


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A disk of 40 MiB with a hibernated Windows."""
    path = tmp_path / "disk.raw"
    recorded(WINDOWS)[0].write_to(path)
    assert path.stat().st_size == SIZE
    return path


@pytest.fixture
def helper() -> Iterator[FormHelper]:
    helper = FormHelper((NOBODY, NOBODY))
    yield helper
    helper.kill()
    helper.close()


def looked(helper: FormHelper, request: ExamineRequest) -> ExamineReply:
    return helper.examine(request, lambda waited_s: waited_s < LONG_S)


def of_export(uri: str, size_bytes: int = SIZE, **changes: Any) -> ExamineRequest:
    export = NbdExport(uri)
    return replace(ExamineRequest(export.id, size_bytes, 512, export=export), **changes)


def of_image(path: Path, size_bytes: int = SIZE) -> ExamineRequest:
    path.chmod(0o644)
    fd = os.open(path, os.O_PATH)
    try:
        file_id = block.file_id(fd)
    finally:
        os.close(fd)
    return ExamineRequest(str(path), size_bytes, 512, format=IMAGE_NAMES[path.suffix], file_id=file_id)


def p2vd_copy(source: Path, target: Path, form: str) -> None:
    checkpoint = target.with_name(f"{target.name}.checkpoint")
    words = [str(source), str(target), "--checkpoint", str(checkpoint), "--target-format", form]
    subprocess.run([sys.executable, "-m", "p2vd.copying.worker", *words], check=True)


# ---- exports ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("tcp", [True, False], ids=["tcp", "unix"])
def test_a_hibernated_windows_on_an_export(helper: FormHelper, disk: Path, tmp_path: Path, tcp: bool) -> None:
    """Over TCP without privileges from the start; a Unix socket is reached with them, and then they go."""
    with NbdServer(tmp_path, "-r", "file", disk, port=free_port() if tcp else 0) as server:
        edges = nbd_asker.ask(Server(server.uri)).edges
        reply = looked(helper, of_export(server.uri, file_id=edges))
        assert reply == ExamineReply(HIBERNATED)
        assert any(found.hibernated for _, found in HIBERNATED.places())
        assert looked(helper, of_export(server.uri)) == reply


def test_planning_refuses_it_with_what_the_daemon_knows(disk: Path, tmp_path: Path) -> None:
    with NbdServer(tmp_path, "-r", "file", disk, port=free_port()) as server:
        export = NbdExport(server.uri)
        seen = Source(export.id, "", "", export.name, "", SIZE, 512, Transport.NBD, export=export)
        keeper = ContentsKeeper(partial(FormHelper, (NOBODY, NOBODY)), lambda _: None)
        assert keeper.refresh(seen, LONG_S)
        (known,) = keeper.attach(Inventory((seen,))).sources
        keeper.stop()
    assert [reason.code for reason in contents_reasons(known, None)] == [HIBERNATED_CODE]


@needs("openssl")
def test_one_with_tls(helper: FormHelper, disk: Path, tmp_path: Path) -> None:
    keys, port = Authority(tmp_path, "ours"), free_port()
    words = ("-r", "--tls=require", f"--tls-certificates={keys.server('DNS:localhost')}")
    with NbdServer(tmp_path, *words, "file", disk, port=port):
        export = NbdExport(f"nbds://localhost:{port}/", str(keys.client))
        request = ExamineRequest(export.id, SIZE, 512, export=export)
        assert looked(helper, request) == ExamineReply(HIBERNATED)


def test_another_disk_in_its_place_is_not_taken_for_it(
    helper: FormHelper, disk: Path, tmp_path: Path
) -> None:
    with NbdServer(tmp_path, "-r", "file", disk, port=free_port()) as server:
        edges = nbd_asker.ask(Server(server.uri)).edges
        with disk.open("r+b") as file:
            file.write(b"x")
        assert "holds another disk now" in looked(helper, of_export(server.uri, file_id=edges)).problem
        assert "its size has changed" in looked(helper, of_export(server.uri, SIZE + 512)).problem


def serving(directory: Path, disk: Path, when_far: str) -> NbdServer:
    """A server that gives the first MiB, and does that for whoever wants more."""
    give = f"dd if={disk} iflag=skip_bytes,count_bytes skip=$4 count=$3"
    read = f"test $4 -lt {MIB} || {{ {when_far}; }}; {give}"
    words = ("-r", "eval", f"get_size=echo {SIZE}", f"pread={read}", "thread_model=echo parallel")
    return NbdServer(directory, *words, port=free_port())


def test_one_that_has_less_than_it_says(helper: FormHelper, disk: Path, tmp_path: Path) -> None:
    with serving(tmp_path, disk, "echo EIO no such sector >&2; exit 1") as server:
        reply = looked(helper, of_export(server.uri))
    assert (reply.contents, reply.examination) == (None, Examination.FAILED)
    assert "cannot be read: Input/output error" in reply.problem


def test_one_that_is_lost_in_the_middle_says_nothing_of_its_disk(
    helper: FormHelper, disk: Path, tmp_path: Path
) -> None:
    with serving(tmp_path, disk, "kill -9 $PPID; exit 1") as server:
        reply = looked(helper, of_export(server.uri))
    assert (reply.contents, reply.examination) == (None, Examination.SILENT)
    assert "was lost" in reply.problem


def test_one_that_is_not_there(helper: FormHelper) -> None:
    reply = looked(helper, of_export(f"nbd://127.0.0.1:{free_port()}/"))
    assert reply.examination is Examination.SILENT
    assert "Connection refused" in reply.problem


def test_one_that_stops_answering_is_given_up(helper: FormHelper, disk: Path, tmp_path: Path) -> None:
    """And its helper ends, so that another may look later; meanwhile disks of others are looked at."""
    began: list[float] = []

    def until_asked_twice(waited_s: float) -> bool:
        began.append(waited_s)
        return waited_s < 2

    with serving(tmp_path, disk, f"touch {tmp_path}/asked; sleep 600") as server:
        with pytest.raises(TimeoutError):
            helper.examine(of_export(server.uri), until_asked_twice)
        assert began
        other = FormHelper((NOBODY, NOBODY))
        with NbdServer(tmp_path, "-r", "file", disk) as well:
            assert looked(other, of_export(well.uri)) == ExamineReply(HIBERNATED)
        other.close()
        helper.kill()
        ends_soon(lambda: helper.alive)


def test_a_helper_that_nobody_waits_for_ends(disk: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        helper = FormHelper((NOBODY, NOBODY))
        with pytest.raises(TimeoutError):
            helper.examine(of_export(f"nbd://127.0.0.1:{silent.getsockname()[1]}/"), lambda _: False)
        helper.close()
        ends_soon(lambda: helper.alive)


def ends_soon(alive: Callable[[], bool]) -> None:
    until(lambda: not alive(), within_s=LONG_S, every_s=0.05)


@needs("qemu-nbd", "qemu-img")
def test_a_qemu_nbd_that_hangs_outlives_its_helper_and_is_known(
    helper: FormHelper, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one whose store stalls: a stopped process hears no SIGTERM."""
    path = disk.with_name("disk.qcow2")
    command("qemu-img", "convert", "-f", "raw", disk, path, "-O", "qcow2")
    with tempfile.TemporaryDirectory() as name:
        place, told = Path(name), Path(name) / "pid"
        place.chmod(0o777)
        (place / "qemu-nbd").write_text(
            f"#!/bin/sh\necho $$ $PPID > {told}.new\nmv {told}.new {told}\nkill -STOP $$\n"
        )
        (place / "qemu-nbd").chmod(0o755)
        monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
        with pytest.raises(TimeoutError):
            helper.examine(of_image(path), lambda waited_s: not told.exists() and waited_s < LONG_S)
        hanging, parent = map(int, told.read_text().split())
        until_stopped(hanging)
    helper.kill()
    helper.close()
    ends_soon(lambda: f"\nPPid:\t{parent}\n" in Path(f"/proc/{hanging}/status").read_text())
    try:
        assert helper.alive
    finally:
        os.kill(hanging, signal.SIGKILL)
    ends_soon(lambda: helper.alive)


# ---- images -----------------------------------------------------------------------------------------


@needs("qemu-nbd", "qemu-img")
@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("disk.qcow2", ("qcow2", "-c")),
        ("disk.vmdk", ("vmdk", "-o", "subformat=streamOptimized")),
        ("disk.vhd", ("vpc", "-o", "force_size=on")),
    ],
)
def test_a_hibernated_windows_in_an_image_of_a_virtual_machine(
    helper: FormHelper, disk: Path, name: str, form: tuple[str, ...]
) -> None:
    path = disk.with_name(name)
    command("qemu-img", "convert", "-f", "raw", disk, path, "-O", *form)
    assert looked(helper, of_image(path)) == ExamineReply(HIBERNATED)


@needs("qemu-nbd", "qemu-img")
def test_an_image_that_is_another_or_damaged(helper: FormHelper, disk: Path) -> None:
    path = disk.with_name("disk.qcow2")
    command("qemu-img", "convert", "-f", "raw", disk, path, "-O", "qcow2")
    assert "its size has changed" in looked(helper, of_image(path, 2 * SIZE)).problem
    before = of_image(path)
    other = disk.with_name("other")
    other.write_bytes(path.read_bytes())
    other.rename(path)
    assert "another file than a moment ago" in looked(helper, before).problem
    path.write_bytes(path.read_bytes()[: 64 << 10])
    assert "cut off" in looked(helper, of_image(path)).problem


@pytest.mark.parametrize("form", ["raw.zst", "raw.gz"])
def test_what_p2vd_has_packed_is_read_at_its_places(helper: FormHelper, disk: Path, form: str) -> None:
    large = disk.with_name("large.raw")
    recorded(WINDOWS)[0].write_to(large)
    with large.open("r+b") as file:
        file.truncate(GIB)
    path = disk.with_name(f"disk.{form}")
    p2vd_copy(large, path, form)
    reply = looked(helper, of_image(path, GIB))
    assert reply.contents is not None
    assert reply.contents.partitions == HIBERNATED.partitions


def test_an_xz_of_many_blocks_too(helper: FormHelper, disk: Path) -> None:
    path = disk.with_name("disk.xz")
    zeros = lzma.compress(bytes(16 * MIB), preset=0)
    path.write_bytes(lzma.compress(disk.read_bytes(), preset=0) + 5 * zeros)
    reply = looked(helper, of_image(path, SIZE + 80 * MIB))
    assert reply.contents is not None
    assert reply.contents.partitions == HIBERNATED.partitions


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [("gz", lambda data: gzip.compress(data, 1)), ("xz", lambda data: lzma.compress(data, preset=0))],
    ids=["gz", "xz"],
)
def test_what_can_only_be_read_from_its_start(
    helper: FormHelper, disk: Path, suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    """A small one is read; of a large one it is said that its end cannot be, and nothing is guessed."""
    small, large = disk.with_name(f"small.{suffix}"), disk.with_name(f"large.{suffix}")
    small.write_bytes(pack(disk.read_bytes()))
    assert looked(helper, of_image(small)) == ExamineReply(HIBERNATED)
    large.write_bytes(pack(disk.read_bytes() + bytes(30 * MIB)))
    reply = looked(helper, of_image(large, SIZE + 30 * MIB))
    assert (reply.contents, reply.examination) == (None, Examination.NO)
    assert "it can only be read from its start" in reply.problem


def test_a_damaged_place_is_a_problem_not_zeros(helper: FormHelper, disk: Path) -> None:
    path = disk.with_name("disk.raw.zst")
    p2vd_copy(disk, path, "raw.zst")
    packed = bytearray(path.read_bytes())
    packed[200:220] = bytes(20)
    path.write_bytes(packed)
    reply = looked(helper, of_image(path))
    assert (reply.contents, reply.examination) == (None, Examination.FAILED)


# ---- the helper of all kinds ------------------------------------------------------------------------


def test_plain_disks_have_one_helper_that_stays(helper: FormHelper, disk: Path) -> None:
    for _ in range(2):
        assert looked(helper, ExamineRequest(str(disk), SIZE, 512)) == ExamineReply(HIBERNATED)
    assert helper.alive


def test_what_was_killed_looks_at_nothing(helper: FormHelper, disk: Path) -> None:
    helper.kill()
    with pytest.raises(EOFError):
        looked(helper, ExamineRequest(str(disk), SIZE, 512))
    with pytest.raises(EOFError):
        looked(helper, of_export("nbd://127.0.0.1:1/"))


def test_a_helper_that_cannot_be_started() -> None:
    def start(*_: str) -> ExaminerHelper:
        raise OSError(12, "Cannot allocate memory")

    helper = FormHelper((NOBODY, NOBODY), start)
    with pytest.raises(EOFError, match="Cannot allocate memory"):
        looked(helper, of_export("nbd://127.0.0.1:1/"))
    assert not helper.alive
    helper.kill()
