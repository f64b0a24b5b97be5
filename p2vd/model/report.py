"""What happened since a time, a line a job."""

import enum
from dataclasses import dataclass


class Outcome(enum.Enum):
    """What a job has come to. `held`: something is in its way; `running`: it works or is queued."""

    FAILED = "failed"
    HELD = "held"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class ReportLine:
    """One job. `rate_bytes_per_s`: from its start to its end, or now. Times in microseconds since the epoch.

    `cause`: the first cause of a failure, or what holds it. `advice`: what to do, empty: nothing. `uid`: who
    started it.
    """

    job: str
    machine: str
    source: str
    target: str
    outcome: Outcome
    stage: str
    size_bytes: int
    copied_bytes: int
    rate_bytes_per_s: int
    start_time_us: int
    end_time_us: int
    cause: str = ""
    advice: str = ""
    uid: int = 0


@dataclass(frozen=True)
class Report:
    """All that happened from `since_us` to `until_us`, what needs somebody first.

    `bytes_done`: of the disks proven. `rate_bytes_per_s`: those by the time in which any job was under way.
    """

    since_us: int
    until_us: int
    lines: tuple[ReportLine, ...]
    bytes_done: int = 0
    rate_bytes_per_s: int = 0
