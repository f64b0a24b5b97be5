"""Python values as D-Bus values of a given signature."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dbus

_BASIC: Mapping[str, type] = {
    "s": dbus.String,
    "o": dbus.ObjectPath,
    "b": dbus.Boolean,
    "d": dbus.Double,
    "u": dbus.UInt32,
    "t": dbus.UInt64,
}
_PLAIN: Mapping[str, tuple[type, type]] = {
    "s": (str, str),
    "b": (dbus.Boolean, bool),
    "t": (int, int),
    "u": (int, int),
    "d": (float, float),
}


@dataclass(frozen=True)
class Variant:
    """A value whose type no signature around it tells."""

    signature: str
    value: object


def encode(signature: str, value: Any, variant_level: int = 0) -> Any:
    """Return `value` as the D-Bus value of one complete type. Raises TypeError where it does not fit.

    Strings lose NULs and lone surrogates: with them libdbus refuses the message, or ends the process.
    """
    if signature == "v":
        return encode(value.signature, value.value, variant_level + 1)
    if signature.startswith("a{"):
        key_type, value_type = complete_types(signature[2:-1])
        return dbus.Dictionary(
            {encode(key_type, key): encode(value_type, item) for key, item in value.items()},
            signature=key_type + value_type,
            variant_level=variant_level,
        )
    if signature.startswith("a"):
        items = [encode(signature[1:], item) for item in value]
        return dbus.Array(items, signature=signature[1:], variant_level=variant_level)
    if signature.startswith("("):
        types = complete_types(signature[1:-1])
        fields = [encode(kind, item) for kind, item in zip(types, value, strict=True)]
        return dbus.Struct(fields, signature=signature[1:-1], variant_level=variant_level)
    if signature not in _BASIC:
        raise TypeError(f"no D-Bus type {signature!r} is in use")
    if signature == "s":
        value = value.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
    return _BASIC[signature](value, variant_level=variant_level)


def encode_properties(types: Mapping[str, str], values: Mapping[str, object]) -> dict[str, Variant]:
    """Return `values` as the a{sv} of an interface whose properties have `types`."""
    return {name: Variant(types[name], value) for name, value in values.items()}


def fits(signature: str, value: object) -> bool:
    """Whether a received `value` is of the basic type `signature`."""
    wanted, _ = _PLAIN[signature]
    return isinstance(value, wanted) and isinstance(value, dbus.Boolean) == (signature == "b")


def plain(signature: str, value: Any) -> object:
    """Return a received `value` of the basic type `signature` as Python's own type."""
    _, convert = _PLAIN[signature]
    return convert(value)


def complete_types(signature: str) -> list[str]:
    """Split a signature into its complete types."""
    return [str(part) for part in dbus.Signature(signature)]
