"""An audit in a directory, with a clock that a test sets."""

import json
from pathlib import Path
from typing import Any

from p2vd.model.audit import About, AuditEvent, Kind
from p2vd.model.job import Caller
from p2vd.records.audit import AuditFile
from p2vd.records.chain import Link
from p2vd.records.files import CURRENT

WWID = "36001405a9e26254e651465c89ff715d5"
JOB = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
MACHINE = "1b4e28ba-2fa1-41d2-883f-0016d3cca427"
DAY_US = 86_400_000_000


def event(verb: str = "Job.Pause", wwid: str = WWID, name: str = "erp1", **changes: Any) -> AuditEvent:
    about = About((JOB,), (wwid,), MACHINE, name, "plan-1")
    return AuditEvent(Kind.ASKED, verb, Caller(1000, ":1.7", 4711, "session-3.scope"), about=about, **changes)


class Desk:
    """One writer after another, as daemons start and end."""

    def __init__(self, directory: Path, max_bytes: int = 1 << 20, keep_days: int = 0) -> None:
        self.directory = directory / "audit"
        self.now_us = 1_700_000_000_000_000
        self.told: list[tuple[AuditEvent, Link]] = []
        self._sizes = max_bytes, keep_days
        self.file = self.restarted()

    def restarted(self) -> AuditFile:
        """Another daemon's writer on the same files."""
        max_bytes, keep_days = self._sizes
        self.file = AuditFile(
            self.directory,
            lambda: self.now_us,
            lambda event, link: self.told.append((event, link)),
            max_bytes,
            keep_days,
        )
        return self.file

    @property
    def current(self) -> Path:
        return self.directory / CURRENT

    def entries(self) -> list[dict[str, Any]]:
        """Of the newest file."""
        return [json.loads(line) for line in self.current.read_text().splitlines()]

    def names(self) -> list[str]:
        return sorted(path.name for path in self.directory.iterdir())
