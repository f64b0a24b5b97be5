"""Records of machines as text, JSON or TOML, to Passports and back: see p2vd-machine(5). Pure."""

import dataclasses
import enum
import json
import tomllib
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, get_args, get_origin, get_type_hints

from p2vd.model.errors import P2vdError
from p2vd.model.inquiry import clean_inquiry
from p2vd.model.passport import FORMAT, Passport
from p2vd.model.passport_checks import mistakes
from p2vd.model.size import parse_size

MAX_BYTES = 4 << 20
"""More than any machine's record takes: one of 1,000 disks and 1,000 NICs has 600 KB."""

_BYTES = "_bytes"
_MAX_INTEGER = (1 << 63) - 1


@dataclass(eq=False)
class PassportInvalid(P2vdError):
    """A machine's record cannot be used; all that is wrong in it, each with its place."""

    mistakes: tuple[str, ...]
    template: ClassVar[str] = ""

    def __str__(self) -> str:
        return "The record of the machine is not valid. " + " ".join(self.mistakes)


def parse_passport(text: str | bytes, name: str = "") -> Passport:
    """Return the record in `text`, called `name` if given. A brace begins JSON; all else is TOML.

    One without the time at which it was collected was written by hand. Raises PassportInvalid.
    """
    told = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    data = _load(told.removeprefix("\ufeff"))  # the mark that some editors and shells begin a file with
    _refuse_newer(data)
    if name:
        data = {**data, "name": name}
    reader = _Reader()
    passport: Passport = reader.table(Passport, data, "")
    found = reader.mistakes or list(mistakes(passport))
    if found:
        raise PassportInvalid(tuple(found))
    nics = tuple(replace(nic, mac=nic.mac.lower()) for nic in passport.nics)
    by_hand = passport.written_by_hand or not passport.collected_us
    return replace(passport, written_by_hand=by_hand, nics=nics)


def passport_toml(passport: Passport, notes: Sequence[str] = ()) -> str:
    """Return a record as TOML to go on from, without what is not known; `notes` are comments above it."""
    lines = [f"# {note}" for note in notes]
    tables = []
    for key, value in _known(passport):
        if isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
            tables += [["", f"[[{key}]]", *_lines(one)] for one in value]
        elif dataclasses.is_dataclass(value):
            tables.append(["", f"[{key}]", *_lines(value)])
        else:
            lines.append(f"{key} = {_toml(value)}")
    return "\n".join([*lines, *(line for table in tables for line in table)]) + "\n"


def _load(text: str) -> dict[str, Any]:
    try:
        if text.lstrip().startswith("{"):
            return dict(json.loads(text, object_pairs_hook=_once))
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise PassportInvalid((f"It is neither JSON nor TOML: {error}.",)) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; json itself would keep the last of two values of one key and say nothing."""
    keys = [key for key, _ in pairs]
    double = next((key for key in keys if keys.count(key) > 1), None)
    if double is not None:
        raise ValueError(f"the key {double!r} is there twice in one table")
    return dict(pairs)


def _refuse_newer(data: Mapping[str, Any]) -> None:
    """Refuse by number what only a newer p2vd can read, and not by each of its keys."""
    number = data.get("format", FORMAT)
    if isinstance(number, int) and number > FORMAT:
        text = (
            f"format: it is a record of format {number}, and this p2vd reads formats up to {FORMAT}. Update "
            "p2vd on this host, or collect the machine with the p2vd-collect of this version."
        )
        raise PassportInvalid((text,))


class _Reader:
    """Plain values to dataclasses; collects what is wrong, by its place. What is wrong is None then."""

    def __init__(self) -> None:
        self.mistakes: list[str] = []

    def table(self, kind: type[Any], raw: Any, place: str) -> Any:
        if not isinstance(raw, dict):
            return self._wrong(place, "a table", raw)
        fields, hints = {field.name: field for field in dataclasses.fields(kind)}, get_type_hints(kind)
        for key in raw:
            if key not in fields:
                self._add(_inside(place, key), f"there is no such key; allowed here: {', '.join(fields)}")
        values = {key: self._value(hints[key], raw[key], _inside(place, key)) for key in fields if key in raw}
        for key, field in fields.items():
            if key not in raw and field.default is field.default_factory is dataclasses.MISSING:
                self._add(_inside(place, key), "is missing")
        # With a mistake in it, it is never looked at.
        return None if self.mistakes else kind(**values)

    def _value(self, kind: Any, raw: Any, place: str) -> Any:
        if get_origin(kind) is tuple:
            if not isinstance(raw, list):
                return self._wrong(place, "a list", raw)
            inner = get_args(kind)[0]
            return tuple(self._value(inner, one, f"{place}[{index}]") for index, one in enumerate(raw))
        if isinstance(kind, types.UnionType):  # of a thing and None
            return None if raw is None else self._value(get_args(kind)[0], raw, place)
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            return self.table(kind, raw, place)
        if issubclass(kind, enum.Enum):
            words = {member.value: member for member in kind}
            known = isinstance(raw, str) and raw in words
            return (
                words[raw] if known else self._wrong(place, " or ".join(f'"{word}"' for word in words), raw)
            )
        return self._plain(kind, raw, place)

    def _plain(self, kind: type, raw: Any, place: str) -> Any:
        if kind is str and isinstance(raw, str):
            return clean_inquiry(raw)
        if kind is bool and isinstance(raw, bool):
            return raw
        if kind is int and place.endswith(_BYTES) and isinstance(raw, str):
            try:
                raw = parse_size(raw)
            except ValueError as error:
                return self._add(place, str(error))
        if kind is int and type(raw) is int and 0 <= raw <= _MAX_INTEGER:
            return raw
        size = 'or a size in quotes as "10 GiB"' if place.endswith(_BYTES) else "from 0"
        allowed = {str: "a string in quotes", bool: "true or false", int: f"a whole number {size}"}
        return self._wrong(place, allowed[kind], raw)

    def _wrong(self, place: str, allowed: str, raw: Any) -> None:
        shown = str(raw).lower() if isinstance(raw, bool) else repr(raw)
        self._add(place, f"must be {allowed}, not {shown[:80]}")

    def _add(self, place: str, problem: str) -> None:
        self.mistakes.append(f"{place or 'The record'}: {problem}.")


def _inside(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


def _known(value: Any) -> list[tuple[str, Any]]:
    """Return what of a dataclass says more than its defaults do."""
    found = []
    for field in dataclasses.fields(value):
        own = getattr(value, field.name)
        factory = field.default_factory
        default = factory() if factory is not dataclasses.MISSING else field.default
        if own != default:
            found.append((field.name, own))
    return found


def _lines(table: Any) -> list[str]:
    return [f"{key} = {_toml(value)}" for key, value in _known(table)]


def _toml(value: Any) -> str:
    if isinstance(value, enum.Enum):
        return _toml(value.value)
    # Strings, whole numbers, truth values and lists of them are written alike; but for one character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
