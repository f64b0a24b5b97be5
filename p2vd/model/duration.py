"""Short times, as people write and read them."""

import re

_UNITS = {"us": 1, "ms": 1000, "s": 1_000_000}
_TEXT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(us|ms|s)\s*")

LEAST_LATENCY_US = 100
MOST_LATENCY_US = 60_000_000


def parse_latency(text: str) -> int:
    """Return the microseconds that `text` says: "20 ms", "1.5 s", "800us".

    Raises ValueError with the accepted form, also where it is out of range.
    """
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a time; write it as 20 ms, 800 us or 1.5 s")
    number, unit = match.groups()
    time_us = round(float(number) * _UNITS[unit])
    if not LEAST_LATENCY_US <= time_us <= MOST_LATENCY_US:
        low, high = format_latency(LEAST_LATENCY_US), format_latency(MOST_LATENCY_US)
        raise ValueError(f"{text!r} is not from {low} to {high}")
    return time_us


def format_latency(time_us: int) -> str:
    """Return `time_us` for a reader: "20 ms", "1.5 s", "800 us"."""
    for unit, factor in reversed(_UNITS.items()):
        if time_us >= factor:
            return f"{time_us / factor:.4g} {unit}"
    return f"{time_us} us"
