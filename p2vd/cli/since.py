"""When something begins that somebody asks for: `p2vctl audit --since`, `migrate --at`. Pure."""

import argparse
import re
from datetime import datetime, timedelta

_AGO = re.compile(r"(\d+) ?(min|h|d|w)")
_UNITS = {"min": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_since(text: str, now: datetime) -> int:
    """Return microseconds since the epoch: of a date, a date and time, today, yesterday, or so long ago.

    Times are of the zone that `now` has unless they name another. Raises argparse.ArgumentTypeError.
    """
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if text in ("today", "yesterday"):
        return _us(midnight - timedelta(days=text == "yesterday"))
    try:
        if ago := _AGO.fullmatch(text):
            return _us(now - timedelta(**{_UNITS[ago[2]]: int(ago[1])}))
        when = datetime.fromisoformat(text)
        return _us(when if when.tzinfo else when.replace(tzinfo=now.tzinfo))
    except OverflowError:
        return 0  # before everything that there is
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time: write 2026-10-01, '2026-10-01 14:00', today, yesterday, 30min, 2h, 3d, 1w"
        ) from error


def _us(when: datetime) -> int:
    """Microseconds since the epoch, as the bus has them: none before it."""
    return max(0, int(when.timestamp() * 1_000_000))


def parse_at(text: str, now: datetime) -> int:
    """Return microseconds since the epoch of a time to come: a date and time, a time of the day, or +2h.

    A time of the day is the next one. Raises argparse.ArgumentTypeError.
    """
    try:
        if text.startswith("+") and (ahead := _AGO.fullmatch(text[1:])):
            return _us(now + timedelta(**{_UNITS[ahead[2]]: int(ahead[1])}))
        if re.fullmatch(r"\d\d?:\d\d", text):
            hour, minute = map(int, text.split(":"))
            when = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
            when = when if when > now else when + timedelta(days=1)
        else:
            when = datetime.fromisoformat(text)
            when = when if when.tzinfo else when.replace(tzinfo=now.tzinfo)
    except (OverflowError, ValueError) as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time: write 22:00, '2026-10-01 22:00', +30min, +2h"
        ) from error
    if when <= now:
        raise argparse.ArgumentTypeError(f"{text!r} is over")
    return _us(when)
