"""The list of a wave: CSV with a header, or TOML with a table [[entry]] a machine. Pure.

Every mistake is told, by file, line and column (CSV) or key (TOML).
"""

import csv
import re
import tomllib
from collections.abc import Iterator, Mapping

from p2vd.model.wave import WaveEntry

COLUMNS = ("machine", "sources", "name", "source_offline", "priority")
_TYPES: Mapping[str, type] = {
    "machine": str,
    "sources": list,
    "name": str,
    "source_offline": bool,
    "priority": int,
}
_TRUE, _FALSE = ("yes", "true", "1"), ("no", "false", "0", "")
_PRIORITY = range(-1000, 1001)  # as of a policy
_ENTRY = re.compile(r"^\s*\[\[\s*entry\s*\]\]")


class WaveFileInvalid(Exception):
    """The list has mistakes; each is a line of the text."""


def read_wave(path: str, text: str) -> tuple[WaveEntry, ...]:
    """Return the machines in `text`, which is TOML where `path` ends so, else CSV; `place` is FILE:LINE.

    Raises WaveFileInvalid.
    """
    errors: list[str] = []
    text = text.removeprefix("\ufeff")  # the mark that some editors and spreadsheets begin a file with
    lines = tuple(_toml(path, text, errors) if path.endswith(".toml") else _csv(path, text, errors))
    if not lines and not errors:
        errors.append(f"{path}: it names no machine.")
    if errors:
        raise WaveFileInvalid("\n".join(errors))
    return lines


def _csv(path: str, text: str, errors: list[str]) -> Iterator[WaveEntry]:
    rows = csv.reader(text.splitlines(keepends=True), strict=True)
    header: list[str] = []
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            errors.append(f"{path}:{rows.line_num}: {error}.")
            return
        if row is None:
            return
        cells = [cell.strip() for cell in row]
        place = f"{path}:{rows.line_num}"
        if not any(cells) or cells[0].startswith("#"):
            continue
        if not header:
            header = cells
            errors += [
                f"{place}: {name}: there is no such column; known are {', '.join(COLUMNS)}."
                for name in header
                if name not in COLUMNS
            ]
            errors += [f"{place}: {name}: it is there twice." for name in COLUMNS if header.count(name) > 1]
            if errors:
                return
            continue
        if len(cells) > len(header):
            errors.append(f"{place}: it has {len(cells)} columns, the header {len(header)}.")
            continue
        yield from _line(place, _typed(place, dict(zip(header, cells, strict=False)), errors), errors)


def _typed(place: str, cells: Mapping[str, str], errors: list[str]) -> dict[str, object]:
    told: dict[str, object] = {"machine": cells.get("machine", ""), "name": cells.get("name", "")}
    told["sources"] = re.split(r"[\s;]+", cells["sources"]) if cells.get("sources") else []
    offline = cells.get("source_offline", "").lower()
    if offline not in (*_TRUE, *_FALSE):
        errors.append(f"{place}: source_offline: {offline!r} is neither yes nor no.")
    told["source_offline"] = offline in _TRUE
    if priority := cells.get("priority", ""):
        try:
            told["priority"] = int(priority)
        except ValueError:
            errors.append(f"{place}: priority: {priority!r} is no number.")
    return told


def _toml(path: str, text: str, errors: list[str]) -> Iterator[WaveEntry]:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        errors.append(f"{path}: {error}")
        return
    errors += [
        f"{path}: {key}: there is no such key; write a table [[entry]] for each machine."
        for key in document
        if key != "entry"
    ]
    entries = document.get("entry", [])
    if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
        errors.append(f"{path}: entry: write a table [[entry]] for each machine.")
        return
    starts = [number for number, line in enumerate(text.splitlines(), 1) if _ENTRY.match(line)]
    for index, told in enumerate(entries):
        place = f"{path}:{starts[index]}" if len(starts) == len(entries) else f"{path}, entry {index + 1}"
        wrong = [_wrong(place, key, value) for key, value in told.items()]
        if problems := [problem for problem in wrong if problem]:
            errors += problems
            continue
        yield from _line(place, told, errors)


def _wrong(place: str, key: str, value: object) -> str:
    if key not in _TYPES:
        return f"{place}: {key}: there is no such key; known are {', '.join(COLUMNS)}."
    kind = _TYPES[key]
    fits = isinstance(value, kind) and isinstance(value, bool) == (kind is bool)
    if fits and isinstance(value, list):
        fits = all(isinstance(item, str) for item in value)
    names = {str: "a text", list: "a list of texts", bool: "true or false", int: "a number"}
    return "" if fits else f"{place}: {key}: it wants {names[kind]}."


def _line(place: str, told: Mapping[str, object], errors: list[str]) -> Iterator[WaveEntry]:
    machine, sources = str(told.get("machine", "")), told.get("sources", [])
    priority = told.get("priority")
    if isinstance(priority, int) and priority not in _PRIORITY:
        errors.append(f"{place}: priority: it is from -1000 to 1000.")
        return
    if not machine and not sources:
        errors.append(f"{place}: machine: name the machine's record, or its sources.")
        return
    yield WaveEntry(
        machine,
        tuple(sources) if isinstance(sources, list) else (),
        str(told.get("name", "")),
        bool(told.get("source_offline", False)),
        priority if isinstance(priority, int) else None,
        place,
    )
