"""Descriptors that somebody handed over: read to their end, or given up."""

import os
import socket
import threading
from pathlib import Path

import pytest

from p2vd.system.handed import read_to_end


def test_a_file_is_read_from_where_it_stands(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789" * 20_000)
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    os.lseek(fd, 5, os.SEEK_SET)
    assert read_to_end(fd, 1 << 20, 5)[:7] == b"5678901"
    os.close(fd)


def test_a_pipe_is_read_as_it_is_written() -> None:
    read, write = os.pipe()

    def feed() -> None:
        for part in (b"a" * 100_000, b"b" * 100_000):  # more than a pipe holds
            with memoryview(part) as rest:
                sent = 0
                while sent < len(rest):
                    sent += os.write(write, rest[sent:])
        os.close(write)

    writer = threading.Thread(target=feed)
    writer.start()
    assert read_to_end(read, 1 << 20, 20) == b"a" * 100_000 + b"b" * 100_000
    writer.join()
    os.close(read)


def test_a_pipe_without_an_end_is_given_up() -> None:
    read, write = os.pipe()
    os.write(write, b"begun")
    with pytest.raises(TimeoutError, match="its end did not come"):
        read_to_end(read, 1 << 20, 0.05)
    for fd in (read, write):
        os.close(fd)


def test_a_socket_is_as_good() -> None:
    one, other = socket.socketpair()
    one.sendall(b"record")
    one.close()
    assert read_to_end(other.fileno(), 10, 5) == b"record"
    other.close()


def test_the_limit_is_the_most_that_is_taken() -> None:
    fd = os.memfd_create("record")
    os.truncate(fd, 100)
    assert len(read_to_end(fd, 100, 5)) == 100
    os.lseek(fd, 0, os.SEEK_SET)
    with pytest.raises(ValueError, match="longer than 99 bytes"):
        read_to_end(fd, 99, 5)
    os.close(fd)


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/"])
def test_devices_and_directories_are_refused(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    with pytest.raises(ValueError, match="no file, pipe or socket"):
        read_to_end(fd, 10, 5)
    os.close(fd)
