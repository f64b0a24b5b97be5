"""A secret comes by a descriptor of any kind, and never keeps a caller waiting."""

import os
from pathlib import Path

import pytest

from p2vd.system.secrets import read_descriptor


def test_from_a_file_and_from_a_memory_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"hush\nand more\n")
    fd = os.open(tmp_path / "secret", os.O_RDONLY)
    assert read_descriptor(fd, 5) == b"hush"
    os.close(fd)
    fd = os.memfd_create("x")
    os.write(fd, b"hush")
    os.lseek(fd, 0, os.SEEK_SET)
    assert read_descriptor(fd, 5) == b"hush"
    os.close(fd)


@pytest.mark.parametrize(("written", "closes"), [(b"hush\n", False), (b"hush", True)])
def test_from_a_pipe(written: bytes, closes: bool) -> None:
    read, write = os.pipe()
    os.write(write, written)
    if closes:
        os.close(write)
    assert read_descriptor(read, 5) == b"hush"
    os.close(read)
    if not closes:
        os.close(write)


def test_a_silent_writer_is_not_waited_for() -> None:
    read, write = os.pipe()
    with pytest.raises(TimeoutError):
        read_descriptor(read, 0.01)
    os.close(read)
    os.close(write)


def test_what_is_too_long_is_no_secret() -> None:
    fd = os.open("/dev/zero", os.O_RDONLY)
    with pytest.raises(ValueError, match="longer"):
        read_descriptor(fd, 5)
    os.close(fd)
