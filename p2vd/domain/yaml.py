"""Plain values as YAML. Pure.

Every string is quoted, as in JSON, of which YAML is a superset: a serial number `12345e67` or the name `no`
stays a string for every reader. (PyYAML leaves `12345e67` bare, and Kubernetes's own reader takes it for a
number.)
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence

_PLAIN_KEY = re.compile(r"[A-Za-z][A-Za-z0-9./_-]*")


def documents(values: Sequence[Mapping[str, object]]) -> str:
    """Return a stream of documents."""
    return "".join("---\n" + "\n".join(_block(value, "")) + "\n" for value in values)


def _block(value: object, indent: str) -> Iterator[str]:
    """Yield the lines of a mapping or list."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            name = (
                key
                if _PLAIN_KEY.fullmatch(key) and key not in ("y", "n", "yes", "no", "on", "off")
                else json.dumps(key)
            )
            if _is_scalar(item):
                yield f"{indent}{name}: {_scalar(item)}"
            else:
                yield f"{indent}{name}:"
                yield from _block(item, indent + "  ")
    elif isinstance(value, Sequence):
        for item in value:
            if _is_scalar(item):
                yield f"{indent}- {_scalar(item)}"
            else:
                first, *rest = _block(item, indent + "  ")
                yield f"{indent}- {first.strip()}"
                yield from rest


def _is_scalar(value: object) -> bool:
    return isinstance(value, str | bool | int) or not value


def _scalar(value: object) -> str:
    """JSON's text is YAML's; of empty collections too."""
    return json.dumps(value)
