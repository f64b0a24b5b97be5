"""What of a host the doctor looks at, and what it finds."""

import enum
from dataclasses import dataclass

from p2vd.model.disk import Portal
from p2vd.model.errors import Reason


class Severity(enum.Enum):
    """`exposed`: something takes hold of guests' disks. `wrong`: it can hang or end a job."""

    EXPOSED = "exposed"
    WRONG = "wrong"
    ADVICE = "advice"


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be; the reason's text has the remedy."""

    severity: Severity
    reason: Reason


@dataclass(frozen=True)
class UdevRule:
    """One of p2vd's udev rules: the file that udev reads, "" for none, and the one of p2vd that it hides."""

    name: str
    file: str = ""
    masked: bool = False
    hides: str = ""


@dataclass(frozen=True)
class Multipath:
    """What multipathd says. `queueing`: maps whose I/O waits for ever when no path is left."""

    recheck_wwid: str = ""
    queueing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Session:
    """An iSCSI session and its times in seconds; a ping every 0 seconds is none."""

    name: str
    target_iqn: str
    portal: Portal | None
    recovery_s: int
    ping_interval_s: int
    ping_timeout_s: int


@dataclass(frozen=True)
class HostFacts:
    """What was read. `multipath` is None where multipathd does not answer; `problems` say what could not.

    `no_space_timeout_s`: how long writes to a full thin pool wait, then fail; 0: for ever, -1: not known.
    `hypervisors`: which of those that policies name would not get a machine, and why.
    """

    exposures: tuple[Reason, ...] = ()
    rules: tuple[UdevRule, ...] = ()
    multipath: Multipath | None = None
    sessions: tuple[Session, ...] = ()
    no_space_timeout_s: int = -1
    hypervisors: tuple[Reason, ...] = ()
    problems: tuple[str, ...] = ()
