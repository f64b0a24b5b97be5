"""Records over a store: with a journal that remembers, or for tests that look at none."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from p2vd.config import AuditOptions
from p2vd.jobs.audit_trail import AuditTrail
from p2vd.jobs.board import Board
from p2vd.jobs.records import Records
from p2vd.jobs.store import Store
from p2vd.model.job import Job, Machine


def no_records(directory: Path, store: Store) -> Records:
    """Real ones, of which nothing is asked."""
    trail = AuditTrail(store, directory / "audit", AuditOptions(), lambda _: "")
    return Records(trail, directory / "jobs", Board(store))


class FakeJournal:
    """Remembers what it was told: (message, id, fields)."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str, dict[str, list[str]]]] = []
        self.broken = False

    def send(self, message: str, message_id: str, fields: Mapping[str, Iterable[str]]) -> None:
        if self.broken:
            raise OSError(111, "Connection refused")
        self.entries.append((message, message_id, {name: list(values) for name, values in fields.items()}))

    def newest(self, unit: str, message_ids: Iterable[str]) -> Mapping[str, Any] | None:
        if self.broken:
            raise OSError(13, "Permission denied")
        assert unit == "p2vd.service"
        known = [fields for _, message_id, fields in self.entries if message_id in message_ids]
        return {name: values[0] for name, values in known[-1].items() if values} if known else None

    @property
    def messages(self) -> list[str]:
        return [message for message, _, _ in self.entries]


def put(store: Store, machine: Machine, *jobs: Job) -> None:
    store.add(machine, tuple(jobs))
