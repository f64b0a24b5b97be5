"""The durable memory: plans, jobs, machines, waves, passports and portals in one SQLite file.

Every change is committed with `synchronous=FULL` before the call returns: a transition is durable
before anyone is told. Values are JSON of the model, so that a daemon of version N reads what
version N-1 left; `user_version` guards against a newer file.
"""

import contextlib
import json
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from p2vd.model.codec import from_json, to_json
from p2vd.model.errors import NotFound, P2vdError
from p2vd.model.job import Job, Machine
from p2vd.model.passport import Passport
from p2vd.model.plan import Plan
from p2vd.model.portal import PortalRecord
from p2vd.model.rates import CopyRate
from p2vd.model.wave import Wave
from p2vd.system.exclusive import Exclusive

log = logging.getLogger(__name__)

_VERSION = 2
_SCHEMA = """
CREATE TABLE record (
    number INTEGER PRIMARY KEY, kind TEXT NOT NULL, id TEXT NOT NULL, value TEXT NOT NULL, UNIQUE (kind, id)
) STRICT;
"""

T = TypeVar("T", Plan, Machine, Job, PortalRecord, Passport, CopyRate, Wave)


@dataclass(eq=False)
class StoreDamaged(P2vdError):
    """The job store cannot be trusted."""

    path: str
    problem: str
    template: ClassVar[str] = (
        "The job store {path} is damaged: {problem}. p2vd does not start from it, and what runs goes no "
        "further. Restore it from a backup; the copied LVs carry the tag p2vd.job and are untouched."
    )


@dataclass(eq=False)
class StoreNewer(P2vdError):
    """The job store was written by a newer p2vd."""

    path: str
    format: int
    known: int
    template: ClassVar[str] = (
        "The job store {path} has format {format}, of a newer p2vd; this one knows up to {known}. Install "
        "that p2vd again: the store is whole, and nothing was changed."
    )


@dataclass(eq=False)
class StoreUnusable(P2vdError):
    """The file of the job store cannot be opened or read now, which says nothing of what is in it."""

    path: str
    problem: str
    template: ClassVar[str] = (
        "The job store {path} cannot be used: {problem}. It is not damaged for that, and no backup is "
        "needed: look at its filesystem (df, findmnt, dmesg) and at the rights of its directory."
    )


@dataclass(eq=False)
class StoreUnwritable(StoreUnusable):
    """The job store takes no change now; what it holds stays in force."""

    template: ClassVar[str] = (
        "The job store {path} cannot be written: {problem}. Nothing has changed by that. Make room on its "
        "filesystem, or have it writable again (df, findmnt, dmesg); what p2vd does by itself goes on then."
    )


STORE_FAILURES = (StoreUnusable, StoreDamaged)
"""What the store raises of its file: nothing has changed by that, and a thread of the daemon's goes on."""

# What SQLite says of a file that is not what it was written as; all else is the host's trouble, or ours.
_DAMAGE = frozenset(
    {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_ERROR}
)
# The same of one that was whole when it was opened: then any other code is of the statement, or the host's.
_DAMAGE_SINCE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
# Of a disk that is full, when the memory that a file's readers share is to be made beside it.
_NO_ROOM = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL})


def _code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


