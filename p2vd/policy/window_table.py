"""The key `window` of a rule: [[rule.window]] tables to windows."""

import re

from p2vd.model.window import DAY_MINUTES, Window
from p2vd.policy.toml import Table
from p2vd.policy.window import DAYS, zone

_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|(24):(00)")
_EVERY_DAY = tuple(range(len(DAYS)))


def windows_of(rule: Table) -> tuple[Window, ...]:
    """Return the windows of a rule; none: any time."""
    windows = tuple(_window(table) for table in rule.tables("window"))
    if rule.data.get("window") == []:
        rule.error("window", "must not be empty; leave it out for any time")
    return windows


def _window(table: Table) -> Window:
    days = _days(table)
    start = _minute(table, "from", "00:00", 0)
    end = _minute(table, "to", "24:00", DAY_MINUTES)
    if start == DAY_MINUTES:
        table.error("from", 'must be before "24:00": that is "00:00" of the next day')
    elif end == 0:
        table.error("to", 'must be after "00:00"; the end of the day is "24:00"')
    elif start == end:
        table.error("to", "must not be the same as from; leave both out for the whole day")
    name = table.text("timezone")
    if not name:
        table.error("timezone", 'is missing: a name such as "Europe/Berlin", or "UTC"')
    else:
        try:
            zone(name)
        except ValueError as error:
            table.error("timezone", f'{error}; write it as "Europe/Berlin" or "UTC"')
    table.finish()
    return Window(days, start, end, name)


def _days(table: Table) -> tuple[int, ...]:
    found: set[int] = set()
    for text in table.texts("days"):
        first, dash, last = text.partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            table.error("days", f'{text!r} is no day of {", ".join(DAYS)}, nor several as "mon-fri"')
            continue
        begin, end = DAYS.index(first), DAYS.index(last if dash else first)
        if end < begin:
            end += len(DAYS)  # fri-mon
        found.update(day % len(DAYS) for day in range(begin, end + 1))
    return tuple(sorted(found)) if "days" in table else _EVERY_DAY


def _minute(table: Table, key: str, default: str, fallback: int) -> int:
    text = table.text(key, default)
    match = _TIME.fullmatch(text)
    if match is None:
        table.error(key, f'must be a time as "22:00", not {text!r}')
        return fallback
    hours, minutes = filter(None, match.groups())
    return int(hours) * 60 + int(minutes)
