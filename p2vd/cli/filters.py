"""Which of the sources somebody wants to see: `p2vctl sources --filter`. Pure."""

import argparse
from dataclasses import dataclass
from fnmatch import fnmatchcase

from p2vd.cli.client import Object
from p2vd.model.size import format_size

# The table's own headings, and what else tells one array's disks from another's.
_PROPERTIES = {
    "id": "Id",
    "name": "Name",
    "device": "Device",
    "size": "Size",
    "sector": "SectorSize",
    "transport": "Transport",
    "format": "Format",
    "vendor": "Vendor",
    "model": "Model",
    "serial": "Serial",
    "policy": "MatchedPolicy",
    "usable": "Usable",
    "reason": "Reasons",
    "warning": "Warnings",
}
_ANYWHERE = ("id", "name", "device", "transport", "vendor", "model", "serial", "policy")
_SENTENCES = ("reason", "warning")


@dataclass(frozen=True)
class Filter:
    """A glob for one property of a source, or, with `key` empty, for any that names it; in any case."""

    key: str
    pattern: str

    def matches(self, source: Object) -> bool:
        """Whether it lets a source through."""
        values = [value for key in ([self.key] if self.key else _ANYWHERE) for value in _values(source, key)]
        return any(fnmatchcase(value.lower(), self.pattern.lower()) for value in values)


def parse_filter(text: str) -> Filter:
    """Return the filter that `text` is. Raises argparse.ArgumentTypeError."""
    key, equals, pattern = text.partition("=")
    if not equals:
        if not text:
            raise argparse.ArgumentTypeError("say what to look for")
        return Filter("", f"*{text}*")
    if key not in _PROPERTIES:
        raise argparse.ArgumentTypeError(f"no {key!r} to filter by: there is {', '.join(_PROPERTIES)}")
    # Nobody types a sentence as a whole.
    return Filter(key, f"*{pattern}*" if key in _SENTENCES else pattern)


def _values(source: Object, key: str) -> list[str]:
    value = source[_PROPERTIES[key]]
    if isinstance(value, bool):
        return ["yes" if value else "no"]
    if isinstance(value, list | tuple):
        return [str(item) for item in value]
    if key == "size":
        return [format_size(value)]
    return [str(value) or "none"]
