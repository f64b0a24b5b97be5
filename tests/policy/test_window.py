"""Windows: by the clock on the wall, over midnight, and where clocks are put forward or back."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from p2vd.model.window import DAY_MINUTES, Window
from p2vd.policy.model import PolicyText
from p2vd.policy.parse import load
from p2vd.policy.window import is_open, next_change, until_text, window_text, zone
from tests.policy.test_parse import SHORT

BERLIN = "Europe/Berlin"  # 2026: forward on March 29, back on October 25, at 01:00 UTC
EVERY_DAY = tuple(range(7))
NIGHTS = Window((0, 1, 2, 3, 4), 22 * 60, 5 * 60, BERLIN)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def berlin(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(BERLIN))


def daily(start: str, end: str, where: str = BERLIN) -> Window:
    minutes = [int(text[:2]) * 60 + int(text[3:]) for text in (start, end)]
    return Window(EVERY_DAY, minutes[0], minutes[1], where)


@pytest.mark.parametrize(
    ("at", "opened"),
    [
        ("2026-11-23T21:59:59", False),  # a Monday
        ("2026-11-23T22:00:00", True),
        ("2026-11-24T04:59:59", True),
        ("2026-11-24T05:00:00", False),
        ("2026-11-28T04:59:59", True),  # Saturday: it began on Friday
        ("2026-11-28T22:00:00", False),
        ("2026-11-30T04:00:00", False),  # Monday: on Sunday none began
    ],
)
def test_a_window_over_midnight_belongs_to_the_day_on_which_it_opens(at: str, opened: bool) -> None:
    assert is_open([NIGHTS], berlin(at)) is opened


def test_the_moment_may_be_given_by_any_clock() -> None:
    assert is_open([NIGHTS], utc("2026-11-23T21:00:00"))
    assert is_open([NIGHTS], datetime.fromisoformat("2026-11-24T06:30:00+09:00"))


def test_next_changes_follow_one_another() -> None:
    at = berlin("2026-11-27T12:00:00")  # a Friday
    found = []
    for _ in range(3):
        change = next_change([NIGHTS], at)
        assert change is not None
        found.append(change)
        at = change
    assert found == [
        berlin("2026-11-27T22:00:00"),
        berlin("2026-11-28T05:00:00"),
        berlin("2026-11-30T22:00:00"),
    ]
    assert until_text([NIGHTS], found[0]) == "Fri 2026-11-27 22:00 Europe/Berlin"


def test_windows_that_meet_are_one() -> None:
    windows = [daily("20:00", "24:00"), daily("00:00", "06:00")]
    assert next_change(windows, berlin("2026-11-27T21:00:00")) == berlin("2026-11-28T06:00:00")


def test_what_is_always_open_never_changes() -> None:
    assert next_change([daily("00:00", "24:00")], utc("2026-03-29T00:30:00")) is None
    assert next_change([], utc("2026-03-29T00:30:00")) is None
    assert not is_open([], utc("2026-03-29T00:30:00"))


def test_a_night_is_an_hour_shorter_in_spring_and_longer_in_autumn() -> None:
    night = [daily("22:00", "05:00")]
    spring = next_change(night, berlin("2026-03-28T22:00:00"))
    autumn = next_change(night, berlin("2026-10-24T22:00:00"))
    assert spring == utc("2026-03-28T21:00:00") + timedelta(hours=6)
    assert autumn == utc("2026-10-24T20:00:00") + timedelta(hours=8)


@pytest.mark.parametrize(
    ("start", "end", "opens", "closes"),
    [
        pytest.param("02:30", "04:00", "01:00", "02:00", id="opens with the jump"),
        pytest.param("01:30", "02:30", "00:30", "01:00", id="closes with the jump"),
        pytest.param("02:00", "03:00", None, None, id="is jumped over"),
        pytest.param("03:00", "03:30", "01:00", "01:30", id="begins where the jump ends"),
    ],
)
def test_a_time_that_clocks_jump_over_is_the_jump(
    start: str, end: str, opens: str | None, closes: str | None
) -> None:
    windows = [daily(start, end)]
    change = next_change(windows, utc("2026-03-29T00:00:00"))
    if opens is None or closes is None:
        assert change == berlin(f"2026-03-30T{start}:00")
        return
    assert change == utc(f"2026-03-29T{opens}:00")
    assert next_change(windows, change) == utc(f"2026-03-29T{closes}:00")


def test_of_a_time_that_clocks_show_twice_the_first_counts() -> None:
    windows = [daily("02:15", "02:45")]
    opens = next_change(windows, utc("2026-10-25T00:00:00"))
    assert opens == utc("2026-10-25T00:15:00")
    assert next_change(windows, opens) == utc("2026-10-25T00:45:00")
    assert not is_open(windows, utc("2026-10-25T01:30:00"))  # 02:30 again


def test_a_day_that_a_country_left_out_has_no_window() -> None:
    """Samoa went from December 29 to 31, 2011."""
    windows = [Window((4,), 0, DAY_MINUTES, "Pacific/Apia")]  # Fridays
    change = next_change(windows, datetime(2011, 12, 29, 12, tzinfo=ZoneInfo("Pacific/Apia")))
    assert change == datetime(2012, 1, 6, tzinfo=ZoneInfo("Pacific/Apia"))


ZONES = ["UTC", BERLIN, "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia"]
WINDOWS = st.builds(
    lambda days, start, end, where: Window(tuple(sorted(days)), start, end + (start == end), where),
    st.frozensets(st.integers(0, 6), min_size=1),
    st.integers(0, DAY_MINUTES - 1),
    st.integers(1, DAY_MINUTES - 1),
    st.sampled_from(ZONES),
)
# Around the days on which clocks change, and any others.
MOMENTS = st.one_of(
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)),
    *(
        st.datetimes(datetime(2026, *day) - timedelta(days=1), datetime(2026, *day) + timedelta(days=2))
        for day in ((3, 8), (3, 29), (4, 5), (10, 4), (10, 25), (11, 1))
    ),
).map(lambda moment: moment.replace(tzinfo=UTC, microsecond=0))


@given(st.lists(WINDOWS, min_size=1, max_size=3), MOMENTS, st.lists(st.integers(0, 999), max_size=8))
@example([daily("02:00", "03:00")], utc("2026-03-29T00:59:59"), [500])
def test_nothing_changes_before_the_next_change_and_then_it_does(
    windows: list[Window], at: datetime, permille: list[int]
) -> None:
    now, change = is_open(windows, at), next_change(windows, at)
    end = change or at + timedelta(days=8)
    assert end > at
    assert all(is_open(windows, at + (end - at) * part / 1000) is now for part in permille)
    assert is_open(windows, end - timedelta(seconds=1)) is now or end - timedelta(seconds=1) < at
    assert change is None or is_open(windows, change) is not now


def by_the_wall(window: Window, at: datetime) -> bool:
    """What somebody says who looks at the clock and the calendar."""
    local = at.astimezone(ZoneInfo(window.timezone))
    minute = local.hour * 60 + local.minute
    today, yesterday = local.weekday() in window.days, (local.weekday() - 1) % 7 in window.days
    if window.from_minute < window.to_minute:
        return today and window.from_minute <= minute < window.to_minute
    return (today and minute >= window.from_minute) or (yesterday and minute < window.to_minute)


def shifts(where: str, at: datetime) -> bool:
    """Whether clocks change within two days of a moment."""
    zone_info = ZoneInfo(where)
    offsets = {(at + timedelta(hours=hours)).astimezone(zone_info).utcoffset() for hours in range(-48, 49, 6)}
    return len(offsets) > 1


@given(WINDOWS, MOMENTS)
def test_it_is_what_the_clock_on_the_wall_says(window: Window, at: datetime) -> None:
    if not shifts(window.timezone, at):
        assert is_open([window], at) is by_the_wall(window, at)


@given(WINDOWS, MOMENTS)
def test_a_window_and_its_complement_are_never_open_together_nor_both_shut(
    window: Window, at: datetime
) -> None:
    """Also where clocks change: windows that meet on the clock meet in time."""
    whole = Window(EVERY_DAY, window.from_minute, window.to_minute, window.timezone)
    rest = Window(EVERY_DAY, window.to_minute, window.from_minute or DAY_MINUTES, window.timezone)
    assert is_open([whole], at) is not is_open([rest], at)


def test_a_zone_that_is_none() -> None:
    for name in ("Europe/Atlantis", "", "../etc/passwd", "Europe"):
        with pytest.raises(ValueError, match="is no time zone that this host knows"):
            zone(name)


# ---- the key --------------------------------------------------------------------------------------


def with_window(text: str) -> str:
    return f"{SHORT}[[rule.window]]\n{text}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('timezone = "UTC"', "mon-sun 00:00-24:00 UTC"),
        ('days = "sat-sun"\ntimezone = "UTC"', "sat-sun 00:00-24:00 UTC"),
        ('days = ["mon", "wed-fri"]\nfrom = "22:00"\ntimezone = "UTC"', "mon, wed-fri 22:00-24:00 UTC"),
        ('days = "fri-mon"\nto = "06:30"\ntimezone = "UTC"', "mon, fri-sun 00:00-06:30 UTC"),
        ('from = "20:00"\nto = "05:00"\ntimezone = "Europe/Berlin"', "mon-sun 20:00-05:00 Europe/Berlin"),
    ],
)
def test_what_may_be_written(text: str, said: str) -> None:
    policies = load([PolicyText("f", with_window(text))])
    assert policies.errors == ()
    (window,) = policies.rules[0].copy.windows
    assert window_text(window) == said


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "7: rule.window.timezone: is missing: a name such as"),
        (
            'timezone = "Berlin"',
            "8: rule.window.timezone: 'Berlin' is no time zone that this host knows; write it as",
        ),
        ('days = "monday"\ntimezone = "UTC"', "8: rule.window.days: 'monday' is no day of mon, tue, wed"),
        ('days = "mon-"\ntimezone = "UTC"', "8: rule.window.days: 'mon-' is no day of"),
        ('days = []\ntimezone = "UTC"', "8: rule.window.days: must be a string or a list of strings"),
        ('from = "22"\ntimezone = "UTC"', "8: rule.window.from: must be a time as \"22:00\", not '22'"),
        ('to = "25:00"\ntimezone = "UTC"', "8: rule.window.to: must be a time as"),
        ('from = 22:00:00\ntimezone = "UTC"', "8: rule.window.from: must be a string in quotes"),
        ('from = "24:00"\ntimezone = "UTC"', '8: rule.window.from: must be before "24:00"'),
        ('to = "00:00"\ntimezone = "UTC"', '8: rule.window.to: must be after "00:00"'),
        (
            'from = "05:00"\nto = "05:00"\ntimezone = "UTC"',
            "9: rule.window.to: must not be the same as from",
        ),
        (
            'until = "05:00"\ntimezone = "UTC"',
            "8: rule.window.until: there is no such key; allowed here: days, from, timezone, to",
        ),
    ],
)
def test_errors_name_line_key_and_what_is_allowed(text: str, error: str) -> None:
    (found,) = load([PolicyText("f", with_window(text))]).errors
    assert str(found).startswith(f"f:{error}")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("window = []", "must not be empty; leave it out for any time"),
        ('window = "22-06"', "must be a list of tables: [[rule.window]]"),
        ('window = { timezone = "UTC" }', "must be a list of tables: [[rule.window]]"),
    ],
)
def test_windows_are_a_list_of_tables(text: str, error: str) -> None:
    (found,) = load([PolicyText("f", SHORT.replace('"short"\n', f'"short"\n{text}\n'))]).errors
    assert str(found).startswith(f"f:3: rule.window: {error}")
