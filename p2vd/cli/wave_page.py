"""Waves and the report as one reads them. Pure."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from p2vd.cli.render import SHORT_ID, table
from p2vd.model.size import format_size

Wave = Mapping[str, Any]

_WIDTH = 100
_FATES = ("ready", "waits", "refused", "started")


def wave(page: Wave) -> str:
    """A wave: a line a machine in the order of the start, then every reason."""
    rows = [
        (
            str(number),
            one["Name"],
            one["Fate"],
            str(one["Priority"]),
            str(one["Disks"] or "-"),
            format_size(one["Size"]) if one["Disks"] else "-",
            _short(one["Targets"]),
            one["Plan"] or "-",
        )
        for number, one in enumerate(page["Machines"], 1)
    ]
    head = ("NO", "MACHINE", "FATE", "PRIORITY", "DISKS", "SIZE", "TARGET", "PLAN")
    lines = [
        f"Wave {page['Id']}, {_state(page)}",
        "",
        *(f"  {line}" for line in table(head, rows).splitlines()),
    ]
    for fate, title in (("refused", "Refused"), ("waits", "Waiting for room")):
        told = [one for one in page["Machines"] if one["Fate"] == fate]
        if told:
            lines += ["", title, *(line for one in told for line in _reasons(one))]
    warned = [one for one in page["Machines"] if one["Warnings"] and one["Fate"] != "refused"]
    if warned:
        lines += ["", "Warnings", *(line for one in warned for line in _sentences(one, one["Warnings"]))]
    return "\n".join([*lines, "", f"Together: {counts(page)}."])


def counts(page: Wave) -> str:
    """How many machines have which fate, and how much there is to copy."""
    machines = page["Machines"]
    told = [f"{number} {fate}" for fate in _FATES if (number := _count(machines, fate))]
    size = sum(one["Size"] for one in machines if one["Fate"] != "refused")
    return f"{len(machines)} machines, {', '.join(told)}, {format_size(size)} of disks"


def waves(pages: Sequence[Wave]) -> str:
    """A line a wave."""
    rows = [
        (
            page["Id"],
            page["State"],
            _time(page["At"]) if page["At"] else "at once" if page["State"] != "planned" else "-",
            *(str(_count(page["Machines"], fate)) for fate in _FATES),
            str(page["StartedBy"]) if page["State"] != "planned" else "-",
        )
        for page in pages
    ]
    return table(("WAVE", "STATE", "STARTS", *(fate.upper() for fate in _FATES), "BY UID"), rows)


def report(page: Mapping[str, Any]) -> str:
    """What happened, on a page: what needs somebody first."""
    jobs: Sequence[Mapping[str, Any]] = page["Jobs"]
    outcomes = dict.fromkeys(job["Outcome"] for job in jobs)
    told = [f"{sum(job['Outcome'] == outcome for job in jobs)} {outcome}" for outcome in outcomes]
    lines = [
        f"From {_time(page['Since'])} to {_time(page['Until'])}: {', '.join(told) or 'nothing happened'}.",
    ]
    if page["Bytes"]:
        lines.append(
            f"Proven {format_size(page['Bytes'])}, {format_size(page['Rate'])}/s while jobs were there."
        )
    rows = [
        (
            job["Job"][:SHORT_ID],
            job["Machine"],
            job["Outcome"],
            job["Stage"],
            format_size(job["Size"]),
            f"{format_size(job['Rate'])}/s",
            _time(job["EndTime"]) if job["EndTime"] else "-",
            job["SourceId"],
        )
        for job in jobs
    ]
    if rows:
        head = ("JOB", "MACHINE", "OUTCOME", "STAGE", "SIZE", "RATE", "ENDED", "SOURCE")
        lines += ["", table(head, rows)]
    notes = [job for job in jobs if job["Cause"] or job["Advice"]]
    if notes:
        lines += ["", "To do"]
        for job in notes:
            name = f"{job['Machine']} ({job['Job'][:SHORT_ID]})"
            lines += _sentences({"Name": name}, [part for part in (job["Cause"], job["Advice"]) if part])
    return "\n".join(lines)


def _state(page: Wave) -> str:
    if page["State"] == "scheduled" and page["At"]:
        return f"starts {_time(page['At'])}"
    return str(page["State"])


def _reasons(one: Mapping[str, Any]) -> Iterator[str]:
    where = f" ({one['Place']})" if one["Place"] else ""
    yield from _sentences({"Name": f"{one['Name']}{where}"}, one["Reasons"])


def _sentences(one: Mapping[str, Any], sentences: Sequence[str]) -> Iterator[str]:
    yield f"  {one['Name']}"
    for sentence in sentences:
        yield from textwrap.wrap(
            sentence, _WIDTH, initial_indent="    - ", subsequent_indent="      ", break_on_hyphens=False
        )


def _count(machines: Sequence[Mapping[str, Any]], fate: str) -> int:
    return sum(one["Fate"] == fate for one in machines)


def _short(targets: Sequence[str]) -> str:
    if not targets:
        return "-"
    return targets[0] if len(targets) == 1 else f"{targets[0]} and {len(targets) - 1} more"


def _time(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / 1_000_000).astimezone().strftime("%Y-%m-%d %H:%M")
