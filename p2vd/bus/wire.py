"""Python values as D-Bus values of a given signature."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import dbus

_BASIC: Mapping[str, type] = {
    "s": dbus.String,
    "o": dbus.ObjectPath,
    "b": dbus.Boolean,
    "d": dbus.Double,
    "u": dbus.UInt32,
    "i": dbus.Int32,
    "t": dbus.UInt64,
}
_PLAIN: Mapping[str, tuple[type, Callable[[Any], object]]] = {
    "s": (str, str),
    "b": (dbus.Boolean, bool),
    "t": (int, int),
    "u": (int, int),
    "d": (float, float),
    # Whoever wants the descriptor takes it from this; it closes itself where nobody does.
    "h": (dbus.types.UnixFd, lambda descriptor: descriptor),
}


@dataclass(frozen=True, slots=True)
class Variant:
    """A value whose type no signature around it tells."""

    signature: str
    value: object


def _clean(text: str) -> str:
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


# What dbus-python takes Python's own types for.
_SELF_EVIDENT: Mapping[str, Callable[[Any], Any]] = {"s": _clean, "b": bool, "d": float}


def encode(signature: str, value: Any) -> Any:
    """Return `value` as the D-Bus value of one complete type. Raises TypeError where it does not fit.

    Strings lose NULs and lone surrogates: with them libdbus refuses the message, or ends the process.
    """
    return _encoder(signature, 0)(value)


@cache
def _encoder(signature: str, level: int) -> Callable[[Any], Any]:
    """Return what encodes values of a type, `level` variants deep. Made once: there may be 30,000 values.

    Where the signature around a value tells its type, and where Python's own type does, it stays plain.
    """
    if signature == "v":
        return lambda value: _encoder(value.signature, level + 1)(value.value)
    if signature.startswith("a{"):
        key_type, value_type = complete_types(signature[2:-1])
        key_of, value_of = _encoder(key_type, 0), _encoder(value_type, 0)
        told = key_type + value_type
        return lambda value: _container(
            dbus.Dictionary, {key_of(key): value_of(item) for key, item in value.items()}, told, level
        )
    if signature.startswith("a"):
        item_of = _encoder(signature[1:], 0)
        return lambda value: _container(dbus.Array, [item_of(item) for item in value], signature[1:], level)
    if signature.startswith("("):
        fields_of = [_encoder(kind, 0) for kind in complete_types(signature[1:-1])]
        return lambda value: _container(
            dbus.Struct,
            tuple(field_of(item) for field_of, item in zip(fields_of, value, strict=True)),
            signature[1:-1],
            level,
        )
    if signature not in _BASIC:
        raise TypeError(f"no D-Bus type {signature!r} is in use")
    if level < 2 and signature in _SELF_EVIDENT:
        return _SELF_EVIDENT[signature]
    basic = _BASIC[signature]
    return lambda value: basic(value, variant_level=level)


def _container(kind: type, value: object, signature: str, level: int) -> object:
    return kind(value, signature=signature, variant_level=level) if level else value


def encode_properties(types: Mapping[str, str], values: Mapping[str, object]) -> dict[str, Variant]:
    """Return `values` as the a{sv} of an interface whose properties have `types`."""
    return {name: Variant(types[name], value) for name, value in values.items()}


def fits(signature: str, value: object) -> bool:
    """Whether a received `value` is of the basic type `signature`, or a list of strings for `as`."""
    if signature == "as":
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    wanted, _ = _PLAIN[signature]
    return isinstance(value, wanted) and isinstance(value, dbus.Boolean) == (signature == "b")


def plain(signature: str, value: Any) -> object:
    """Return a received `value` that `fits` as Python's own type; a descriptor as dbus.types.UnixFd."""
    if signature == "as":
        return tuple(str(item) for item in value)
    _, convert = _PLAIN[signature]
    return convert(value)


def complete_types(signature: str) -> list[str]:
    """Split a signature into its complete types."""
    return [str(part) for part in dbus.Signature(signature)]
