"""Questions to the audit: which entries somebody wants, and whether the chain is whole."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from p2vd.model.audit import AuditPage, AuditQuestion, AuditVerdict
from p2vd.records.chain import Check, Link, parse
from p2vd.records.files import lines

_PAGE_BYTES = 1 << 20  # a reply on the bus stays small whatever an entry holds


def matches(entry: Mapping[str, Any], question: AuditQuestion) -> bool:
    """Whether an entry is among those asked for. Pure."""
    if entry["number"] <= question.after or entry["time_us"] < question.since_us:
        return False
    if question.wwid and not any(wwid.startswith(question.wwid) for wwid in entry.get("wwid", ())):
        return False
    if question.machine:
        is_named = entry.get("machine_name") == question.machine
        return is_named or str(entry.get("machine", "")).startswith(question.machine)
    return True


def search(directory: Path, question: AuditQuestion, is_late: Callable[[], bool]) -> AuditPage:
    """Return the next page of what `question` asks for. Raises OSError.

    `is_late` is asked now and then, and ends the page where it says so: then it may be empty though more
    follows. A line that is no entry is left out: `verify` tells of it.
    """
    found: list[str] = []
    size = 0
    needles = [json.dumps(text)[1:-1].encode() for text in (question.wwid, question.machine) if text]
    for count, (_, line) in enumerate(lines(directory, question.after, question.since_us), 1):
        is_full = len(found) >= question.limit or size > _PAGE_BYTES or (count % 256 == 0 and is_late())
        if not is_full and not all(needle in line for needle in needles):  # far cheaper than to parse it
            continue
        try:
            entry = parse(line)
        except ValueError:
            continue
        if is_full and entry["number"] > question.after + 1:
            return AuditPage(tuple(found), entry["number"] - 1)
        if matches(entry, question):
            found.append(line.decode())
            size += len(line)
    return AuditPage(tuple(found))


def verify(directory: Path, newest: Link | None = None) -> AuditVerdict:
    """Check the whole chain, and that its end is not before `newest`, the last entry the journal tells of.

    Raises OSError. With files of gigabytes it takes a while.
    """
    check = Check()
    known = "" if newest else "The journal tells of no entry: that the end was cut off would not show."
    hash_there = ""
    for place, line in lines(directory):
        entry = check.feed(place, line)
        if entry and newest and entry["number"] == newest.number:
            hash_there = entry["hash"]
    findings = list(check.finish())
    if newest:
        known = f"The journal's newest entry is {newest.number}."
        if hash_there and hash_there != newest.hash:
            findings.append(f"Entry {newest.number} is another than the one the journal tells of.")
        elif not hash_there and newest.number > check.last.number:
            findings.append(
                f"The end is missing: the audit ends with entry {check.last.number}, "
                f"and the journal tells of entry {newest.number}."
            )
    return AuditVerdict(
        check.entries, check.first, check.last.number, check.last.hash, tuple(findings), known
    )
