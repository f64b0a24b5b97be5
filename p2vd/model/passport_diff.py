"""What differs between two records of machines. Pure."""

import dataclasses
import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from p2vd.model.passport import IpRoute, Nic, Passport, PassportDisk
from p2vd.model.size import format_size

# Of the record, not of the machine.
_OF_THE_RECORD = frozenset({"name", "format", "collected_us", "written_by_hand"})

_BYTES = "_bytes"


@dataclass(frozen=True)
class PassportDifference:
    """One fact that differs: its place, and its values as text, "" where one record does not have it."""

    place: str
    before: str
    after: str


def differences(before: Passport, after: Passport) -> tuple[PassportDifference, ...]:
    """Return where two machines differ. Disks are told by their WWID, NICs by their name, not by position."""
    return tuple(_of_table("", before, after, _OF_THE_RECORD))


def _of_table(
    place: str, before: Any, after: Any, leave_out: frozenset[str] = frozenset()
) -> Iterator[PassportDifference]:
    for field in dataclasses.fields(before):
        one, other = getattr(before, field.name), getattr(after, field.name)
        here = f"{place}.{field.name}" if place else field.name
        if field.name in leave_out or one == other:
            continue
        if isinstance(one, tuple):
            yield from _of_list(here, one, other)
        elif dataclasses.is_dataclass(one):
            yield from _of_table(here, one, other)
        else:
            yield PassportDifference(here, _text(here, one), _text(here, other))


def _of_list(place: str, before: tuple[Any, ...], after: tuple[Any, ...]) -> Iterator[PassportDifference]:
    ones, others = _by_key(before), _by_key(after)
    for key in [*ones, *(key for key in others if key not in ones)]:
        here = f"{place}[{key}]"
        if key in ones and key in others:
            if dataclasses.is_dataclass(ones[key]):
                yield from _of_table(here, ones[key], others[key])
        else:
            yield PassportDifference(here, _there(ones.get(key)), _there(others.get(key)))
    common = [[key for key in keys if key in ones and key in others] for keys in (ones, others)]
    if common[0] != common[1]:
        yield PassportDifference(f"{place} in order", *(", ".join(keys) for keys in common))


def _by_key(values: tuple[Any, ...]) -> Mapping[str, Any]:
    return {_key(value): value for value in values}


def _key(value: Any) -> str:
    match value:
        case PassportDisk():
            return value.identity
        case Nic():
            return value.name
        case IpRoute():
            return " ".join(
                filter(None, (value.destination, value.gateway and f"via {value.gateway}", value.nic))
            )
        case _:
            return str(value)


def _there(value: Any) -> str:
    match value:
        case None:
            return ""
        case PassportDisk():
            return f"{value.name}, {format_size(value.size_bytes)}"
        case Nic():
            return ", ".join(filter(None, (value.kind.value, value.mac, *value.addresses)))
        case _:
            return "there"


def _text(place: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, enum.Enum):
        return str(value.value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return format_size(value) if place.endswith(_BYTES) else str(value)
    return str(value)
