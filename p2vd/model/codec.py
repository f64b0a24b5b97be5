"""Values of the model as JSON and back, in one way for the store, the worker, the helpers and the bus."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import cattrs

from p2vd.model.forms import TargetKind
from p2vd.model.plan import FileTarget, LunTarget, LvTarget, Target

T = TypeVar("T")

_converter = cattrs.Converter(forbid_extra_keys=False)
_converter.register_unstructure_hook_func(
    lambda cls: getattr(cls, "__origin__", cls) is frozenset,
    lambda values: sorted(_converter.unstructure(value) for value in values),
)


def _exactly(kind: type[Any], *accepted: type[Any]) -> None:
    """Let a field of that kind take nothing else: cattrs makes "None" of null and True of "no"."""

    def structure(value: Any, _: type[Any]) -> Any:
        if type(value) not in accepted:
            raise TypeError(f"{value!r} is no {kind.__name__}")
        return kind(value)

    _converter.register_structure_hook(kind, structure)


_exactly(str, str)
_exactly(bool, bool)
_exactly(int, int)
_exactly(float, float, int)


_TARGETS: dict[TargetKind, type[Target]] = {
    TargetKind.LV: LvTarget,
    TargetKind.LUN: LunTarget,
    TargetKind.FILE: FileTarget,
}


def _target(value: Any, _: Any) -> Target:
    """Return the target of its kind; before there were kinds, all were logical volumes."""
    target: Target = _converter.structure(value, _TARGETS[TargetKind(value.get("kind", TargetKind.LV.value))])
    return target


_converter.register_structure_hook_func(lambda cls: cls == Target, _target)


def to_dict(value: Any) -> Any:
    """Return `value` (a model dataclass) as plain dicts, lists, strings and numbers."""
    return _converter.unstructure(value)


def from_dict(cls: type[T], data: Any) -> T:
    """Return the `cls` that `data` holds; unknown keys of a newer version are passed over.

    Raises ValueError that names the class and each place where `data` does not fit.
    """
    try:
        return _converter.structure(data, cls)
    except Exception as error:  # cattrs raises groups of whatever the constructors raised
        raise ValueError(f"not a valid {cls.__name__}: {'; '.join(_problems(error))}") from error


def _problems(error: Exception, place: str = "") -> Iterator[str]:
    """Each cause in an error of cattrs, behind its place: `images[1].path: 1 is no str`.

    `cattrs.transform_error` came after 22.2, which has the places as notes: "Structuring ... @ index 1".
    """
    for note in getattr(error, "__notes__", ()):
        kind, _, where = note.partition(" @ ")[2].partition(" ")
        place += f".{where}" if kind == "attribute" else f"[{where}]"
    if isinstance(error, cattrs.BaseValidationError):
        for cause in error.exceptions:
            yield from _problems(cause, place)
    elif isinstance(error, KeyError) and place.endswith(f".{error.args[0]}"):
        yield f"{place.removeprefix('.')} is missing"
    else:
        yield f"{place.removeprefix('.')}: {error}" if place else str(error)


def to_json(value: Any) -> str:
    """Return `value` as one line of JSON with sorted keys: equal values give equal text."""
    return json.dumps(to_dict(value), sort_keys=True, separators=(",", ":"))


def from_json(cls: type[T], text: str | bytes) -> T:
    """Return the `cls` that `text` holds. Raises ValueError, as `from_dict` does."""
    return from_dict(cls, json.loads(text))


class Messages:
    """What processes send each other: dataclasses, each by its name, as `{"type": NAME, ...fields}`."""

    def __init__(self, types: Mapping[str, type[Any]]) -> None:
        self._types = types
        self._names = {cls: name for name, cls in types.items()}

    def encode(self, message: Any) -> dict[str, Any]:
        """Return `message` as the object that is sent."""
        return {"type": self._names[type(message)], **to_dict(message)}

    def decode(self, data: Mapping[str, Any]) -> Any:
        """Return the message in `data`. Raises ValueError on an unknown type or a field that does not fit."""
        cls = self._types.get(str(data.get("type")))
        if cls is None:
            raise ValueError(f"unknown message type {data.get('type')!r}")
        return from_dict(cls, {key: value for key, value in data.items() if key != "type"})
