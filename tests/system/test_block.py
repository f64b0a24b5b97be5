"""Block devices and files through a descriptor."""

import ctypes
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2vd.system import block
from tests.loop import Loop, needs_loop

MIB = 1 << 20


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b"x" * (2 * MIB + 5), 0)
    yield fd
    os.close(fd)


def test_a_file(file: int) -> None:
    assert not block.is_block(file)
    assert block.size_bytes(file) == 2 * MIB + 5
    assert block.sector_size(file) == 512
    assert block.alignment(file) == 4096


def test_a_hole_reads_as_zero(file: int) -> None:
    block.punch_hole(file, MIB, MIB)
    assert os.pread(file, 3 * MIB, 0) == b"x" * MIB + bytes(MIB) + b"x" * 5


def test_a_hole_that_cannot_be_is_an_error() -> None:
    read, write = os.pipe()
    with pytest.raises(OSError, match="seek"):
        block.punch_hole(write, 0, 4096)
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("length", [65536, 65537, MIB])
@pytest.mark.parametrize("at", [0, 1, 4095, 4096, 65535])
def test_one_byte_makes_a_buffer_not_zero(at: int, length: int) -> None:
    buffer = (ctypes.c_char * length)()
    assert block.is_zero(buffer, 0, length)
    buffer[at] = b"\1"
    assert not block.is_zero(buffer, 0, length)
    assert block.is_zero(buffer, 0, at)
    assert block.is_zero(buffer, at + 1, length - at - 1)


def test_equal_buffers() -> None:
    one, other = (ctypes.c_char * 100)(), (ctypes.c_char * 100)()
    one[99] = b"x"
    assert block.is_equal(one, other, 99)
    assert not block.is_equal(one, other, 100)


def test_sysfs_by_device_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = tmp_path / "dev/block/253:7"
    (device / "dm").mkdir(parents=True)
    (device / "dm/uuid").write_text("LVM-abc\n")
    (device / "holders/dm-9/dm").mkdir(parents=True)
    (device / "holders/dm-9/dm/name").write_text("vg-root\n")
    (device / "holders/md0").mkdir()
    monkeypatch.setattr(block, "device_number", lambda fd: "253:7")
    assert block.dm_uuid(0, tmp_path) == "LVM-abc"
    assert block.wwid(0, tmp_path) == ""
    assert block.holders(0, tmp_path) == ("dm-9 (vg-root)", "md0")
    assert block.holders_of("1:1", tmp_path) == ()


def test_mounts_of_a_device() -> None:
    mountinfo = (
        "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
        "30 22 253:7 / /srv/data rw - xfs /dev/mapper/x rw\n"
        "31 22 253:7 /a /mnt rw - xfs /dev/mapper/x rw\n"
    )
    assert block.mounts(frozenset({"253:7"}), mountinfo) == ("/srv/data", "/mnt")
    assert block.mounts(frozenset({"9:9"}), mountinfo) == ()


@pytest.mark.root
@needs_loop
@pytest.mark.parametrize("sector", [512, 4096])
def test_a_block_device(tmp_path: Path, sector: int) -> None:
    with Loop(tmp_path / "disk", 4 * MIB, sector) as loop:
        loop.backing.write_bytes(b"x" * 4 * MIB)
        fd = os.open(loop.device, os.O_RDWR | os.O_EXCL)
        assert stat.S_ISBLK(os.fstat(fd).st_mode)
        assert block.is_block(fd)
        assert block.size_bytes(fd) == 4 * MIB
        assert block.sector_size(fd) == block.alignment(fd) == sector
        assert block.dm_uuid(fd) == ""
        block.zero_out(fd, MIB, MIB)
        assert os.pread(fd, 4 * MIB, 0) == b"x" * MIB + bytes(MIB) + b"x" * 2 * MIB
        block.set_read_only(fd, True)
        assert block.is_read_only(fd)
        block.set_read_only(fd, False)
        assert not block.is_read_only(fd)
        os.close(fd)
