"""Who a source without a WWID is, asked again at the moment it is opened."""

import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from p2vd.copying.opener import Opener
from p2vd.copying.opening import OpenReply, OpenRequest, SourceToOpen, TargetToOpen
from p2vd.model.disk import Transport
from p2vd.system import block
from p2vd.system.command import CommandFailed, SystemCommands
from p2vd.system.descriptors import close_all
from tests.fakes import FakeCommands, SleepingClock
from tests.loop import Loop, needs_loop

MIB = 1 << 20
NODE = "/dev/null"  # what sysfs says of its number is said by the tests
NUMBER = "1:3"
MD = "5fd9e0b6:1c2a3b4c:0d1e2f3a:4b5c6d7e"


def said(sysfs: Path, attribute: str, value: str) -> None:
    file = sysfs / "dev/block" / NUMBER / attribute
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(value)


def ask(source: SourceToOpen, sysfs: Path = block.SYSFS, commands: FakeCommands | None = None) -> OpenReply:
    """Who is it? Opens nothing."""
    opener = Opener(commands or FakeCommands(), clock=SleepingClock(), sysfs=sysfs)
    return opener.answer(OpenRequest(source))[0]


@pytest.mark.parametrize(
    ("source", "attribute", "value"),
    [
        (SourceToOpen(NODE, MIB, 512, transport=Transport.VIRTIO, id="virtio-A1"), "serial", "A1\n"),
        (
            SourceToOpen(NODE, MIB, 512, wwid="eui.01", transport=Transport.NVME, id="eui.01"),
            "wwid",
            "eui.01\n",
        ),
    ],
)
def test_a_disk_is_asked_by_its_number(
    tmp_path: Path, source: SourceToOpen, attribute: str, value: str
) -> None:
    said(tmp_path, attribute, value)
    assert ask(source, tmp_path) == OpenReply(ok=True)
    said(tmp_path, attribute, "another\n")
    error = ask(source, tmp_path).error
    assert error is not None
    assert error.name == "IdentityChanged"
    assert "another" in error.message


def test_an_array_is_asked_by_mdadm() -> None:
    source = SourceToOpen(NODE, MIB, 512, transport=Transport.MD, id=f"md-{MD}")
    assert ask(source, commands=FakeCommands().on("mdadm", f"MD_UUID={MD}\n")).ok
    for answer in (f"MD_UUID={MD.replace('5', '6')}\n", "", "what?"):
        error = ask(source, commands=FakeCommands().on("mdadm", answer)).error
        assert error is not None
        assert error.name == "IdentityChanged"
    failed = ask(source, commands=FakeCommands().on("mdadm", CommandFailed(("mdadm",), 1, "no array"))).error
    assert failed is not None
    assert failed.name == "CommandFailed"


def test_a_disk_that_is_gone_is_absent(tmp_path: Path) -> None:
    source = SourceToOpen(str(tmp_path / "vdz"), MIB, 512, transport=Transport.VIRTIO, id="virtio-A1")
    error = ask(source).error
    assert error is not None
    assert error.name == "DeviceAbsent"


def test_the_wwid_of_an_nvme_path_is_the_kernels(tmp_path: Path) -> None:
    (tmp_path / "class/block/nvme0n1").mkdir(parents=True)
    (tmp_path / "class/block/nvme0n1/wwid").write_text("eui.01\n")
    lun = SourceToOpen("/dev/mapper/x", MIB, 512, "mpath-eui.01", "eui.01", ("nvme0n1", "nvme1n1"))
    # The second path is silent; a reservation is not asked for: sg_persist speaks SCSI.
    assert ask(lun, tmp_path) == OpenReply(ok=True, silent_paths=("nvme1n1",))
    assert ask(replace(lun, wwid="eui.02"), tmp_path).error is not None


@pytest.fixture
def image(tmp_path: Path) -> SourceToOpen:
    """An image of an odd size."""
    path = tmp_path / "disk.img"
    path.write_bytes(os.urandom(2 * MIB + 5))
    fd = os.open(path, os.O_PATH)
    file_id = block.file_id(fd)
    os.close(fd)
    return SourceToOpen(
        str(path), 2 * MIB + 5, 512, image=True, transport=Transport.IMAGE, id=str(path), file_id=file_id
    )


