"""By which first bytes a compressed file is known."""

from pathlib import Path

from p2vd.model.forms import SourceFormat

_BEGINNINGS = {
    b"\x1f\x8b\x08": SourceFormat.GZ,
    b"\x28\xb5\x2f\xfd": SourceFormat.ZST,
    b"\xfd7zXZ\x00": SourceFormat.XZ,
    # A skippable frame, as pzstd begins.
    **{bytes((number, 0x2A, 0x4D, 0x18)): SourceFormat.ZST for number in range(0x50, 0x60)},
}

MOST_MAGIC = max(map(len, _BEGINNINGS))
"""So many bytes tell."""


def looks_packed(path: Path) -> SourceFormat | None:
    """The compressed format that a file begins as; None: none, or it is no file."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return packed_format(file.read(MOST_MAGIC))


def packed_format(head: bytes) -> SourceFormat | None:
    """The compressed format that begins with these bytes; None: none."""
    return next((form for begin, form in _BEGINNINGS.items() if head.startswith(begin)), None)
