"""Standard output and error as a terminal shows them: no line is wider than it. See layout for the rules."""

import io
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from p2vd.cli import layout


class Folded(io.TextIOBase):
    """A stream that folds lines which a command did not fold itself, such as a sentence of p2vd."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._begun = ""

    def write(self, text: str) -> int:
        """Write whole lines folded; what steers a terminal goes through at once, as it is."""
        if "\x1b" in text or "\r" in text:
            self.flush()
            return self._stream.write(text)
        *whole, self._begun = (self._begun + text).split("\n")
        for line in whole:
            self._stream.write("\n".join(layout.fold(line)) + "\n")
        return len(text)

    def flush(self) -> None:
        """Write what has no end of line yet, too: a question."""
        begun, self._begun = self._begun, ""
        self._stream.write(begun)
        self._stream.flush()

    def isatty(self) -> bool:
        """It is one."""
        return True

    def fileno(self) -> int:
        """That of the terminal."""
        return self._stream.fileno()


@contextmanager
def fitting(*, verbatim: bool) -> Iterator[None]:
    """Have what is printed fit the terminal, where it goes to one. `verbatim`: it is for a program."""
    before = sys.stdout, sys.stderr
    layout.set_columns(shutil.get_terminal_size().columns if before[0].isatty() and not verbatim else None)
    try:
        if layout.columns() is not None:
            sys.stdout = Folded(before[0])
            if before[1].isatty():
                sys.stderr = Folded(before[1])
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before
        layout.set_columns(None)
