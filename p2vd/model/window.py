"""Times at which a copy may run."""

from dataclasses import dataclass

DAY_MINUTES = 24 * 60


@dataclass(frozen=True)
class Window:
    """A time of day, on some days of the week, by the clocks of one time zone.

    `days` are those on which it opens, 0 for Monday. `from_minute` and `to_minute` count from
    midnight, up to `DAY_MINUTES`; a `to_minute` that is not after `from_minute` is of the next day.
    """

    days: tuple[int, ...]
    from_minute: int
    to_minute: int
    timezone: str
