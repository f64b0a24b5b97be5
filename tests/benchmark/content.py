"""What disks and files are filled with, always past the page cache."""

import enum
import fcntl
import mmap
import os
import random
from collections.abc import Iterator
from pathlib import Path

from p2vd.model.size import KIB, MIB
from p2vd.system import block

_STEP = 4 * MIB
_ZERO_STEP = 128 * MIB  # design: §4.9
_BLKFLSBUF = 0x1261
# Bytes that no signature check takes for something, and that are not zero.
_OLD = b"\xa5"


class Content(enum.Enum):
    """What a disk holds."""

    RANDOM = "random data"
    QUARTER = "25 % data"
    ZERO = "zeros"
    OLD = "old bytes"


def data_runs(size_bytes: int, share: float = 0.25) -> Iterator[tuple[int, int]]:
    """Yield (start, length) of data: 64 KiB to 4 MiB at multiples of 4 KiB, `share` of it all.

    The same for every call, as is a disk that is copied again and again. Nothing is aligned to the
    engine's own units: a filesystem's extents are not either.
    """
    chance = random.Random(1)
    gap = (1 - share) / share
    at = 0
    while at < size_bytes:
        length = chance.randrange(64 * KIB, 4 * MIB, 4 * KIB)
        yield at, min(length, size_bytes - at)
        at += length + int(chance.randrange(64 * KIB, 4 * MIB) * gap) // (4 * KIB) * 4 * KIB


def fill_device(path: Path, content: Content) -> None:
    """Write all of a block device. Raises OSError, EBUSY where somebody has it."""
    fd = os.open(path, os.O_RDWR | os.O_DIRECT | os.O_EXCL | os.O_CLOEXEC)
    try:
        size = block.size_bytes(fd)
        if content is Content.ZERO:
            for start in range(0, size, _ZERO_STEP):
                block.zero_out(fd, start, min(_ZERO_STEP, size - start))
        else:
            _write(fd, size, content)
        os.fsync(fd)
    finally:
        os.close(fd)


def _write(fd: int, size: int, content: Content) -> None:
    with mmap.mmap(-1, _STEP) as memory, memoryview(memory) as view:
        view[:] = _OLD * _STEP
        runs = data_runs(size)
        run = next(runs, (size, 0))
        for start in range(0, size, _STEP):
            length = min(_STEP, size - start)
            if content is Content.RANDOM:
                view[:length] = os.urandom(length)
            elif content is Content.QUARTER:
                view[:] = bytes(_STEP)
                while run[0] < start + length:
                    first, last = max(run[0], start), min(run[0] + run[1], start + length)
                    view[first - start : last - start] = os.urandom(last - first)
                    if last < run[0] + run[1]:  # it goes on in the next step
                        break
                    run = next(runs, (size, 0))
            if start == 0 and content is not Content.OLD:
                # Random bytes make a signature of two bytes now and then, which would refuse the target.
                view[: 4 * KIB] = _OLD * (4 * KIB)
            done = os.pwrite(fd, view[:length], start)
            if done != length:
                raise OSError(f"a write of {length} bytes at {start} ended after {done}")


def make_sparse_file(path: Path, size_bytes: int) -> None:
    """Write a file of 25 % data; the rest are holes."""
    with path.open("xb") as file:
        file.truncate(size_bytes)
        for start, length in data_runs(size_bytes):
            file.seek(start)
            file.write(os.urandom(length))
        file.flush()
        os.fsync(file.fileno())


def make_thin_file(path: Path, size_bytes: int, step_bytes: int) -> None:
    """Write a file that is a hole but for 4 KiB in every `step_bytes`: much to remember, little to copy."""
    with path.open("xb") as file:
        file.truncate(size_bytes)
        for start in range(step_bytes // 3 // MIB * MIB, size_bytes, step_bytes):
            file.seek(start)
            file.write(os.urandom(4 * KIB))
        file.flush()
        os.fsync(file.fileno())


def change(path: Path, share: float) -> None:
    """Write new random bytes into that share of a device's MiBs, chosen anew each time."""
    fd = os.open(path, os.O_RDWR | os.O_DIRECT | os.O_EXCL | os.O_CLOEXEC)
    try:
        blocks = block.size_bytes(fd) // MIB
        with mmap.mmap(-1, MIB) as memory, memoryview(memory) as view:
            for number in random.sample(range(blocks), max(1, round(blocks * share))):
                view[:] = os.urandom(MIB)
                os.pwrite(fd, view, number * MIB)
        os.fsync(fd)
    finally:
        os.close(fd)


def zero_share(path: Path, looked_at: int = 256) -> float:
    """Which share of random MiBs of a device is zero."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        blocks = max(1, block.size_bytes(fd) // MIB)
        chosen = random.sample(range(blocks), min(looked_at, blocks))
        zero = sum(not any(os.pread(fd, MIB, number * MIB)) for number in chosen)
        return zero / len(chosen)
    finally:
        os.close(fd)


def forget(*paths: Path) -> None:
    """Empty the page cache of these devices and files, after all that is dirty was written."""
    os.sync()
    for path in paths:
        if not path.exists():
            continue
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if block.is_block(fd):
                fcntl.ioctl(fd, _BLKFLSBUF)
            else:
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)