@pytest.fixture
def target(tmp_path: Path) -> Iterator[TargetToOpen]:
    """A block device that is larger."""
    with Loop(tmp_path / "target", 4 * MIB) as loop:
        yield TargetToOpen(loop.device, 4 * MIB, 512)


def opened(image: SourceToOpen, target: TargetToOpen) -> tuple[OpenReply, list[int]]:
    return Opener(FakeCommands(), clock=SleepingClock()).answer(OpenRequest(image, target))


def test_file_ids_are_those_of_stat(image: SourceToOpen) -> None:
    said = SystemCommands().query(["stat", "--printf=%i@%.9W", image.devnode]).stdout
    assert said == image.file_id


@needs_loop
def test_an_image_is_opened_and_held_against_writers(image: SourceToOpen, target: TargetToOpen) -> None:
    reply, fds = opened(image, target)
    assert reply.ok
    assert os.fstat(fds[0]).st_ino == Path(image.devnode).stat().st_ino
    with Path(image.devnode).open("r+b") as writer, pytest.raises(BlockingIOError):
        lock(writer.fileno(), fcntl.F_WRLCK, 101)
    close_all(fds)
    with Path(image.devnode).open("r+b") as writer:
        lock(writer.fileno(), fcntl.F_WRLCK, 101)


@needs_loop
def test_an_image_that_a_machine_runs_from_is_refused(image: SourceToOpen, target: TargetToOpen) -> None:
    with Path(image.devnode).open("r+b") as qemu:
        lock(qemu.fileno(), fcntl.F_RDLCK, 101)  # QEMU marks its permissions by read locks on single bytes
        reply, fds = opened(image, target)
    assert fds == []
    assert reply.error is not None
    assert reply.error.name == "DeviceInUse"
    assert "locked" in reply.error.message


@pytest.mark.skipif(not shutil.which("qemu-io"), reason="no qemu-io")
def test_qemu_and_p2vd_keep_each_other_off_an_image(image: SourceToOpen) -> None:
    fd = os.open(image.devnode, os.O_RDONLY)
    assert block.hold_file(fd)
    write = ["qemu-io", "-f", "raw", "-c", "write 0 512", image.devnode]
    refused = subprocess.run(write, capture_output=True, text=True, check=False)
    assert "Is another process using the image" in refused.stderr
    os.close(fd)
    with subprocess.Popen(write[:3] + write[5:], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as machine:
        assert machine.stdin is not None
        assert machine.stdout is not None
        machine.stdin.write(b"write 0 512\n")
        machine.stdin.flush()
        machine.stdout.readline()  # it has the image open
        fd = os.open(image.devnode, os.O_RDONLY)
        assert not block.hold_file(fd)
        os.close(fd)


@needs_loop
def test_another_file_of_that_name_is_refused(image: SourceToOpen, target: TargetToOpen) -> None:
    content = Path(image.devnode).read_bytes()
    Path(image.devnode + ".new").write_bytes(content)
    Path(image.devnode + ".new").rename(image.devnode)
    for reply, _ in (opened(image, target), (ask(image), [])):
        assert reply.error is not None
        assert reply.error.name == "IdentityChanged"


@needs_loop
def test_a_loop_device_is_its_image(tmp_path: Path, target: TargetToOpen) -> None:
    with Loop(tmp_path / "source", 2 * MIB) as loop:
        path = Path(f"/sys/class/block/{Path(loop.device).name}/loop/backing_file").read_text().strip()
        fd = os.open(path, os.O_PATH)
        file_id = block.file_id(fd)
        os.close(fd)
        source = SourceToOpen(loop.device, 2 * MIB, 512, transport=Transport.LOOP, id=path, file_id=file_id)
        reply, fds = opened(source, target)
        assert reply.ok
        close_all(fds)
        for other in (replace(source, id="/another.img"), replace(source, file_id="1@2.000000003")):
            error = opened(other, target)[0].error
            assert error is not None
            assert error.name == "IdentityChanged"


def lock(fd: int, kind: int, byte: int) -> None:
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", kind, os.SEEK_SET, byte, 1, 0))
