"""TOML with places: values by tomllib, and the line of any key, for errors an administrator can find.

Neither tomllib nor Debian's tomlkit (0.11) keeps positions, so a key's line is found by parsing
prefixes of the text: a prefix that ends inside a statement does not parse, and a key is never
taken back by a later line, so the first prefix whose statement holds the key ends on its line.
"""

import enum
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from p2vd.model.duration import parse_latency
from p2vd.model.size import parse_size

E = TypeVar("E", bound=enum.Enum)
T = TypeVar("T")
Place = tuple[str | int, ...]

_SYNTAX = re.compile(r"(?P<problem>.*) \(at (?:line (?P<line>\d+), column \d+|end of document)\)", re.DOTALL)


@dataclass(frozen=True)
class FileError:
    """What is wrong in a file: where, and what is allowed there. `line` 0: the file as a whole."""

    path: str
    line: int
    key: str
    problem: str

    def __str__(self) -> str:
        line = f":{self.line}" if self.line else ""
        key = f" {self.key}:" if self.key else ""
        return f"{self.path}{line}:{key} {self.problem}"


def place_text(place: Place) -> str:
    """Return a place as an administrator writes it: `rule.target.thin_pool`, without list indices."""
    return ".".join(part for part in place if isinstance(part, str))


class Document:
    """A parsed TOML file that collects the errors found in it.

    A text that is no TOML leaves one error and no data.
    """

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.errors: list[FileError] = []
        self.data: dict[str, object] = {}
        self._lines = text.replace("\r\n", "\n").split("\n")
        try:
            self.data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            self.errors.append(self._syntax_error(str(error)))

    def root(self) -> "Table":
        """The file's outermost table."""
        return Table(self, self.data, ())

    def error(self, place: Place, problem: str) -> None:
        """Record that `problem` is wrong at `place`."""
        self.errors.append(FileError(self.path, self.line_of(place), place_text(place), problem))

    def line_of(self, place: Place) -> int:
        """Return the line, from 1, on which the statement begins that first names `place`.

        For a key that is not there, the line of the table that lacks it; 0 for the file itself.
        """
        while place and not _holds(self.data, place):
            place = place[:-1]
        if not place:
            return 0
        low, high = 1, len(self._lines)
        while low < high:
            middle = (low + high) // 2
            if _holds(self._parsed_until(middle), place):
                high = middle
            else:
                low = middle + 1
        return low

    def _parsed_until(self, count: int) -> Mapping[str, object]:
        """The first `count` lines as data, and as many more as complete the last statement."""
        while True:
            try:
                return tomllib.loads("\n".join(self._lines[:count]))
            except tomllib.TOMLDecodeError:
                count += 1

    def _syntax_error(self, message: str) -> FileError:
        match = _SYNTAX.fullmatch(message)
        problem = match["problem"] if match else message
        line = int(match["line"]) if match and match["line"] else len(self._lines)
        return FileError(self.path, line, "", f"not TOML: {problem}")


def _holds(data: object, place: Place) -> bool:
    for part in place:
        if isinstance(part, int):
            if not isinstance(data, list) or part >= len(data):
                return False
            data = data[part]
        else:
            if not isinstance(data, dict) or part not in data:
                return False
            data = data[part]
    return True


