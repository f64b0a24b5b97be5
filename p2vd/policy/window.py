"""When windows are open, and when that changes next. Pure: the moment is passed in.

A window opens and closes when the clocks of its time zone first show that time, or a later one: a
time that they jump over in spring is the moment of the jump, one that they show twice in autumn is
the first of the two. So windows that meet on the clock meet in time, and none is ever inside out.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from p2vd.model.window import DAY_MINUTES, Window

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

# A window of one day a week comes again within a week; where the clocks jump over it, in the next one.
_HORIZON_DAYS = 16
# What began at the latest before a moment may still be open at it: a day, and a jump of the clocks.
_BEFORE_DAYS = 2


def zone(name: str) -> ZoneInfo:
    """Return the time zone of that name. Raises ValueError where this host knows none."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown, no name at all, a directory
        raise ValueError(f"{name!r} is no time zone that this host knows") from None


def is_open(windows: Sequence[Window], at: datetime) -> bool:
    """Return whether any window is open at the aware moment `at`. Raises ValueError as `zone` does."""
    return any(start <= at < end for window in windows for start, end in _occurrences(window, at, 1))


def next_change(windows: Sequence[Window], at: datetime) -> datetime | None:
    """Return the first moment after `at`, in UTC, at which what `is_open` says changes; None: never.

    Raises ValueError as `zone` does.
    """
    now = is_open(windows, at)
    edges = {
        edge
        for window in windows
        for occurrence in _occurrences(window, at, _HORIZON_DAYS)
        for edge in occurrence
        if edge > at
    }
    return next((edge for edge in sorted(edges) if is_open(windows, edge) is not now), None)


def until_text(windows: Sequence[Window], change: datetime) -> str:
    """Return a moment of change as the clocks of the first window's zone show it."""
    name = windows[0].timezone
    return f"{change.astimezone(zone(name)):%a %Y-%m-%d %H:%M} {name}"


def window_text(window: Window) -> str:
    """Return a window in words: `mon-fri 22:00-05:00 Europe/Berlin`."""
    hours = f"{_clock(window.from_minute)}-{_clock(window.to_minute)}"
    return f"{_days(window.days)} {hours} {window.timezone}"


def _occurrences(window: Window, at: datetime, days: int) -> Iterator[tuple[datetime, datetime]]:
    """Yield begin and end, in UTC, of the openings that may touch `at` and `days` days from it on."""
    where = zone(window.timezone)
    today = at.astimezone(where).date()
    for shift in range(-_BEFORE_DAYS, days + 1):
        day = today + timedelta(days=shift)
        if day.weekday() in window.days:
            to = window.to_minute
            if to <= window.from_minute:
                to += DAY_MINUTES
            start, end = _moment(day, window.from_minute, where), _moment(day, to, where)
            if start < end:
                yield start, end


def _moment(day: date, minute: int, where: ZoneInfo) -> datetime:
    """Return the first moment, in UTC, at which the clocks show that minute of that day, or a later one."""
    shown = datetime.combine(day, time()) + timedelta(minutes=minute)
    first = shown.replace(tzinfo=where).astimezone(UTC)
    if first.astimezone(where).replace(tzinfo=None) == shown:
        return first
    # They jump over it: look for the jump, between the moments that the two offsets around it give.
    low, high = shown.replace(tzinfo=where, fold=1).astimezone(UTC), first
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=(high - low) // timedelta(seconds=2))
        if middle.astimezone(where).replace(tzinfo=None) < shown:
            low = middle
        else:
            high = middle
    return high


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _days(days: Sequence[int]) -> str:
    """Return days of the week as one writes them: `mon-wed, sat`."""
    runs: list[list[int]] = []
    for day in sorted(days):
        if runs and day == runs[-1][-1] + 1:
            runs[-1].append(day)
        else:
            runs.append([day])
    return ", ".join(DAYS[run[0]] + (f"-{DAYS[run[-1]]}" if len(run) > 1 else "") for run in runs)