class Store:
    """Plans, jobs, machines, passports and portals by id. Thread-safe.

    Every method that changes something raises StoreUnwritable where that is not durable: then nothing has
    changed. Every one that reads raises StoreUnusable where the file cannot be read. Each raises StoreDamaged
    where the file was damaged since it was opened.
    """

    def __init__(self, path: Path, held: Exclusive | None = None) -> None:
        """Open or create `path`. `held`: the directory that it is in, let go of when it is closed.

        Raises StoreDamaged where its content fails SQLite's own check, StoreNewer, StoreUnusable where it
        cannot be read or written.
        """
        self._path = path
        self._held = held
        self._lock = threading.RLock()
        # What was decoded or written last: this is the file's only writer, and jobs are read many
        # times a second.
        self._known: dict[
            tuple[str, str], Plan | Machine | Job | PortalRecord | Passport | CopyRate | Wave
        ] = {}
        try:
            try:
                self._db = self._connect("NORMAL")
            except sqlite3.OperationalError as error:
                if _code(error) not in _NO_ROOM:
                    raise
                self._db = self._connect("EXCLUSIVE")
                log.warning("%s: %s: until a start with room there nobody else can read it", path, error)
            self._open()
        except sqlite3.Error as error:
            if _code(error) in _DAMAGE:
                raise StoreDamaged(str(path), str(error)) from error
            raise StoreUnusable(str(path), str(error)) from error

    def _connect(self, locking: str) -> sqlite3.Connection:
        """`locking` EXCLUSIVE: without the 32 KiB beside the file that a full disk has no room for."""
        db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            db.execute(f"PRAGMA locking_mode={locking}")
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
        except BaseException:
            db.close()
            raise
        return db

    def _open(self) -> None:
        path = self._path
        (verdict,) = self._db.execute("PRAGMA quick_check").fetchone()
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if verdict != "ok":
            raise StoreDamaged(str(path), verdict)
        if version > _VERSION:
            raise StoreNewer(str(path), version, _VERSION)
        if version == 0:
            self._db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={_VERSION}; COMMIT;")
        elif version == 1:
            self._from_version_1()

    def _from_version_1(self) -> None:
        """A plan was one disk's then; jobs read as they are. Raises StoreDamaged, with nothing changed."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for key, text in self._db.execute("SELECT id, value FROM record WHERE kind = 'plan'").fetchall():
                disk = json.loads(text)
                keys = ("id", "machine_name", "domain", "digest_parts", "steps", "warnings")
                plan = {name: disk[name] for name in keys} | {"disks": [disk]}
                self._db.execute(
                    "UPDATE record SET value = ? WHERE kind = 'plan' AND id = ?", (json.dumps(plan), key)
                )
            self._db.execute(f"PRAGMA user_version={_VERSION}")
        except (ValueError, KeyError, TypeError) as error:
            self._db.execute("ROLLBACK")
            raise StoreDamaged(str(self._path), f"a plan of format 1: {error!r}") from error
        self._db.execute("COMMIT")

    def close(self) -> None:
        """Close the file; the store is of no use afterwards."""
        with self._lock:
            self._db.close()
            held, self._held = self._held, None
        if held is not None:
            held.release()

    def _all(self, cls: type[T]) -> tuple[T, ...]:
        with self._lock:
            keys = self._read("SELECT id FROM record WHERE kind = ? ORDER BY number", _kind(cls))
            return tuple(self._get(cls, key) for (key,) in keys)

    def _get(self, cls: type[T], key: str) -> T:
        with self._lock:
            known = self._known.get((_kind(cls), key))
            if isinstance(known, cls):
                return known
            rows = self._read("SELECT value FROM record WHERE kind = ? AND id = ?", _kind(cls), key)
            if not rows:
                raise NotFound(_kind(cls), key)
            value = self._value(cls, key, rows[0][0])
            self._known[_kind(cls), key] = value
            return value

    def _read(self, text: str, *values: str) -> list[Any]:
        with self._using(StoreUnusable):
            return self._db.execute(text, values).fetchall()

    @contextmanager
    def _using(self, failure: type[StoreUnusable]) -> Iterator[None]:
        """Raises StoreDamaged or `failure` for what SQLite raises within."""
        try:
            yield
        except sqlite3.ProgrammingError:
            raise  # it was closed, or a defect of ours
        except sqlite3.Error as error:
            if _code(error) in _DAMAGE_SINCE:
                raise StoreDamaged(str(self._path), str(error)) from error
            raise failure(str(self._path), str(error)) from error

    def _value(self, cls: type[T], key: str, text: str) -> T:
        try:
            return from_json(cls, text)
        except ValueError as error:
            raise StoreDamaged(str(self._path), f"{_kind(cls)} {key}: {error}") from error

    def _put(self, cls: type[T], key: str, value: T) -> T:
        with self._lock, self._using(StoreUnwritable):
            self._db.execute(
                "INSERT INTO record (kind, id, value) VALUES (?, ?, ?) "
                "ON CONFLICT(kind, id) DO UPDATE SET value = excluded.value",
                (_kind(cls), key, to_json(value)),
            )
            self._known[_kind(cls), key] = value
        return value

    def plan(self, plan_id: str) -> Plan:
        """The plan of that id. Raises NotFound."""
        return self._get(Plan, plan_id)

    def put_plan(self, plan: Plan) -> Plan:
        """Keep `plan`, in place of one of the same id."""
        return self._put(Plan, plan.id, plan)

    def jobs(self) -> tuple[Job, ...]:
        """All jobs, oldest first."""
        return self._all(Job)

    def job(self, uuid: str) -> Job:
        """The job of that UUID. Raises NotFound."""
        return self._get(Job, uuid)

    def machines(self) -> tuple[Machine, ...]:
        """All machines, oldest first."""
        return self._all(Machine)

    def machine(self, uuid: str) -> Machine:
        """The machine of that UUID. Raises NotFound."""
        return self._get(Machine, uuid)

    def add(self, machine: Machine, jobs: tuple[Job, ...]) -> None:
        """Keep a new machine and its jobs: all or nothing."""
        with self._transaction():
            self._put(Machine, machine.uuid, machine)
            for job in jobs:
                self._put(Job, job.uuid, job)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock, self._using(StoreUnwritable):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                self._known.clear()  # first: of what is not in the file nothing is known
                if self._db.in_transaction:  # a full disk has SQLite end it by itself
                    self._db.execute("ROLLBACK")
                raise

    def change_job(self, uuid: str, change: Callable[[Job], Job]) -> Job:
        """Replace the job by `change(job)`, durably, and return it. What `change` raises changes nothing."""
        with self._lock:
            return self._put(Job, uuid, change(self.job(uuid)))

    def change_machine(self, uuid: str, change: Callable[[Machine], Machine]) -> Machine:
        """Replace the machine by `change(machine)`, durably, and return it."""
        with self._lock:
            return self._put(Machine, uuid, change(self.machine(uuid)))

    def portals(self) -> tuple[PortalRecord, ...]:
        """All remembered portals."""
        return self._all(PortalRecord)

    def put_portal(self, record: PortalRecord) -> None:
        """Remember a portal, in place of one of the same id."""
        self._put(PortalRecord, record.id, record)

    def remove_portal(self, portal_id: str) -> None:
        """Forget a portal; nothing happens where it is not known."""
        self._remove(PortalRecord, portal_id)

    def waves(self) -> tuple[Wave, ...]:
        """All waves, oldest first."""
        return self._all(Wave)

    def wave(self, wave_id: str) -> Wave:
        """The wave of that id. Raises NotFound."""
        return self._get(Wave, wave_id)

    def put_wave(
        self, wave: Wave, plans: Sequence[Plan] = (), unless: Callable[[Wave], bool] = lambda known: False
    ) -> Wave:
        """Keep a wave and plans, in place of those of the same ids: all or nothing. Returns what is kept.

        `unless`: asked of the wave that is known by that id, if one is; True: that stays as it is.
        """
        with self._transaction():
            with contextlib.suppress(NotFound):
                if unless(known := self._get(Wave, wave.id)):
                    return known
            for plan in plans:
                self._put(Plan, plan.id, plan)
            return self._put(Wave, wave.id, wave)

    def passports(self) -> tuple[Passport, ...]:
        """All imported records of physical machines, in the order of their import."""
        return self._all(Passport)

    def passport(self, name: str) -> Passport:
        """The record of the machine of that name. Raises NotFound."""
        return self._get(Passport, name)

    def put_passport(self, passport: Passport) -> None:
        """Keep a machine's record, in place of one of the same name."""
        self._put(Passport, passport.name, passport)

    def remove_passport(self, name: str) -> None:
        """Forget a machine's record; nothing happens where there is none."""
        self._remove(Passport, name)

    def rates(self) -> tuple[CopyRate, ...]:
        """What was measured on copies, in the order in which they came."""
        return self._all(CopyRate)

    def put_rate(self, rate: CopyRate) -> None:
        """Keep what was measured on a copy, in place of what was before."""
        self._put(CopyRate, rate.job, rate)

    def remove_rate(self, job: str) -> None:
        """Forget what was measured on a copy; nothing happens where nothing was."""
        self._remove(CopyRate, job)

    def _remove(self, cls: type[T], key: str) -> None:
        with self._lock, self._using(StoreUnwritable):
            self._db.execute("DELETE FROM record WHERE kind = ? AND id = ?", (_kind(cls), key))
            self._known.pop((_kind(cls), key), None)


def _kind(
    cls: type[Plan]
    | type[Machine]
    | type[Job]
    | type[PortalRecord]
    | type[Passport]
    | type[CopyRate]
    | type[Wave],
) -> str:
    return cls.__name__.lower()
