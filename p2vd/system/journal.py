"""The journal of systemd: structured entries, and what it knows of earlier ones."""

from collections.abc import Iterable, Mapping
from typing import Any

from systemd import journal

_PRIORITY_NOTICE = 5


def send(message: str, message_id: str, fields: Mapping[str, Iterable[str]]) -> None:
    """Write an entry; a field may have several values. Where no journal runs nothing happens.

    Raises OSError where the journal does not take it.
    """
    journal.sendv(
        f"MESSAGE={message}",
        f"MESSAGE_ID={message_id}",
        f"PRIORITY={_PRIORITY_NOTICE}",
        "SYSLOG_IDENTIFIER=p2vd",
        *(f"{name}={value}" for name, values in fields.items() for value in values),
    )


def newest(unit: str, message_ids: Iterable[str], reader: Any = None) -> Mapping[str, Any] | None:
    """Return the newest entry with one of the ids that a process of `unit` wrote, None: there is none.

    By the unit, which the journal takes from the kernel: any user may write entries with any other
    field. Raises OSError where the journal cannot be read.
    """
    source = journal.Reader() if reader is None else reader
    with source:
        source.add_match(_SYSTEMD_UNIT=unit)
        for message_id in message_ids:
            source.add_match(MESSAGE_ID=message_id)
        source.seek_tail()
        found: Mapping[str, Any] = source.get_previous()
        return found or None
