"""The audit's entries in the journal: sentences with fields, and the hash by which a cut-off end shows."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from p2vd.model.audit import MESSAGE_IDS, AuditEvent, Kind
from p2vd.model.job import Caller
from p2vd.records.chain import Link

log = logging.getLogger(__name__)

_UNIT = "p2vd.service"


class Journal(Protocol):
    """The host's journal; system.journal is one."""

    def send(self, message: str, message_id: str, fields: Mapping[str, Iterable[str]]) -> None:
        """Write an entry. Raises OSError."""
        ...

    def newest(self, unit: str, message_ids: Iterable[str]) -> Mapping[str, Any] | None:
        """Return the newest entry of `unit` with one of the ids. Raises OSError."""
        ...


class AuditJournal:
    """Thread-safe as the journal is."""

    def __init__(self, journal: Journal | None) -> None:
        """`journal` None: there is none (a simulation)."""
        self._journal = journal

    def tell(self, event: AuditEvent, link: Link) -> None:
        """Write what was recorded. Where the journal does not take it the log says so."""
        if self._journal is None:
            return
        told = event.about
        fields: dict[str, Iterable[str]] = {
            "P2VD_AUDIT_NUMBER": (str(link.number),),
            "P2VD_AUDIT_HASH": (link.hash,),
            "P2VD_JOB": told.jobs,
            "P2VD_WWID": told.wwids,
            "P2VD_MACHINE": _given(told.machine),
            "P2VD_MACHINE_NAME": _given(told.machine_name),
            "P2VD_PLAN": _given(told.plan),
            "P2VD_VERB": _given(event.verb),
            "P2VD_OUTCOME": _given(event.outcome),
        }
        if event.who is not None:
            fields |= {"P2VD_UID": (str(event.who.uid),), "P2VD_CALLER_UNIT": _given(event.who.unit)}
        try:
            self._journal.send(f"audit {link.number}: {sentence(event)}", MESSAGE_IDS[event.kind], fields)
        except OSError as error:
            log.warning("the journal does not take entry %d of the audit: %s", link.number, error)

    def newest(self) -> Link | None:
        """The place of the newest entry that the journal tells of. Raises OSError."""
        return None if self._journal is None else _link_in(self._journal.newest(_UNIT, MESSAGE_IDS.values()))


def sentence(event: AuditEvent) -> str:
    """What an event says to a reader of the journal. Pure."""
    told = event.about
    subject = ", ".join(
        filter(
            None,
            (
                f"machine {told.machine_name or told.machine}" if told.machine_name or told.machine else "",
                *(f"job {job}" for job in told.jobs),
                *(f"disk {wwid}" for wwid in told.wwids),
            ),
        )
    )
    match event.kind:
        case Kind.ASKED:
            return f"{_by(event.who)} asks for {event.verb}" + (f" of {subject}" if subject else "")
        case Kind.DENIED:
            times = f" ({event.times} times)" if event.times > 1 else ""
            return f"{_by(event.who)} may not do {event.verb}{times}: {event.text}"
        case Kind.ENDED:
            return f"{event.verb} (entry {event.asked}): {event.outcome}" + _colon(event.text)
        case Kind.VERIFICATION:
            return f"the volume of {subject}: {event.outcome}" + _colon(event.text)
        case Kind.JOB | Kind.MACHINE | Kind.AUTO:
            return f"{subject}: {event.outcome}" + _colon(event.text)
        case Kind.POOL:
            return f"{subject}: its pool: {event.outcome}" + _colon(event.text)
        case Kind.HOOK:
            return f"{subject}: the hook {event.arguments.get('hook', '')}: {event.outcome}" + _colon(
                event.text
            )
        case Kind.DAEMON:
            return f"p2vd {event.outcome}" + _colon(event.text)
        case Kind.FILE:
            return f"the audit's file: {event.outcome}" + _colon(event.text)


def _by(who: Caller | None) -> str:
    if who is None:
        return "somebody"
    return f"uid {who.uid}" + (f" ({who.unit})" if who.unit else "")


def _colon(text: str) -> str:
    return f": {text}" if text else ""


def _given(text: str) -> tuple[str, ...]:
    return (text,) if text else ()


def _link_in(entry: Mapping[str, Any] | None) -> Link | None:
    """The place that an entry of the journal tells of; None where it tells of none."""
    if entry is None:
        return None
    try:
        return Link(int(entry["P2VD_AUDIT_NUMBER"]), str(entry["P2VD_AUDIT_HASH"]))
    except (KeyError, ValueError):
        return None
