"""A disk's file while it is made: created once, known by its id, given its name when it is whole.

Every step may be cut off and done again, and each is durable when it returns: file and directory are synced.

Program: `python -m p2vd.system.image_file REQUEST` does one step; request and answer are JSON.
A file server that is away hangs whoever asks it: so the daemon has another process ask.
"""

import ctypes
import errno
import grp
import json
import os
import pwd
import stat
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from p2vd.system import block, mountinfo
from p2vd.system.durable import sync_directory

_RENAME_NOREPLACE = 1
_AT_FDCWD = -100
_NO_FLAG = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class FileSeen:
    """A file that is there. `blank`: nothing was ever written to it."""

    file_id: str
    size_bytes: int
    blank: bool


@dataclass(frozen=True)
class DirectorySeen:
    """A directory that is there; sizes are of its filesystem, what is free is what this user may take.

    `writable`: files can be made in it, by this process.
    """

    mount_point: str
    filesystem: str
    filesystem_id: str
    size_bytes: int
    free_bytes: int
    names: tuple[str, ...]
    writable: bool


def look_at(directory: Path) -> DirectorySeen:
    """Return what a directory is and holds. Raises OSError (NotADirectoryError for a file)."""
    names = tuple(sorted(os.listdir(directory)))  # noqa: PTH208  (names are all that is wanted)
    numbers = os.statvfs(directory)
    # bavail: what is kept for root alone is nobody's but the host's.
    free = numbers.f_bavail * numbers.f_frsize
    mount_point, filesystem = _mount_of(directory)
    device = directory.stat().st_dev
    return DirectorySeen(
        mount_point,
        filesystem,
        f"{os.major(device)}:{os.minor(device)}",
        numbers.f_blocks * numbers.f_frsize,
        free,
        names,
        os.access(directory, os.W_OK | os.X_OK),
    )


def find(path: Path) -> FileSeen | None:
    """Return the file of that name; None: there is none.

    Raises OSError; FileExistsError for what is no plain file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise FileExistsError(errno.EEXIST, "it is a symbolic link", str(path)) from error
        raise
    try:
        return _seen(descriptor, path)
    finally:
        os.close(descriptor)


def create(path: Path, size_bytes: int, mount: str = "") -> FileSeen:
    """Make a sparse file of that size that nobody else can read. Raises FileExistsError, OSError.

    `mount`: where the filesystem must be mounted that the file comes to lie on; empty: anywhere.

    One that is there already is somebody else's, or an earlier attempt's: `find` tells.
    """
    if mount and _mount_of(path.parent)[0] != mount:
        raise OSError(errno.ENXIO, f"nothing is mounted at {mount}", str(path))
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        os.ftruncate(descriptor, size_bytes)
        os.fsync(descriptor)
        sync_directory(path.parent)
        return _seen(descriptor, path)
    finally:
        os.close(descriptor)


def resize(path: Path, file_id: str, size_bytes: int) -> FileSeen:
    """Give the file of that id its size: an attempt that was cut off may not have. Raises OSError."""
    descriptor = _open(path, file_id, os.O_RDWR)
    try:
        os.ftruncate(descriptor, size_bytes)
        os.fsync(descriptor)
        sync_directory(path.parent)
        return _seen(descriptor, path)
    finally:
        os.close(descriptor)


def publish(temporary: Path, path: Path, file_id: str, owner: str, group: str, mode: int) -> None:
    """Give the file its owner, its mode and its name; never in place of another file.

    Raises FileExistsError, KeyError for an owner or group that this host does not know, OSError.
    """
    # QEMU, which writes some formats, had it as its own meanwhile.
    uid = pwd.getpwnam(owner).pw_uid if owner else os.geteuid()
    gid = grp.getgrnam(group).gr_gid if group else os.getegid()
    named = find(path)
    if named is not None and named.file_id == file_id:  # by an attempt that was cut off
        remove(temporary, file_id)
    elif named is not None:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    descriptor = _open(temporary if named is None else path, file_id, os.O_RDWR)
    try:
        os.fchmod(descriptor, mode)
        os.fchown(descriptor, uid, gid)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if named is None:
        rename_new(temporary, path)
    sync_directory(path.parent)


def remove(path: Path, file_id: str) -> bool:
    """Remove the file of that name if it has that id; return whether it is gone. Raises OSError."""
    found = find(path)
    if found is not None and found.file_id == file_id:
        path.unlink()
        sync_directory(path.parent)
        return True
    return found is None


def rename_new(old: Path, new: Path) -> None:
    """Rename a file to a name that nobody has. Raises FileExistsError, OSError.

    NFS and some others know no renameat2 with a flag (EINVAL): there a second name is made, which also
    never replaces anything, before the first one goes; `publish` finishes what is cut off in between.
    """
    if _libc.renameat2(_AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), _RENAME_NOREPLACE) == 0:
        return
    number = ctypes.get_errno()
    if number not in _NO_FLAG:
        raise OSError(number, os.strerror(number), str(new))
    os.link(old, new, follow_symlinks=False)
    old.unlink()


def _open(path: Path, file_id: str, access: int) -> int:
    descriptor = os.open(path, access | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if _seen(descriptor, path).file_id != file_id:
            raise FileExistsError(errno.EEXIST, "it is another file than the one that was made", str(path))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _seen(descriptor: int, path: Path) -> FileSeen:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise FileExistsError(errno.EEXIST, "it is no plain file", str(path))
    return FileSeen(block.file_id(descriptor), status.st_size, _is_blank(descriptor, status))


def _is_blank(descriptor: int, status: os.stat_result) -> bool:
    """Whether a file has no data: by its holes, for some filesystems (ZFS) count a block for an empty one."""
    if status.st_size == 0 or status.st_blocks == 0:
        return True
    try:
        os.lseek(descriptor, 0, os.SEEK_DATA)
    except OSError as error:
        return error.errno == errno.ENXIO
    return False


def _mount_of(directory: Path) -> tuple[str, str]:
    """Return where the filesystem of a directory is mounted on the host, and its kind.

    What has no device number of its own is no filesystem of its own: a directory bound onto itself, or
    a mount that this process does not see.
    """
    canonical = os.path.realpath(directory)
    for mount in mountinfo.above(canonical, mountinfo.read()):
        point = Path(mount.point)
        if mount.point == "/" or point.stat().st_dev != point.parent.stat().st_dev:
            return mount.point, mount.kind
    return "/", ""


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Do the step that `request` names; what goes wrong is an answer, too."""
    try:
        return _do(request)
    except KeyError as error:
        return {"error": "KeyError", "text": str(error.args[0])}
    except OSError as error:
        return {"error": type(error).__name__, "errno": error.errno, "text": error.strerror or str(error)}


def _do(request: Mapping[str, Any]) -> dict[str, Any]:
    path = Path(request["path"])
    match request["step"]:
        case "look":
            return {"seen": asdict(look_at(path))}
        case "find":
            found = find(path)
            return {"seen": asdict(found) if found else None}
        case "create":
            return {"seen": asdict(create(path, request["size_bytes"], request["mount"]))}
        case "resize":
            return {"seen": asdict(resize(path, request["file_id"], request["size_bytes"]))}
        case "publish":
            owner = (request["owner"], request["group"], request["mode"])
            publish(path, Path(request["name"]), request["file_id"], *owner)
            return {"seen": None}
        case "remove":
            return {"seen": remove(path, request["file_id"])}
        case step:
            raise ValueError(f"there is no step {step!r}")


def main() -> int:
    """Do one step."""
    print(json.dumps(answer(json.loads(sys.argv[1]))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
