"""Leaves secrets out of what is handed on: under their names, and wherever else they stand. Pure."""

import re
from collections.abc import Iterable, Iterator

LEFT_OUT = "(left out)"

_NAME = r"[\w.\-\[\]]*(?:passw(?:or)?d|passphrase|secret|credential|token|private[_.-]?key)[\w.\-\[\]]*"
# node.session.auth.password = X; "chap-secret": "X"; passwd='X'. A line of a record ends with its value.
_QUOTED = re.compile(
    rf"""(?P<name>{_NAME}["']?\s*[=:]\s*)(?P<quote>["'])(?P<value>.*?)(?P=quote)""", re.IGNORECASE
)
_BARE = re.compile(
    rf"(?P<begin>^\s*#?\s*{_NAME}\s*[=:][ \t]*)(?P<value>\S.*?)[ \t]*$", re.IGNORECASE | re.MULTILINE
)
_INLINE = re.compile(rf"(?P<begin>(?<![\w.\-]){_NAME}=)(?P<value>[^\s\"',;()\[\]{{}}]+)", re.IGNORECASE)

_LEAST = 4
"""A shorter value is not looked for elsewhere: it would be found everywhere."""


def secrets_in(text: str) -> Iterator[str]:
    """Yield the values that `text` keeps under names of secrets."""
    for pattern in (_QUOTED, _BARE, _INLINE):
        for match in pattern.finditer(text):
            value = match["value"].strip()
            if len(value) >= _LEAST and value != LEFT_OUT:
                yield value


def redact(text: str, known: Iterable[str] = ()) -> str:
    """Return `text` without values under names of secrets, and without the `known` ones wherever they are."""
    for value in sorted(set(known), key=len, reverse=True):
        text = text.replace(value, LEFT_OUT)
    # Whole lines first: what looks quoted in one may be a part of the secret.
    text = _BARE.sub(lambda m: f"{m['begin']}{LEFT_OUT}", text)
    text = _QUOTED.sub(lambda m: f"{m['name']}{m['quote']}{LEFT_OUT}{m['quote']}", text)
    return _INLINE.sub(lambda m: f"{m['begin']}{LEFT_OUT}", text)
