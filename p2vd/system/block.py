"""Block devices and files through an open descriptor: what they are, and zeroing them.

Numbers are those of <linux/fs.h> and <linux/stat.h>; sysfs is reached by the device number, which an
open descriptor cannot lose, never by a name.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import stat
import struct
from pathlib import Path

_BLKROSET = 0x125D
_BLKROGET = 0x125E
_BLKSSZGET = 0x1268
_BLKPBSZGET = 0x127B
_BLKDISCARD = 0x1277
_BLKZEROOUT = 0x127F
_BLKGETSIZE64 = 0x80081272
_AT_EMPTY_PATH = 0x1000
_STATX_INO = 0x100
_STATX_BTIME = 0x800
_STATX_BYTES = 256
_FLOCK = "hhqqi4x"  # struct flock of fcntl(2) with 64-bit offsets
_FALLOC_KEEP_SIZE = 1
_FALLOC_PUNCH_HOLE = 2

FILE_ALIGNMENT = 4096
"""O_DIRECT on a file: the filesystem asks for its disk's sector size; 4096 satisfies them all."""

_BRIEF = 64 * 1024
"""So many bytes are compared in 5 us: with many threads, to get the interpreter lock back takes longer."""

SYSFS = Path("/sys")
_libc = ctypes.CDLL(None, use_errno=True)


def is_block(fd: int) -> bool:
    """Whether `fd` is a block device (else a file)."""
    return stat.S_ISBLK(os.fstat(fd).st_mode)


def size_bytes(fd: int) -> int:
    """The size now, of a block device (BLKGETSIZE64) or a file. Raises OSError."""
    if not is_block(fd):
        return os.fstat(fd).st_size
    (size,) = struct.unpack("Q", fcntl.ioctl(fd, _BLKGETSIZE64, b"\0" * 8))
    return int(size)


def sector_size(fd: int) -> int:
    """The logical sector size (BLKSSZGET); 512 for a file, which has none. Raises OSError."""
    return _get_int(fd, _BLKSSZGET) if is_block(fd) else 512


def physical_sector_size(fd: int) -> int:
    """The physical sector size (BLKPBSZGET); 512 for a file, which has none. Raises OSError."""
    return _get_int(fd, _BLKPBSZGET) if is_block(fd) else 512


def is_writable(fd: int) -> bool:
    """Whether what is open on `fd` may be written to through it (F_GETFL)."""
    return fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY


def alignment(fd: int) -> int:
    """What offsets and lengths of direct I/O must be multiples of."""
    return sector_size(fd) if is_block(fd) else FILE_ALIGNMENT


def set_direct(fd: int, direct: bool) -> None:
    """Read and write past the page cache (O_DIRECT) by this open file description, or not. Raises OSError."""
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    wanted = flags | os.O_DIRECT if direct else flags & ~os.O_DIRECT
    if wanted != flags:
        fcntl.fcntl(fd, fcntl.F_SETFL, wanted)


def is_read_only(fd: int) -> bool:
    """Whether the kernel refuses writes to the device. Raises OSError."""
    return bool(_get_int(fd, _BLKROGET))


def set_read_only(fd: int, read_only: bool) -> None:
    """Let the kernel refuse writes to the device, or allow them. Raises OSError."""
    fcntl.ioctl(fd, _BLKROSET, struct.pack("i", read_only))


def device_number(fd: int) -> str:
    """`MAJOR:MINOR` of a block device."""
    number = os.fstat(fd).st_rdev
    return f"{os.major(number)}:{os.minor(number)}"


def dm_uuid(fd: int, sysfs: Path = SYSFS) -> str:
    """The device-mapper UUID of the device that `fd` has open; empty if it is none."""
    return _attribute(fd, "dm/uuid", sysfs)


def attribute(fd: int, name: str, sysfs: Path = SYSFS) -> bytes:
    """A sysfs attribute of the block device that `fd` has open; empty where it has none. Raises OSError."""
    try:
        return (sysfs / "dev/block" / device_number(fd) / name).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return b""


def hold_file(fd: int, *, alone: bool = False) -> bool:
    """Lock a whole file against writers that ask (QEMU does); False where somebody has locked it.

    `alone`: against readers that ask, too; the descriptor is open for writing.

    The lock is of the open file description: it goes with the descriptor to another process and ends
    with its last copy. Any lock of others counts: a reader of today may write tomorrow. Raises OSError
    (ENOLCK, EOPNOTSUPP) where the filesystem has no locks.
    """
    found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    if struct.unpack(_FLOCK, found)[0] != fcntl.F_UNLCK:
        return False
    kind = fcntl.F_WRLCK if alone else fcntl.F_RDLCK
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, kind, os.SEEK_SET, 0, 0, 0))
    except BlockingIOError:
        return False
    return True


