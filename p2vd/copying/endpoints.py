"""The tool's own source and target where they are files: opened, and refused where a copy would do harm.

Block devices are `block_endpoints`. Under the daemon neither runs: there discovery, the plan and the
opener decide.
"""

import errno
import logging
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from p2vd.copying.errors import OpenFailed, SourceRefused, TargetRefused
from p2vd.system import block, durable

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Thin:
    """How a thin LV's pool allocates. `chunk_bytes` 0: not thin."""

    chunk_bytes: int = 0
    pool_zeroes: bool = False


@dataclass(frozen=True)
class Endpoint:
    """An open source or target. `id` is what cannot drift. `tail_fd`: without O_DIRECT, or -1.

    `thin`: how its pool allocates, of a target that is a thin LV.
    """

    fd: int
    id: str
    size_bytes: int
    sector_size: int
    dm_uuid: str = ""
    tail_fd: int = -1
    thin: Thin = field(default_factory=Thin)


def is_block(path: Path) -> bool:
    """Whether there is a block device of that name. Raises OpenFailed."""
    return stat.S_ISBLK(_status(path).st_mode)


def open_file_source(path: Path, *, direct: bool = True) -> Endpoint:
    """Open the file that is the source, for `direct` I/O or not. Raises OpenFailed, SourceRefused."""
    if not stat.S_ISREG(_status(path).st_mode):
        raise SourceRefused(str(path), "it is neither a block device nor a file.")
    fd = _open_file(path, os.O_RDONLY, direct)
    return Endpoint(fd, f"{path.resolve()} {file_id(fd)}", os.fstat(fd).st_size, 512)


def create_file_target(path: Path, size_bytes: int, *, begun: bool, direct: bool = True) -> Endpoint:
    """Create the target as a sparse file. `begun`: an earlier run may have been killed right after it.

    Raises TargetRefused where there is one that was not made by this copy, OpenFailed.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        status = _status(path)
        empty = stat.S_ISREG(status.st_mode) and not status.st_blocks and status.st_size in (0, size_bytes)
        if not (begun and empty):
            raise TargetRefused(
                str(path), "it exists, and this checkpoint's copy did not make it. Name a new file."
            ) from error
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise OpenFailed(str(path), error.strerror or str(error)) from error
    os.ftruncate(fd, size_bytes)
    os.fsync(fd)
    durable.sync_directory(path.parent)
    os.close(fd)
    return open_file_target(path, size_bytes, "", direct=direct)


def open_file_target(path: Path, size_bytes: int, expected_id: str, *, direct: bool = True) -> Endpoint:
    """Open the file that this copy created; -1: it may have any size. Raises TargetRefused, OpenFailed."""
    fd = _open_file(path, os.O_RDWR, direct)
    found = block.file_id(fd)
    if expected_id not in ("", found, file_id(fd)):
        os.close(fd)
        raise TargetRefused(str(path), "it is another file than the one that this copy created.")
    if size_bytes not in (-1, os.fstat(fd).st_size):
        os.close(fd)
        raise TargetRefused(str(path), f"it no longer has {size_bytes} bytes.")
    tail = os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
    return Endpoint(fd, found, size_bytes, 512, tail_fd=tail)


def file_id(fd: int) -> str:
    """Device and inode of an open file: a name can come to mean another file, these cannot.

    Not for long: a filesystem may get another device number at the next boot. A target that has to be
    known again then is known by `block.file_id`.
    """
    status = os.fstat(fd)
    return f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}/{status.st_ino}"


def _status(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise OpenFailed(str(path), error.strerror or str(error)) from error


def _open_file(path: Path, access: int, direct: bool) -> int:
    try:
        return os.open(path, access | os.O_DIRECT * direct | os.O_CLOEXEC)
    except OSError as error:
        if error.errno != errno.EINVAL or not direct:
            raise OpenFailed(str(path), error.strerror or str(error)) from error
    log.warning("%s: its filesystem has no direct I/O; reading back may be answered from memory", path)
    return os.open(path, access | os.O_CLOEXEC)