class Table:
    """One table of a document, read key by key; `finish` refuses the keys that nobody asked for.

    A value of the wrong type or out of range is recorded as an error and its default returned, so
    that one pass finds every error.
    """

    def __init__(self, document: Document, data: dict[str, object], place: Place) -> None:
        self._document = document
        self._data = data
        self._known: set[str] = set()
        self.place = place

    def __contains__(self, key: str) -> bool:
        return key in self._data

    @property
    def line(self) -> int:
        """The line on which the table begins."""
        return self._document.line_of(self.place)

    @property
    def data(self) -> Mapping[str, object]:
        """The table as it was written."""
        return self._data

    def error(self, key: str, problem: str) -> None:
        """Record that `problem` is wrong at `key`; an empty `key` means the table."""
        self._document.error((*self.place, key) if key else self.place, problem)

    def text(self, key: str, default: str = "") -> str:
        """Return a string."""
        value = self._value(key)
        if value is None or isinstance(value, str):
            return default if value is None else value
        return self._wrong(key, "a string in quotes", value, default)

    def texts(self, key: str, default: tuple[str, ...] = (), *, none: bool = False) -> tuple[str, ...]:
        """Return the strings of a list; a single string is a list of one. `none`: the list may be empty."""
        value = self._value(key)
        if value is None:
            return default
        values = value if isinstance(value, list) else [value]
        if (values or none) and all(isinstance(item, str) and item for item in values):
            return tuple(values)
        return self._wrong(key, "a string or a list of strings, none of them empty", value, default)

    def flag(self, key: str, default: bool = False) -> bool:
        """Return a truth value."""
        value = self._value(key)
        if value is None or isinstance(value, bool):
            return default if value is None else value
        return self._wrong(key, "true or false", value, default)

    def integer(self, key: str, default: int, low: int, high: int) -> int:
        """Return a whole number from `low` to `high`."""
        value = self._value(key)
        if value is None:
            return default
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        return self._wrong(key, f"a whole number from {low} to {high}", value, default)

    def number(self, key: str, default: float, low: float, high: float) -> float:
        """Return a number from `low` to `high`."""
        value = self._value(key)
        if value is None:
            return default
        if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
            return float(value)
        return self._wrong(key, f"a number from {low:g} to {high:g}", value, default)

    def size(self, key: str, default: int = 0) -> int:
        """Return a size in bytes, written as a string with a binary unit."""
        value = self._value(key)
        if value is None:
            return default
        if isinstance(value, str):
            try:
                return parse_size(value)
            except ValueError as error:
                self.error(key, str(error))
                return default
        return self._wrong(key, 'a size in quotes, as "10 GiB"', value, default)

    def latency(self, key: str) -> int:
        """Return a short time in microseconds, written as a string with its unit; 0: it is not there."""
        value = self._value(key)
        if value is None:
            return 0
        if isinstance(value, str):
            try:
                return parse_latency(value)
            except ValueError as error:
                self.error(key, str(error))
                return 0
        return self._wrong(key, 'a time in quotes, as "20 ms"', value, 0)

    def choice(self, key: str, default: E) -> E:
        """Return one of the values of `default`'s enum, which is written as its text."""
        value = self._value(key)
        if value is None:
            return default
        choices = {member.value: member for member in type(default)}
        if isinstance(value, str) and value in choices:
            return choices[value]
        return self._wrong(key, " or ".join(f'"{name}"' for name in choices), value, default)

    def table(self, key: str) -> "Table":
        """Return the table under `key`, an empty one where there is none."""
        value = self._value(key)
        if value is not None and not isinstance(value, dict):
            self._wrong(key, f"a table: [{place_text((*self.place, key))}]", value, None)
        return Table(self._document, value if isinstance(value, dict) else {}, (*self.place, key))

    def tables(self, key: str) -> Iterator["Table"]:
        """Yield each table of the list of tables under `key`."""
        value = self._value(key)
        if value is None:
            return
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            self._wrong(key, f"a list of tables: [[{place_text((*self.place, key))}]]", value, None)
            return
        for index, item in enumerate(value):
            yield Table(self._document, item, (*self.place, key, index))

    def refuse(self, key: str, problem: str) -> None:
        """Refuse a key that has no place in this table as it is, with the reason; `finish` passes it over."""
        if key in self._data:
            self.error(key, problem)
            self._data = {name: item for name, item in self._data.items() if name != key}

    def later(self, *keys: str) -> None:
        """Refuse keys that a later version will know; `false` asks for nothing and passes."""
        for key in keys:
            value = self._value(key)
            if value is not None and value is not False:
                self.error(key, "this version of p2vd cannot do that yet; remove the key")
            self._known.discard(key)
            if value is not None:
                self._data = {name: item for name, item in self._data.items() if name != key}

    def finish(self) -> None:
        """Refuse every key that was not asked for, naming those that are allowed."""
        for key in self._data:
            if key not in self._known:
                allowed = ", ".join(sorted(self._known))
                self.error(key, f"there is no such key; allowed here: {allowed}")

    def _value(self, key: str) -> object:
        self._known.add(key)
        return self._data.get(key)

    def _wrong(self, key: str, allowed: str, value: object, default: T) -> T:
        shown = str(value).lower() if isinstance(value, bool) else repr(value)
        self.error(key, f"must be {allowed}, not {shown}")
        return default
