"""The audit's chain: lines of canonical JSON, each with the hash of the one before and its own. Pure."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from p2vd.model.audit import AuditEvent, Kind

GENESIS = "0" * 64
"""What the first entry of all has for the hash of the one before."""

_HASH = "hash"
_TOLD = 20  # findings that are told in full; somebody who reads these looks at the files themselves


@dataclass(frozen=True)
class Link:
    """An entry's place: what the next one is chained to."""

    number: int = 0
    hash: str = GENESIS
    time_us: int = 0


def seal(event: AuditEvent, before: Link, time_us: int) -> tuple[str, Link]:
    """Return the line, without its end, of the entry that follows `before`, and its place."""
    entry = {"number": before.number + 1, "time_us": time_us, "previous": before.hash, **_fields(event)}
    link = Link(before.number + 1, _hash(entry), time_us)
    return canonical({**entry, _HASH: link.hash}), link


def _fields(event: AuditEvent) -> dict[str, Any]:
    """What an event says; what it does not say has no key."""
    about, who = event.about, event.who
    told = {
        "verb": event.verb,
        "arguments": dict(event.arguments),
        "job": list(about.jobs),
        "wwid": list(about.wwids),
        "machine": about.machine,
        "machine_name": about.machine_name,
        "plan": about.plan,
        "outcome": event.outcome,
        "text": event.text,
        "asked": event.asked,
    }
    fields: dict[str, Any] = {
        "kind": event.kind.value,
        **{key: value for key, value in told.items() if value},
    }
    if who is not None:
        fields["who"] = {"uid": who.uid, "bus_name": who.bus_name, "pid": who.pid, "unit": who.unit}
    if event.times > 1:
        fields["times"] = event.times
    return fields


def parse(line: bytes) -> dict[str, Any]:
    """Return the entry that a line holds, whether its hash fits or not. Raises ValueError: it is none."""
    try:
        entry = json.loads(line)
    except UnicodeDecodeError as error:
        raise ValueError(str(error)) from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    wanted = {"number": int, "time_us": int, "previous": str, "kind": str, _HASH: str}
    if not isinstance(entry, dict) or not all(type(entry.get(key)) is kind for key, kind in wanted.items()):
        raise ValueError("not an entry of the audit")
    return entry


def place_of(entry: Mapping[str, Any]) -> Link:
    """The place that a parsed entry claims."""
    return Link(entry["number"], entry[_HASH], entry["time_us"])


def is_unchanged(line: bytes, entry: Mapping[str, Any]) -> bool:
    """Whether a line is, byte for byte, what was written: its hash fits, and it is canonical."""
    rest = {key: value for key, value in entry.items() if key != _HASH}
    return entry[_HASH] == _hash(rest) and line == canonical(entry).encode()


def canonical(value: Mapping[str, Any]) -> str:
    """Return the one text that a value has here: equal values, equal hashes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _hash(entry: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical(entry).encode()).hexdigest()


@dataclass
class Check:
    """Walks over the lines of all files, oldest first. `findings`: what is wrong so far."""

    last: Link = field(default_factory=Link)
    first: int = 0
    entries: int = 0
    findings: list[str] = field(default_factory=list)
    _begins_after: str = ""
    _removed: set[tuple[int, str]] = field(default_factory=set)

    def feed(self, place: str, line: bytes) -> dict[str, Any] | None:
        """Check the next line; `place` names it in findings. Returns the entry, None where it is none."""
        try:
            entry = parse(line)
        except ValueError:
            self._find(f"{place} is not an entry.")
            return None
        here = place_of(entry)
        if not is_unchanged(line, entry):
            self._find(f"Entry {here.number} ({place}) was edited: its hash does not fit.")
        if not self.entries:
            self.first, self._begins_after = here.number, entry["previous"]
        elif here.number != self.last.number + 1:
            self._find(f"{place} holds entry {here.number}, the one before is {self.last.number}.")
        elif entry["previous"] != self.last.hash:
            self._find(f"Entry {here.number} ({place}) does not continue entry {self.last.number}.")
        if entry["kind"] == Kind.FILE.value and entry.get("outcome") == "removed":
            gone = entry.get("arguments", {})
            self._removed.add((gone.get("last", 0), str(gone.get("last_hash", ""))))
        self.entries += 1
        self.last = here
        return entry

    def finish(self) -> tuple[str, ...]:
        """Return all findings, once the last line was fed."""
        is_cut = self.entries and (self.first, self._begins_after) != (1, GENESIS)
        if is_cut and (self.first - 1, self._begins_after) not in self._removed:
            self._find(
                f"The audit begins with entry {self.first}, and nothing says that those before were "
                "removed because of their age."
            )
        more = len(self.findings) - _TOLD
        told = self.findings[:_TOLD]
        return (*told, f"And {more} more.") if more > 0 else tuple(told)

    def _find(self, sentence: str) -> None:
        self.findings.append(sentence)
