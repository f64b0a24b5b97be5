"""The helper opens files and whole LUNs as targets: the one that is meant, alone, and empty at first."""

import fcntl
import os
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from p2vd.copying.opener import Opener
from p2vd.copying.opening import OpenReply, OpenRequest, SourceToOpen, TargetToOpen
from p2vd.model.disk import Transport
from p2vd.system import image_file
from p2vd.system.descriptors import close_all
from p2vd.system.image_file import FileSeen
from tests.copying.test_opener import FREE, MIB, RESERVED, WWID, failed
from tests.fakes import FakeCommands, SleepingClock
from tests.loop import Loop, needs_loop

NOTHING = FakeCommands().on("wipefs", "")


@pytest.fixture
def lun(tmp_path: Path) -> Iterator[Loop]:
    """A block device of 4 MiB of zeros."""
    with Loop(tmp_path / "lun", 4 * MIB) as loop:
        yield loop


@pytest.fixture
def source(tmp_path: Path) -> SourceToOpen:
    path = tmp_path / "source"
    seen = image_file.create(path, MIB)
    return SourceToOpen(
        str(path), MIB, 512, image=True, transport=Transport.IMAGE, id=str(path), file_id=seen.file_id
    )


@pytest.fixture
def made(tmp_path: Path) -> FileSeen:
    return image_file.create(tmp_path / "target", MIB)


def target(tmp_path: Path, file_id: str, size_bytes: int = MIB) -> TargetToOpen:
    return TargetToOpen(str(tmp_path / "target"), size_bytes, 512, file_id=file_id)


def ask(source: SourceToOpen, wanted: TargetToOpen, commands: FakeCommands = NOTHING) -> OpenReply:
    """The reply, with its descriptors closed."""
    reply, fds = Opener(commands, clock=SleepingClock()).answer(OpenRequest(source, wanted))
    close_all(fds)
    return reply


def lock_of(path: Path) -> int:
    """What would keep another from locking one byte of a file, as QEMU does."""
    with path.open("rb") as file:
        wanted = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 100, 1, 0)
        return int(struct.unpack("hhqqi4x", fcntl.fcntl(file, fcntl.F_OFD_GETLK, wanted))[0])


def error_of(reply: OpenReply) -> tuple[str, str]:
    assert reply.error is not None
    return reply.error.name, reply.error.message


def test_a_file_is_opened_alone(source: SourceToOpen, made: FileSeen, tmp_path: Path) -> None:
    wanted = target(tmp_path, made.file_id)
    opener = Opener(FakeCommands(), clock=SleepingClock())
    reply, fds = opener.answer(OpenRequest(source, wanted))
    assert reply.ok
    # The second worker, and QEMU, which asks for a lock of a byte.
    assert error_of(ask(source, wanted))[0] == "DeviceInUse"
    assert lock_of(tmp_path / "target") == fcntl.F_WRLCK
    close_all(fds)
    assert ask(source, wanted).ok


def test_what_locks_its_file_itself_is_not_locked_here(
    source: SourceToOpen, made: FileSeen, tmp_path: Path
) -> None:
    wanted = TargetToOpen(str(tmp_path / "target"), 0, 512, file_id=made.file_id, locked_by_user=True)
    _, fds = Opener(FakeCommands(), clock=SleepingClock()).answer(OpenRequest(source, wanted))
    assert len(fds) == 2
    assert lock_of(tmp_path / "target") == fcntl.F_UNLCK
    close_all(fds)


