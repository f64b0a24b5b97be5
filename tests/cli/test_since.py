"""Times as somebody types them."""

import argparse
from datetime import UTC, datetime, timedelta, timezone

import pytest

from p2vd.cli.since import parse_at, parse_since

NOW = datetime(2026, 10, 25, 14, 30, tzinfo=timezone(timedelta(hours=2)))


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("2026-10-01", "2026-10-01T00:00+02:00"),
        ("2026-10-01 14:00", "2026-10-01T14:00+02:00"),
        ("2026-10-01T14:00:30", "2026-10-01T14:00:30+02:00"),
        ("2026-10-01T14:00Z", "2026-10-01T14:00+00:00"),
        ("today", "2026-10-25T00:00+02:00"),
        ("yesterday", "2026-10-24T00:00+02:00"),
        ("30min", "2026-10-25T14:00+02:00"),
        ("2h", "2026-10-25T12:30+02:00"),
        ("3 d", "2026-10-22T14:30+02:00"),
        ("1w", "2026-10-18T14:30+02:00"),
    ],
)
def test_a_time_is_read(text: str, when: str) -> None:
    assert datetime.fromtimestamp(parse_since(text, NOW) / 1e6, UTC) == datetime.fromisoformat(when)


@pytest.mark.parametrize("text", ["", "soon", "2h ago", "14:00", "-1d"])
def test_what_is_no_time_says_how_one_is_written(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no time: write 2026-10-01"):
        parse_since(text, NOW)


@pytest.mark.parametrize("text", ["0001-01-01", "1969-12-31", "99999999999w", "999999w"])
def test_a_time_before_all_is_the_beginning_of_all(text: str) -> None:
    """The bus knows no time before 1970."""
    assert parse_since(text, NOW) == 0


@pytest.mark.parametrize("text", ["+99999999999w", "+999999w"])
def test_a_time_that_never_comes_is_none(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no time: write 22:00"):
        parse_at(text, NOW)
