"""The checkpoint: SQLite, one row a region, every row with a checksum (design: §8).

SQLite minds torn writes; flipped bits are minded here. Each row's checksum covers the job, the
generation and the region it belongs to; the header's covers the header, in which the sum over all
rows' checksums finds a row that is missing, old or there twice. The write-ahead log is emptied after
each commit: a damaged log would silently show an older state, in which regions that were written
look untouched. A new checkpoint gets its name when it is whole, so an empty file is a damaged one.
"""

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from p2vd.copying.controls import COMMITTING
from p2vd.copying.digests import DigestKind, checksum
from p2vd.copying.errors import (
    CheckpointDamaged,
    CheckpointLocked,
    CheckpointMismatch,
    CheckpointUnwritable,
    CheckpointVersion,
)
from p2vd.copying.layout import Layout
from p2vd.copying.region import Region
from p2vd.copying.row_sums import RowSums
from p2vd.copying.terms import Binding, Report
from p2vd.model.codec import from_json, to_json
from p2vd.system import durable

SCHEMA_VERSION = 1
_APPLICATION_ID = 0x70327664  # "p2vd": what file(1) and `PRAGMA application_id` show

_CACHE_KIB = 512
"""Regions are read and written once each, in their order: a larger cache would only keep them."""

_SCHEMA = f"""
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
CREATE TABLE header (id INTEGER PRIMARY KEY CHECK (id = 1), body TEXT NOT NULL, checksum BLOB NOT NULL);
CREATE TABLE region (
    number INTEGER PRIMARY KEY, generation INTEGER NOT NULL, touched INTEGER NOT NULL,
    bitmap BLOB NOT NULL, digests BLOB NOT NULL, checksum BLOB NOT NULL
);
"""


@dataclass(frozen=True)
class Header:
    """What a checkpoint is of, and how far it has come.

    `edges`: digests of the source's first and last MiB, empty until they were read. `window`: block
    ranges of the latest commit. `rows`: the sum over the rows' checksums. `result`: the report of a
    copy that is done, `verified` how. Counters are bytes of the source, of this pass. `target_file`:
    device and inode of the file that the tool created as its target; empty before. `bad`: byte ranges
    of the source that could not be read. `target_proven`: a later pass may trust what earlier ones wrote.
    `packed_bytes`: how much of a compressed target's file is durable.
    """

    binding: Binding
    target_bytes: int
    digest: str
    version: int = SCHEMA_VERSION
    sequence: int = 0
    rows: str = ""
    edges: tuple[str, str] = ("", "")
    data_bytes: int = 0
    zero_bytes: int = 0
    same_bytes: int = 0
    bad: tuple[tuple[int, int], ...] = ()
    target_proven: bool = False
    window: tuple[tuple[int, int], ...] = ()
    verified: str = ""
    target_file: str = ""
    packed_bytes: int = 0
    result: Report | None = None


Io = Callable[[str, int], contextlib.AbstractContextManager[object]]
"""Notes an operation, at an offset, while it lasts: Gauge.io."""


