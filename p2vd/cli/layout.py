"""How what p2vctl prints fits a terminal: by folding, never by cutting. Pure, but for the width it is told.

The rules, of p2vctl(1), TERMINALS:
- Into a pipe or a file a row and a sentence is a line, whatever its width.
- A table that is wider than the terminal is folded: the columns that find no place go to a second line, and a
  third, below their row, indented and aligned there; one where a row has nothing is left out. What stands in
  the last column may be folded within it. An id is never broken.
- Prose is folded at spaces, and indented as it begins.
"""

import textwrap
from collections.abc import Iterable, Sequence

READABLE = 100
"""Prose is no wider than this, however wide the terminal is."""

_GAP = 2
_INDENT = 4
_ENOUGH = 40  # columns for prose beside what stands before it
_LEAST = 30
_NOTHING = ("", "-")

_columns: list[int] = []


def set_columns(columns: int | None) -> None:
    """Have all that follows fit `columns`; None: it goes to no terminal."""
    _columns[:] = [] if columns is None else [max(20, columns)]


def columns() -> int | None:
    """The terminal's width, None where there is none."""
    return _columns[0] if _columns else None


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, indent: int = 0, notes: Sequence[str] = ()
) -> str:
    """Return rows in columns as wide as what is in them, folded where the terminal is narrower.

    `notes`: a text for each row, which goes below it; "" for none.
    """
    lines = [tuple(head), *(tuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    shape = _shape(widths, indent)
    below = ("", *notes) if notes else ("",) * len(lines)
    printed = []
    for cells, note in zip(lines, below, strict=True):
        printed += _row(cells, shape, indent)
        printed += fold(f"{' ' * (indent + _INDENT)}{note}") if note else []
    return "\n".join(printed)


def facts(pairs: Iterable[tuple[str, str]], *, indent: int = 0, least: int = 0) -> str:
    """Return names and values, a line each, what is too long folded below its beginning.

    `least`: how wide the names' column is, if no name is wider.
    """
    found = list(pairs)
    width = max((len(name) for name, _ in found), default=0)
    width = max(width, least)
    hang = indent + width + _GAP
    lines = []
    for name, value in found:
        text = f"{' ' * indent}{name.ljust(width)}{' ' * _GAP}{value}".rstrip()
        lines += fold(text, hang)
    return "\n".join(lines)


def prose(text: str, *, first: str = "", rest: str = "") -> str:
    """Return a text folded to a readable width, also where it goes to no terminal: for lists and reasons.

    `first` and `rest` begin its lines.
    """
    return textwrap.fill(
        text,
        min(columns() or READABLE, READABLE),
        initial_indent=first,
        subsequent_indent=rest,
        break_on_hyphens=False,
    )


def fold(line: str, hang: int | None = None) -> list[str]:
    """Return a line as lines that fit the terminal; where there is none, itself.

    What is folded is indented by `hang`, else as the line itself begins and a little more.
    """
    width = columns()
    if width is None or len(line) <= width:
        return [line]
    own = len(line) - len(line.lstrip())
    if hang is None or width - hang < _LEAST:
        hang = own + _GAP
    lines = textwrap.wrap(
        line.strip(),
        width,
        initial_indent=" " * own,
        subsequent_indent=" " * hang,
        break_on_hyphens=False,
        replace_whitespace=False,
        drop_whitespace=True,
    )
    return lines or [""]


def _shape(widths: Sequence[int], indent: int) -> list[list[tuple[int, int]]]:
    """Which columns go to which line of a row, each with its width.

    The last column of all may be narrower than what is in it, where enough room is left for it.
    """
    shape: list[list[tuple[int, int]]] = [[]]
    used = indent
    for column, width in enumerate(widths):
        room = columns()
        if room is not None and shape[-1] and used + width > room:
            is_last = column == len(widths) - 1
            if not is_last or room - used < _ENOUGH:
                shape.append([])
                used = indent + _INDENT
        shape[-1].append((column, width))
        used += width + _GAP
    return shape


def _row(cells: Sequence[str], shape: Sequence[Sequence[tuple[int, int]]], indent: int) -> list[str]:
    lines = []
    for number, part in enumerate(shape):
        if number and all(cells[column] in _NOTHING for column, _ in part):
            continue
        begin = " " * (indent + _INDENT if number else indent)
        text = (" " * _GAP).join(cells[column].ljust(width) for column, width in part)
        last = len(begin) + sum(width + _GAP for _, width in part[:-1])
        lines += fold(f"{begin}{text}".rstrip(), last if len(part) > 1 else None)
    return lines