def wwid(fd: int, sysfs: Path = SYSFS) -> str:
    """What sysfs says of the WWID (`wwid`, `device/wwid`); cached by the kernel; empty if none."""
    return _attribute(fd, "wwid", sysfs) or _attribute(fd, "device/wwid", sysfs)


def holders(fd: int, sysfs: Path = SYSFS) -> tuple[str, ...]:
    """Devices stacked upon the one that `fd` has open, as `holders_of`."""
    return holders_of(device_number(fd), sysfs)


def holders_of(number: str, sysfs: Path = SYSFS) -> tuple[str, ...]:
    """The kernel's names of devices stacked upon `MAJOR:MINOR`, with dm names where they have one."""
    directory = sysfs / "dev/block" / number / "holders"
    names = []
    with contextlib.suppress(FileNotFoundError):
        for holder in sorted(directory.iterdir()):
            name = holder / "dm/name"
            names.append(f"{holder.name} ({name.read_text().strip()})" if name.exists() else holder.name)
    return tuple(names)


def mounts(device_numbers: frozenset[str], mountinfo: str) -> tuple[str, ...]:
    """Mount points of any of the `MAJOR:MINOR` numbers, from the text of a `mountinfo` (proc(5))."""
    lines = (line.split(" ") for line in mountinfo.splitlines())
    return tuple(field[4] for field in lines if len(field) > 4 and field[2] in device_numbers)


def completed_writes(stat: bytes) -> int:
    """Writes and discards that a block device has completed, from its `stat` in sysfs (iostats.rst).

    Raises ValueError, IndexError for what the kernel does not write.
    """
    words = stat.split()
    return int(words[4]) + (int(words[11]) if len(words) > 11 else 0)


def file_id(fd: int) -> str:
    """What tells a file from another that comes to have its name: inode and time of birth. Raises OSError.

    Not the filesystem's device number, which a restart may change. `stat --printf=%i@%.9W` says the same.
    """
    answer = ctypes.create_string_buffer(_STATX_BYTES)
    if _libc.statx(fd, b"", _AT_EMPTY_PATH, _STATX_INO | _STATX_BTIME, answer) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    (mask,) = struct.unpack_from("I", answer, 0)
    (inode,) = struct.unpack_from("Q", answer, 32)
    seconds, nanoseconds = struct.unpack_from("qI", answer, 80) if mask & _STATX_BTIME else (0, 0)
    return f"{inode}@{seconds}.{nanoseconds:09}"


def zero_out(fd: int, offset: int, length: int) -> None:
    """Make a range of a block device zero (BLKZEROOUT); allocates thin space. Raises OSError.

    The caller caps `length`: one large request made iSCSI sessions drop.
    """
    fcntl.ioctl(fd, _BLKZEROOUT, struct.pack("QQ", offset, length))


def discard(fd: int, offset: int, length: int) -> None:
    """Ask a block device to unmap a range. Raises OSError. Success says nothing of its contents."""
    fcntl.ioctl(fd, _BLKDISCARD, struct.pack("QQ", offset, length))


def punch_hole(fd: int, offset: int, length: int) -> None:
    """Make a range of a file a hole, which reads as zero. Raises OSError (EOPNOTSUPP: write zeros)."""
    mode = _FALLOC_KEEP_SIZE | _FALLOC_PUNCH_HOLE
    while _libc.fallocate(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(length)) != 0:
        number = ctypes.get_errno()
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))


def is_zero(buffer: "ctypes.Array[ctypes.c_char]", offset: int, length: int) -> bool:
    """Whether `length` bytes of `buffer` are zero: memcmp of it with itself, one byte further on.

    It runs at memory speed, and releases the interpreter lock where that takes longer than to get it back.
    """
    if length <= 0:
        return True
    if buffer[offset] != b"\0":
        return False
    address = ctypes.addressof(buffer) + offset
    compare = _memcmp if length > _BRIEF else _memcmp_brief
    return bool(compare(address, address + 1, length - 1) == 0)


def is_equal(
    buffer: "ctypes.Array[ctypes.c_char]", other: "ctypes.Array[ctypes.c_char]", length: int
) -> bool:
    """Whether the first `length` bytes of both are equal, as fast as `is_zero`."""
    return bool(_memcmp(ctypes.addressof(buffer), ctypes.addressof(other), length) == 0)


_memcmp = _libc.memcmp
_memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_memcmp.restype = ctypes.c_int
_memcmp_brief = ctypes.PyDLL(None).memcmp
_memcmp_brief.argtypes = _memcmp.argtypes
_memcmp_brief.restype = ctypes.c_int


def _get_int(fd: int, request: int) -> int:
    (value,) = struct.unpack("i", fcntl.ioctl(fd, request, b"\0" * 4))
    return int(value)


def _attribute(fd: int, name: str, sysfs: Path) -> str:
    return attribute(fd, name, sysfs).decode().strip()
