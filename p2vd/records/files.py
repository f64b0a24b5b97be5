"""The files of the audit as a reader sees them, while they are written and rotated."""

import os
from collections.abc import Iterator
from pathlib import Path

from p2vd.records.chain import Link, parse, place_of

CURRENT = "audit.jsonl"
_ROTATED = "audit-"
_TAIL_BYTES = 1 << 16


def rotated_name(first: int) -> str:
    """The name of a full file whose first entry has the number `first`: names sort as entries do."""
    return f"{_ROTATED}{first:012}.jsonl"


def rotated(directory: Path) -> list[Path]:
    """The full files, oldest first."""
    return sorted(directory.glob(f"{_ROTATED}[0-9]*.jsonl"))


def last_link(path: Path) -> Link:
    """The place of a file's last entry; none (number 0) where it holds none. Raises OSError."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        tail = _TAIL_BYTES
        while True:
            file.seek(max(0, size - tail))
            for line in reversed(file.read().split(b"\n")):
                try:
                    return place_of(parse(line))
                except ValueError:
                    continue
            if tail >= size:
                return Link()
            tail *= 2


def lines(directory: Path, after: int = 0, since_us: int = 0) -> Iterator[tuple[str, bytes]]:
    """Yield (place, line) of all whole lines, oldest first; the place names file and line.

    Files that end before the entry `after` + 1 or before `since_us` are passed over. Raises OSError.
    """
    done = ""
    while True:
        full = [path for path in rotated(directory) if path.name > done]
        if full:
            done = full[0].name
            end = last_link(full[0]) if after or since_us else Link()
            if end.number == 0 or (end.number > after and end.time_us >= since_us):
                with full[0].open("rb") as file:
                    yield from _whole(full[0].name, file)
            continue
        try:
            file = (directory / CURRENT).open("rb")
        except FileNotFoundError:
            if any(path.name > done for path in rotated(directory)):
                continue
            return
        with file:
            if any(path.name > done for path in rotated(directory)):
                continue  # it became full in between, and this is already the next
            yield from _whole(CURRENT, file)
            return


def _whole(name: str, file: Iterator[bytes]) -> Iterator[tuple[str, bytes]]:
    for number, line in enumerate(file, 1):
        if not line.endswith(b"\n"):
            return  # it is just being written, or torn: the daemon's next start finds out
        yield f"{name}:{number}", line[:-1]