def test_another_file_of_that_name_is_refused(source: SourceToOpen, made: FileSeen, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(bytes(MIB))
    (tmp_path / "other").replace(tmp_path / "target")
    name, message = error_of(ask(source, target(tmp_path, made.file_id)))
    assert name == "IdentityChanged"
    assert made.file_id in message


def test_a_file_that_was_cut_is_refused(source: SourceToOpen, made: FileSeen, tmp_path: Path) -> None:
    os.truncate(tmp_path / "target", 4096)
    assert error_of(ask(source, target(tmp_path, made.file_id)))[0] == "IdentityChanged"


def test_a_link_in_its_place_is_not_followed(source: SourceToOpen, made: FileSeen, tmp_path: Path) -> None:
    (tmp_path / "target").rename(tmp_path / "real")
    (tmp_path / "target").symlink_to(tmp_path / "real")
    assert error_of(ask(source, target(tmp_path, made.file_id)))[0] == "OpenFailed"


def test_a_reserved_lun_is_no_target(source: SourceToOpen) -> None:
    wanted = TargetToOpen("/dev/nowhere", MIB, 512, wwid=WWID, path_devices=("sda",), must_be_empty=True)
    commands = FakeCommands().on("/lib/udev/scsi_id", WWID).on("sg_persist", RESERVED)
    assert error_of(ask(source, wanted, commands))[0] == "DeviceReserved"
    other = FakeCommands().on("/lib/udev/scsi_id", "36001405other").on("sg_persist", FREE)
    assert error_of(ask(source, wanted, other))[0] == "IdentityChanged"


def test_a_path_of_the_target_that_is_silent_is_named_beside_the_sources(
    made: FileSeen, tmp_path: Path
) -> None:
    lun = SourceToOpen("/dev/nowhere", MIB, 512, wwid=WWID, path_devices=("sda", "sdb"))
    wanted = replace(target(tmp_path, made.file_id), wwid=WWID, path_devices=("sdc", "sdd"))
    commands = FakeCommands().on("/lib/udev/scsi_id", WWID).on("sg_persist", FREE)
    for silent in ("sda", "sdd"):
        commands.on(f"/lib/udev/scsi_id -g -u -d /dev/{silent}", failed)
    opener = Opener(commands, clock=SleepingClock())
    assert (opener.check_wwid(lun), opener.check_target(wanted)) == (("sda",), ("sdd",))
    (tmp_path / "source").touch()
    image = SourceToOpen(str(tmp_path / "source"), 0, 512, image=True)
    reply, fds = opener.answer(OpenRequest(image, wanted))
    close_all(fds)
    assert (reply.ok, reply.silent_paths) == (True, ("sdd",))


@needs_loop
@pytest.mark.parametrize(
    ("offset", "fresh", "ok"),
    [(None, True, True), (0, True, False), (4 * MIB - 1, True, False), (0, False, True)],
)
def test_a_lun_is_empty_before_its_first_byte(
    lun: Loop, source: SourceToOpen, offset: int | None, fresh: bool, ok: bool
) -> None:
    if offset is not None:
        fd = os.open(lun.device, os.O_WRONLY)
        os.pwrite(fd, b"x", offset)
        os.fsync(fd)
        os.close(fd)
    wanted = TargetToOpen(lun.device, 4 * MIB, 512, must_be_empty=fresh)
    reply = ask(source, wanted)
    assert reply.ok is ok
    if not ok:
        name, message = error_of(reply)
        assert name == "TargetRefused"
        assert "is not zero" in message


@needs_loop
def test_a_lun_with_a_signature_is_no_target(lun: Loop, source: SourceToOpen) -> None:
    wanted = TargetToOpen(lun.device, 4 * MIB, 512, must_be_empty=True)
    told = '{"signatures": [{"type": "ext4", "offset": "0x438"}]}'
    name, message = error_of(ask(source, wanted, FakeCommands().on("wipefs", told)))
    assert name == "TargetRefused"
    assert "ext4 at 0x438" in message


def test_with_a_source_that_the_worker_connects_to_the_target_is_opened_alone(
    made: FileSeen, tmp_path: Path
) -> None:
    wanted = OpenRequest(None, target(tmp_path, made.file_id))
    reply, fds = Opener(NOTHING, clock=SleepingClock()).answer(wanted)
    assert (reply.ok, reply.silent_paths, len(fds)) == (True, (), 1)
    assert os.fstat(fds[0]).st_ino == (tmp_path / "target").stat().st_ino
    close_all(fds)


def test_an_image_is_opened_whatever_its_own_size_and_left_to_qemu_to_lock(
    source: SourceToOpen, made: FileSeen, tmp_path: Path
) -> None:
    image = replace(source, size_bytes=0, locked_by_user=True)
    reply, fds = Opener(NOTHING, clock=SleepingClock()).answer(
        OpenRequest(image, target(tmp_path, made.file_id))
    )
    assert reply.ok
    assert lock_of(Path(source.devnode)) == fcntl.F_UNLCK
    close_all(fds)
