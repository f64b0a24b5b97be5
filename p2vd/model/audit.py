"""What the audit holds: who asked for what, how it ended, and what became of jobs and machines."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from p2vd.model.job import Caller

Json = str | int | float | bool | list["Json"] | dict[str, "Json"]


class Kind(enum.Enum):
    """What an entry tells of. Each has a message of its own in the journal's catalog (MESSAGE_IDS)."""

    ASKED = "asked"
    ENDED = "ended"
    DENIED = "denied"
    JOB = "job"
    MACHINE = "machine"
    DAEMON = "daemon"
    FILE = "file"
    VERIFICATION = "verification"
    POOL = "pool"
    AUTO = "auto"
    HOOK = "hook"


# For ever: a journal is searched by these, and units/p2vd.catalog explains them.
MESSAGE_IDS: Mapping[Kind, str] = {
    Kind.ASKED: "bf15113136044b16bd447f6e152e8ac0",
    Kind.ENDED: "04519d6a1a1d4db6a49419371f2bc8cc",
    Kind.DENIED: "ee95bd1d9b1b4d6a8de7adc97f577326",
    Kind.JOB: "9ad92207a42143ba82c08ce6030aa12f",
    Kind.MACHINE: "07491b6688704aaa9dca1db26c1a4918",
    Kind.DAEMON: "bff72acfb75e49a783f02059f0e7c0b9",
    Kind.FILE: "c595c49e134949e0bc5417c3f5c9c015",
    Kind.VERIFICATION: "4f0f6b0ed2d64a0a9d1f2f3c86b7f1d5",
    Kind.POOL: "6d1f0b3e8c7a4f52b94e2a8d5c0917f3",
    Kind.AUTO: "a2e47c905b1d4c6f8e39d07b64f1528c",
    Kind.HOOK: "5b9de1c07f3a4b6ea3d8c41590e27f6b",
}


@dataclass(frozen=True)
class Subject:
    """What a verb is about, as far as the call itself tells: ids of objects of p2vd, "" for none."""

    job: str = ""
    machine: str = ""
    plan: str = ""
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class About:
    """What an entry is found by: all that is known of the disks and the machine it concerns."""

    jobs: tuple[str, ...] = ()
    wwids: tuple[str, ...] = ()
    machine: str = ""
    machine_name: str = ""
    plan: str = ""


@dataclass(frozen=True)
class AuditEvent:
    """One thing that happened, before it has its place in the chain.

    `verb`: INTERFACE.METHOD without the prefix (Job.Cancel). `outcome`: `answered` or an error's name;
    a job's stage or a machine's state; how a verification ended; of the daemon and the file what happened.
    `asked`: the number of the entry that an ENDED answers. `times`: how many like it this one stands for.
    """

    kind: Kind
    verb: str = ""
    who: Caller | None = None
    arguments: Mapping[str, Json] = field(default_factory=dict)
    about: About = field(default_factory=About)
    outcome: str = ""
    text: str = ""
    asked: int = 0
    times: int = 1


@dataclass(frozen=True)
class AuditQuestion:
    """Which entries somebody wants to see. Empty and 0: all.

    `wwid`, `machine`: an id or its beginning, a machine also by its name. `after`: the number beyond
    which the page begins.
    """

    wwid: str = ""
    machine: str = ""
    since_us: int = 0
    after: int = 0
    limit: int = 200


@dataclass(frozen=True)
class AuditPage:
    """Lines as they are in the file, oldest first, and the `after` of the next page, 0: that was all."""

    lines: tuple[str, ...]
    next: int = 0


@dataclass(frozen=True)
class AuditVerdict:
    """What a check of the whole chain found. `findings`: what is wrong, each a sentence; none: whole.

    `journal`: the newest entry that the journal knows, as a sentence.
    """

    entries: int
    first: int
    last: int
    last_hash: str
    findings: tuple[str, ...]
    journal: str = ""


@dataclass(frozen=True)
class Request:
    """What somebody asks for: `verb` as in AuditEvent; `arguments` without secrets."""

    verb: str
    who: Caller
    subject: Subject = field(default_factory=Subject)
    arguments: Mapping[str, Json] = field(default_factory=dict)