class Checkpoint:
    """An open checkpoint; this process is its only user. Its methods may be called by any thread.

    `io` is told of every commit, as of the I/O of the disks: the checkpoint's own disk may hang, too.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, header: Header):
        self._path = path
        self._db = connection
        self._lock = threading.Lock()
        self.io: Io = lambda operation, offset: contextlib.nullcontext()
        self.header = header
        self.layout = Layout(header.binding.source_size_bytes, header.target_bytes)
        self._sums = RowSums(self.layout.regions)
        self.kind = DigestKind.named(header.digest)
        self.complete: set[int] = set()
        self.begun: dict[int, Region] = {}
        self.stale: set[int] = set()

    @property
    def path(self) -> Path:
        """Where it is."""
        return self._path

    @classmethod
    def create(cls, path: Path, header: Header) -> None:
        """Write a new checkpoint and give it its name. Raises CheckpointUnwritable."""
        new = path.with_name(path.name + ".new")
        try:
            for leftover in (new, new.with_name(new.name + "-wal")):
                leftover.unlink(missing_ok=True)
            # Nothing of it counts before it has its name: it is made durable once, when it is whole.
            with contextlib.closing(_connect(new, "rwc", synchronous="OFF")) as db:
                db.executescript(f"BEGIN; {_SCHEMA}")
                body, total = _seal(replace(header, rows=RowSums(0).total()))
                db.execute("INSERT INTO header VALUES (1, ?, ?)", (body, total))
                db.execute("COMMIT")
            durable.sync(new)
            new.rename(path)
            durable.sync_directory(path.parent)
        except (OSError, sqlite3.Error) as error:
            raise CheckpointUnwritable(str(path), str(error)) from error

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a checkpoint and check every row of it, then commit once.

        After that it opens nothing more: the caller may drop its privileges. Raises FileNotFoundError,
        CheckpointDamaged, CheckpointVersion, CheckpointLocked, CheckpointUnwritable.
        """
        if path.stat().st_size == 0:
            raise CheckpointDamaged(str(path), "it is empty")
        db: sqlite3.Connection | None = None
        try:
            db = _connect(path, "rw")
            checkpoint = cls._load(path, db)
        except BaseException as error:
            if db is not None:
                db.close()
            if isinstance(error, sqlite3.Error):
                raise _opening_error(path, error) from error
            if isinstance(error, ValueError | OverflowError | TypeError | MemoryError):
                # Whatever bad bytes make of SQLite's answers: not UTF-8, of absurd size, of another type.
                raise CheckpointDamaged(str(path), str(error)) from error
            raise
        try:
            checkpoint.commit()
        except BaseException:
            db.close()
            raise
        return checkpoint

    @classmethod
    def read(cls, path: Path) -> Self:
        """Open a checkpoint that nobody uses any more, for reading alone, and check every row of it.

        The file stays as it is, to the byte. Raises FileNotFoundError, CheckpointDamaged, CheckpointVersion.
        """
        log = path.with_name(path.name + "-wal")
        if path.stat().st_size == 0 or (log.exists() and log.stat().st_size):
            raise CheckpointDamaged(str(path), "it is empty, or was left in the middle of a commit")
        # immutable: no lock, no log, nothing written; without it SQLite wants a log beside the file.
        db = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro&immutable=1",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            for pragma in ("temp_store=MEMORY", f"cache_size=-{_CACHE_KIB}"):
                db.execute(f"PRAGMA {pragma}").fetchall()
            return cls._load(path, db)
        except BaseException as error:
            db.close()
            if isinstance(error, sqlite3.Error | ValueError | OverflowError | TypeError | MemoryError):
                raise CheckpointDamaged(str(path), str(error)) from error
            raise

    @classmethod
    def _load(cls, path: Path, db: sqlite3.Connection) -> Self:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (application,) = db.execute("PRAGMA application_id").fetchone()
        if application != _APPLICATION_ID:
            raise ValueError("it is no checkpoint of p2vd")
        if version > SCHEMA_VERSION:
            raise CheckpointVersion(str(path), version, SCHEMA_VERSION)
        if (verdict := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise ValueError(str(verdict))
        headers = db.execute("SELECT body, checksum FROM header").fetchall()
        if len(headers) != 1 or checksum(str(headers[0][0]).encode()) != headers[0][1]:
            raise ValueError("its header has a wrong checksum")
        header = from_json(Header, headers[0][0])
        if header.version != version:
            raise ValueError(f"its versions are {version} and {header.version}")
        checkpoint = cls(path, db, header)
        for region in checkpoint.regions():
            checkpoint._sort(region)
        if checkpoint._sums.total() != header.rows:
            raise ValueError("a row is missing or old")
        return checkpoint

    def _sort(self, region: Region) -> None:
        """Remember complete regions by number; those an earlier pass left are loaded in their turn."""
        if region.complete:
            self.complete.add(region.number)
        elif region.done or not region.stale:
            self.begun[region.number] = region
        else:
            self.stale.add(region.number)

    def regions(self) -> Iterator[Region]:
        """Yield every region that has a row, one in memory at a time. Raises ValueError."""
        query = "SELECT number, generation, touched, bitmap, digests, checksum FROM region ORDER BY number"
        for number, *row in self._db.execute(query):
            yield self._unpack(number, *row)

    def load(self, number: int) -> Region | None:
        """The committed region of that number; None: nothing of it is. Raises CheckpointDamaged."""
        query = "SELECT generation, touched, bitmap, digests, checksum FROM region WHERE number = ?"
        try:
            with self._lock:
                row = self._db.execute(query, (number,)).fetchone()
                return None if row is None else self._unpack(number, *row)
        except (sqlite3.Error, ValueError) as error:
            raise CheckpointDamaged(str(self._path), str(error)) from error

    def whole_digest(self) -> str:
        """The digest over the digests of the source's blocks, as a receipt has it; "" without digests."""
        total = self.kind.new()
        if total is None:
            return ""
        left = self.layout.source_blocks
        for region in self.regions():
            total.update(bytes(region.digests[: min(left, region.blocks) * self.kind.size]))
            left -= min(left, region.blocks)
        return f"{self.kind.value}:{total.digest().hex()}"

    def require(self, binding: Binding, target_bytes: int, digest: str) -> None:
        """Raise CheckpointMismatch unless this checkpoint belongs to these disks and this job."""
        mine = {**vars(self.header.binding), "target size in bytes": self.header.target_bytes}
        here = {**vars(binding), "target size in bytes": target_bytes, "digest": digest}
        mine["digest"] = self.header.digest
        for name, expected in mine.items():
            if here[name] != expected:
                label = name.replace("_", " ")
                raise CheckpointMismatch(str(self._path), label, str(expected), str(here[name]))

    def begin_pass(self, *, target_proven: bool) -> None:
        """Begin a later pass over the source: nothing of it is done, and old digests wait to be compared.

        `target_proven`: the target is known to hold what they say. Raises CheckpointUnwritable.
        """
        self.commit(
            binding=replace(self.header.binding, generation=self.header.binding.generation + 1),
            edges=("", ""),
            data_bytes=0,
            zero_bytes=0,
            same_bytes=0,
            bad=(),
            target_proven=target_proven,
            window=(),
            verified="",
            result=None,
        )
        self.complete, self.begun, self.stale = set(), {}, set()
        for region in self.regions():
            self._sort(region)

    def commit(self, rows: Iterable[Region] = (), **changes: object) -> None:
        """Write `rows` and `changes` of the header durably, all or nothing. Raises CheckpointUnwritable.

        The caller has flushed the target before: what `rows` claim must be there after a power cut.
        """
        with self._lock, self.io(COMMITTING, 0):
            sums: dict[int, bytes] = {}
            packed = []
            generation = self.header.binding.generation
            for region in rows:
                row = (generation, region.touched, *region.pack())
                sums[region.number] = self._row_sum(region.number, *row)
                packed.append((region.number, *row, sums[region.number]))
            sequence = self.header.sequence + 1
            header = replace(self.header, **changes, sequence=sequence, rows=self._sums.total(sums))  # type: ignore[arg-type] # names are checked by the dataclass
            body, total = _seal(header)
            try:
                self._db.execute("BEGIN IMMEDIATE")
                self._db.executemany("INSERT OR REPLACE INTO region VALUES (?, ?, ?, ?, ?, ?)", packed)
                self._db.execute("UPDATE header SET body = ?, checksum = ? WHERE id = 1", (body, total))
                self._db.execute("COMMIT")
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            except sqlite3.Error as error:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise _writing_error(self._path, error) from error
            self._sums.update(sums)
            self.header = header

    def close(self) -> None:
        """Close it; everything is durable already."""
        with contextlib.suppress(sqlite3.Error):
            self._db.close()

    def _unpack(
        self, number: int, generation: int, touched: int, bitmap: bytes, digests: bytes, stored: bytes
    ) -> Region:
        if not 0 <= number < self.layout.regions:
            raise ValueError(f"it has a region {number}, the disk has {self.layout.regions}")
        for blob, kind in ((generation, int), (bitmap, bytes), (digests, bytes), (stored, bytes)):
            if not isinstance(blob, kind):
                raise ValueError(f"region {number} has a wrong type")  # noqa: TRY004 - damage is a ValueError
        sum_of_row = self._row_sum(number, generation, bool(touched), bitmap, digests)
        latest = self.header.binding.generation
        if touched not in (0, 1) or sum_of_row != stored or generation > latest:
            raise ValueError(f"region {number} has a wrong checksum")
        if (known := self._sums.get(number)) is None:
            self._sums.update({number: stored})
        elif known != stored:
            raise ValueError(f"region {number} changed behind our back")
        blocks = self.layout.blocks_of(number)
        region = Region.unpack(number, blocks, self.kind, bool(touched), bitmap, digests)
        return region if generation == latest else region.for_next_pass()

    def _row_sum(self, number: int, generation: int, touched: bool, bitmap: bytes, digests: bytes) -> bytes:
        place = f"{self.header.binding.job} {generation} {number} {touched:d}".encode()
        return checksum(place, bitmap, digests)


def _connect(path: Path, mode: str, *, synchronous: str = "FULL") -> sqlite3.Connection:
    db = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=0,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        # Exclusive locking before the log's first use: no shared-memory file is ever made.
        for pragma in (
            f"synchronous={synchronous}",
            "locking_mode=EXCLUSIVE",
            "journal_mode=WAL",
            "temp_store=MEMORY",
            f"cache_size=-{_CACHE_KIB}",
        ):
            db.execute(f"PRAGMA {pragma}").fetchall()
    except BaseException:
        db.close()
        raise
    return db


def _seal(header: Header) -> tuple[str, bytes]:
    body = to_json(header)
    return body, checksum(body.encode())


def _opening_error(path: Path, error: sqlite3.Error) -> Exception:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return CheckpointLocked(str(path))
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_PERM):
        return CheckpointUnwritable(str(path), str(error))
    return CheckpointDamaged(str(path), str(error))


def _writing_error(path: Path, error: sqlite3.Error) -> Exception:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return CheckpointDamaged(str(path), str(error))
    return CheckpointUnwritable(str(path), str(error))
