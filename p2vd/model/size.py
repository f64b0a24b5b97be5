"""Sizes in bytes, as people write and read them."""

import re

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40

_UNITS = {"B": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB, "TiB": TIB, "PiB": 1 << 50}
_TEXT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGTP]i?B?|B)?\s*", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Return the bytes that `text` says: "10 GiB", "512M", "4096". Units are binary.

    Raises ValueError with the accepted form, also where the number is not a whole count of bytes.
    """
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a size; write it as 10 GiB, 512 MiB or 4096")
    number, unit = match.groups()
    factor = 1 if unit is None or unit.upper() == "B" else _UNITS[unit[0].upper() + "iB"]
    whole, _, fraction = number.partition(".")
    denominator: int = 10 ** len(fraction)
    scaled, rest = divmod(int(whole + fraction) * factor, denominator)
    if rest:
        raise ValueError(f"{text!r} is not a whole number of bytes")
    return scaled


def format_size(size_bytes: int) -> str:
    """Return `size_bytes` for a reader: "10 GiB", "1.5 GiB", "512 B"."""
    for unit, factor in reversed(_UNITS.items()):
        if abs(size_bytes) >= factor and unit != "B":
            number = f"{size_bytes / factor:.2f}".rstrip("0").rstrip(".")
            return f"{number} {unit}"
    return f"{size_bytes} B"


def round_up(size_bytes: int, step_bytes: int) -> int:
    """Return the smallest multiple of `step_bytes` that holds `size_bytes`."""
    return -(-size_bytes // step_bytes) * step_bytes
