"""By which first bytes a compressed file is known."""

from pathlib import Path

from p2vd.model.forms import PACKED_BEGINNINGS, SourceFormat

MOST_MAGIC = max(map(len, PACKED_BEGINNINGS))
"""So many bytes tell."""


def looks_packed(path: Path) -> SourceFormat | None:
    """The compressed format that a file begins as; None: none, or it is no file."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return packed_format(file.read(MOST_MAGIC))


def packed_format(head: bytes) -> SourceFormat | None:
    """The compressed format that begins with these bytes; None: none."""
    return next((form for begin, form in PACKED_BEGINNINGS.items() if head.startswith(begin)), None)
