"""The audit's file: entries are appended, durably, and never changed.

The newest are in `audit.jsonl`; a file that is full gets the number of its first entry into its name. The
chain of hashes runs through all of them (chain.py), so an entry that is edited, removed or put in between
shows. What no file can show by itself, that its end was cut off, the journal shows: `told` takes the newest
hash there.

Written like this: one write, one fsync, then somebody may be told. What a failed write or fsync left is cut
off before anything follows it, and written again; a power cut leaves at most one torn line, which is kept
aside at the next start and has an entry of its own.
"""

import errno
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from p2vd.model.audit import AuditEvent, Kind
from p2vd.model.errors import P2vdError
from p2vd.records.chain import Check, Link, seal
from p2vd.records.files import CURRENT, last_link, rotated, rotated_name
from p2vd.system.durable import sync_directory

log = logging.getLogger(__name__)

_DAY_US = 86_400_000_000


@dataclass(eq=False)
class AuditUnwritable(P2vdError):
    """What was asked cannot be recorded, so it is not done."""

    path: str
    problem: str
    template: ClassVar[str] = (
        "The audit {path} cannot be written ({problem}). Nothing is changed that cannot be recorded: "
        "nothing was done. Make room or mend the filesystem, then ask again."
    )


@dataclass(eq=False)
class AuditUnreadable(P2vdError):
    """The audit's files cannot be read."""

    path: str
    problem: str
    template: ClassVar[str] = "The audit in {path} cannot be read: {problem}."


class AuditFile:
    """The one writer. Thread-safe; every append waits for the disk, so none is for the GLib thread."""

    def __init__(
        self,
        directory: Path,
        now_us: Callable[[], int],
        told: Callable[[AuditEvent, Link], None],
        max_bytes: int,
        keep_days: int = 0,
    ) -> None:
        """`told` hears of each entry once it is durable. `keep_days` 0: full files are kept for ever."""
        self._directory = directory
        self._path = directory / CURRENT
        self._now_us = now_us
        self._told = told
        self._max_bytes = max_bytes
        self._keep_us = keep_days * _DAY_US
        self._lock = threading.Lock()
        self._fd = -1
        self._bytes = 0  # of whole, durable entries; anything beyond is the rest of a failed write
        self._last = Link()
        self._is_dirty = False  # a write failed, and its rest may still be there

    def append(self, event: AuditEvent) -> Link:
        """Record `event`, durably; returns its place. Raises AuditUnwritable: then nothing was recorded."""
        with self._lock:
            try:
                self._make_ready()
                return self._write(event)
            except OSError as error:
                raise AuditUnwritable(str(self._path), error.strerror or str(error)) from error

    @property
    def last(self) -> Link:
        """The place of the newest entry; none (number 0) before the first append."""
        return self._last

    def close(self) -> None:
        """Close the file; a later append opens it again."""
        with self._lock:
            self._close()

    # -- the file as it is found --------------------------------------------------------------

    def _make_ready(self) -> None:
        if self._fd < 0:
            self._open()
        elif not self._is_as_left():
            lost = self._last
            text = f"Somebody else changed, replaced or removed it while p2vd ran, after entry {lost.number}."
            log.error("%s: %s", self._path, text)
            self._close()
            self._open()
            if self._last.number < lost.number:
                self._last = lost  # numbers and hashes go on: what is missing shows
            self._write(_about_file("changed", text, last=lost.number, last_hash=lost.hash))

    def _is_as_left(self) -> bool:
        try:
            here = self._path.stat()
        except FileNotFoundError:
            return False
        if not os.path.samestat(os.fstat(self._fd), here):
            return False
        return here.st_size == self._bytes or self._is_dirty

    def _open(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(self._path, flags, 0o600)
        try:
            sync_directory(self._directory)
            torn = self._find_end(fd)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        if torn:
            text = f"A power cut or a full disk had left {torn[1]} bytes that are no entry: now in {torn[0]}."
            log.warning("%s: %s", self._path, text)
            self._write(_about_file("torn", text, kept_in=torn[0], bytes=torn[1]))

    def _find_end(self, fd: int) -> tuple[str, int] | None:
        """Find the last whole entry, and put what follows it aside; returns where and how much that was."""
        before = rotated(self._directory)
        check = Check(last_link(before[-1]) if before else Link())
        begin, end = check.last, 0
        with os.fdopen(os.dup(fd), "rb") as file:
            file.seek(0)
            at = 0
            for line in file:
                at += len(line)
                if line.endswith(b"\n") and check.feed(f"{CURRENT}, byte {at - len(line)},", line[:-1]):
                    end = at
            file.seek(end)
            rest = file.read()
        for finding in check.findings:
            log.error("%s: %s See: p2vctl audit verify", self._path, finding)
        self._last = check.last if check.entries else begin
        self._bytes, self._is_dirty = end, False
        if not rest:
            return None
        aside = self._directory / f"torn-{self._now_us()}"
        _write_durably(aside, rest)
        os.ftruncate(fd, end)
        os.fsync(fd)
        return aside.name, len(rest)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    # -- an entry -----------------------------------------------------------------------------

    def _write(self, event: AuditEvent) -> Link:
        line, _ = seal(event, self._last, self._now_us())
        if self._bytes and self._bytes + len(line) + 1 > self._max_bytes:
            self._rotate()
        line, link = seal(event, self._last, self._now_us())
        data = line.encode() + b"\n"
        # After a failed fsync a second one says success with nothing written (design: §4.5): only what is
        # cut off and written anew can become durable.
        if self._is_dirty:
            os.ftruncate(self._fd, self._bytes)
        self._is_dirty = True
        try:
            if os.pwrite(self._fd, data, self._bytes) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._fd)
        except OSError:
            os.ftruncate(self._fd, self._bytes)
            raise
        self._is_dirty = False
        self._bytes += len(data)
        self._last = link
        self._told(event, link)
        return link

    def _rotate(self) -> None:
        first = self._first_number()
        self._path.rename(self._directory / rotated_name(first))
        self._close()
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(self._path, flags, 0o600)
        self._bytes = 0
        sync_directory(self._directory)
        if self._keep_us:
            self._remove_old()

    def _first_number(self) -> int:
        with os.fdopen(os.dup(self._fd), "rb") as file:
            file.seek(0)
            check = Check()
            for line in file:
                if entry := check.feed("", line.rstrip(b"\n")):
                    return int(entry["number"])
        raise OSError(errno.EIO, "it holds no entry")

    def _remove_old(self) -> None:
        """Remove the files whose last entry is too old; each has an entry first."""
        for path in rotated(self._directory):
            last = last_link(path)
            if not last.number or self._now_us() - last.time_us <= self._keep_us:
                return
            text = f"{path.name}, up to entry {last.number}, is older than it shall be kept."
            self._write(_about_file("removed", text, last=last.number, last_hash=last.hash))
            path.unlink()
            sync_directory(self._directory)


def _about_file(outcome: str, text: str, **arguments: str | int) -> AuditEvent:
    return AuditEvent(Kind.FILE, outcome=outcome, text=text, arguments=arguments)


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    sync_directory(path.parent)
