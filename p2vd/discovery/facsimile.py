"""A disk that has no device here, for tools that want one to open: as much of it in memory as they read.

blkid and partx open a file in memory, as large as the disk and at first all hole. What they read of it is
learned from libblkid's own account (`LIBBLKID_DEBUG`, blkid(8)): read_buffer() in its probe.c, by which all
probes read, says `read: off=OFFSET len=BYTES` before it does (in util-linux 2.38 to 2.41). Where that was a
hole still, their answer is thrown away: the place is fetched, and they run again, until all that they have
read is the disk's. So no superblock's place is written down here, and none can be forgotten: an NTFS's
records lie GiBs from its start, what RAID leaves lies at a disk's end. A libblkid that gives no account is
an error, not a disk with nothing on it.
"""

import errno
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from p2vd.model.errors import P2vdError
from p2vd.model.size import MIB
from p2vd.system import sandbox
from p2vd.system.command import CommandFailed, Result
from p2vd.system.sandbox import Limits

MOST_BYTES = 128 * MIB
"""So much of a disk is fetched, and in memory; 64 partitions need less."""

_PAGE = 4096
_BRIDGED_PAGES = 16
"""Places that lie nearer to each other are fetched at once, with what lies between."""

_MOST_ROUNDS = 40
_TRACE_BYTES = 4 * MIB
_LIMITS = Limits(memory_bytes=512 * MIB, processor_s=20, file_bytes=_TRACE_BYTES)
_TRACE = {"LIBBLKID_DEBUG": "lowprobe"}
_TRACED = re.compile(r"\bread: off=(\d+) len=(\d+)")
_TRACE_LINE = re.compile(r"^\d+: libblkid:.*\n?", re.MULTILINE)

ReadAt = Callable[[int, int], bytes]
"""Reads so many bytes of the disk from an offset on, all within it."""

Place = tuple[int, int]
"""An offset and a length in bytes."""


@dataclass(eq=False)
class ReadsUntold(P2vdError):
    """A tool does not say which places it has read: what it found may be what a hole reads as."""

    tool: str
    template: ClassVar[str] = (
        "{tool} gives no account of what it reads (LIBBLKID_DEBUG): its libblkid was built without debugging."
    )


@dataclass(eq=False)
class TooFarSpread(P2vdError):
    """What lies on the disk leads from place to place without an end."""

    what: str
    template: ClassVar[str] = "What is on it cannot be followed: {what}."


class Facsimile:
    """The disk that `fetch` reads; `path` is good in children that inherit `fd`. Used by one thread.

    Raises OSError where no file can be as large.
    """

    def __init__(self, size_bytes: int, sector_size: int, fetch: ReadAt) -> None:
        self.size_bytes = size_bytes
        self.sector_size = self.physical_sector_size = sector_size
        self._fetch = fetch
        self._pages: set[int] = set()
        self.fd = os.memfd_create("p2vd-facsimile")
        self.path = f"/proc/self/fd/{self.fd}"
        try:
            os.ftruncate(self.fd, size_bytes)
        except BaseException:
            self.close()
            raise

    @property
    def fetched_bytes(self) -> int:
        """How much of the disk is here."""
        return len(self._pages) * _PAGE

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes, fewer at the end. Raises OSError, TooFarSpread, and what `fetch` raises."""
        length = min(length, max(0, self.size_bytes - offset))
        self.fill([(offset, length)])
        data = b""
        while len(data) < length and (piece := os.pread(self.fd, length - len(data), offset + len(data))):
            data += piece
        return data

    def fill(self, places: Iterable[Place]) -> bool:
        """Fetch what of these places is still a hole; whether there was any. Raises as `read`."""
        absent = self._absent(places)
        for first, end in _runs(absent):
            self._fetch_pages(first, end)
        return bool(absent)

    def close(self) -> None:
        """Forget it."""
        os.close(self.fd)

    def _absent(self, places: Iterable[Place]) -> set[int]:
        absent: set[int] = set()
        for offset, length in places:
            end = min(offset + length, self.size_bytes)
            if end <= offset:
                continue
            if end - offset > MOST_BYTES:
                raise TooFarSpread(f"{end - offset} bytes at {offset} are asked for")
            absent.update(range(offset // _PAGE, -(-end // _PAGE)))
            absent -= self._pages
            self._expect_room(len(absent))
        return absent

    def _expect_room(self, pages: int) -> None:
        if (pages + len(self._pages)) * _PAGE > MOST_BYTES:
            raise TooFarSpread(f"more than {MOST_BYTES // MIB} MiB of it are asked for")

    def _fetch_pages(self, first: int, end: int) -> None:
        self._expect_room(end - first)
        start = first * _PAGE
        length = min(end * _PAGE, self.size_bytes) - start
        data = self._fetch(start, length)
        if len(data) != length:
            raise OSError(errno.EIO, f"{length} bytes at {start} were asked for, and {len(data)} came")
        done = 0
        while done < length:
            done += os.pwrite(self.fd, memoryview(data)[done:], start + done)
        self._pages.update(range(first, end))


class FacsimileTools:
    """Runs tools of util-linux on a facsimile: in a sandbox, until they have read nothing but the disk."""

    def __init__(self, disk: Facsimile) -> None:
        self._disk = disk

    def query(self, argv: Sequence[str], *, timeout_s: float = 30.0, ok: Sequence[int] = (0,)) -> Result:
        """Run a tool that reads `disk.path` by libblkid alone.

        Raises CommandFailed, CommandTimedOut, ReadsUntold, TooFarSpread, and what fetching raises.
        """
        for _ in range(_MOST_ROUNDS):
            answer = sandbox.run(
                argv,
                [self._disk.fd],
                _LIMITS,
                timeout_s=timeout_s,
                ok=range(256),  # before all is there it may say anything
                environment=_TRACE,
                kept_bytes=_TRACE_BYTES,
            )
            places = [(int(offset), int(length)) for offset, length in _TRACED.findall(answer.stderr)]
            if not self._disk.fill(places):
                said = _TRACE_LINE.sub("", answer.stderr)
                if answer.returncode not in ok:
                    raise CommandFailed(answer.argv, answer.returncode, said)
                if not places:
                    raise ReadsUntold(argv[0])
                return replace(answer, stderr=said)
        raise TooFarSpread(f"{argv[0]} asked {_MOST_ROUNDS} times for more")


def _runs(pages: set[int]) -> list[tuple[int, int]]:
    """Return pages as ranges (first, end), joined where little lies between them."""
    runs: list[tuple[int, int]] = []
    for page in sorted(pages):
        if runs and page - runs[-1][1] < _BRIDGED_PAGES:
            runs[-1] = (runs[-1][0], page + 1)
        else:
            runs.append((page, page + 1))
    return runs
