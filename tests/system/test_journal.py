"""The door to the journal; a reader that is none stands for it."""

from collections.abc import Mapping
from typing import Any, Self

import pytest

from p2vd.system import journal


class FakeReader:
    """What of systemd.journal.Reader is used."""

    def __init__(self, *entries: Mapping[str, Any]) -> None:
        self.entries = list(entries)
        self.matches: list[tuple[str, str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.matches.append(("closed", ""))

    def add_match(self, **match: str) -> None:
        self.matches += match.items()

    def seek_tail(self) -> None:
        self.entries.reverse()

    def get_previous(self) -> Mapping[str, Any]:
        return self.entries.pop(0) if self.entries else {}


def test_the_newest_entry_is_found_by_what_the_kernel_says_of_its_writer() -> None:
    reader = FakeReader({"P2VD_AUDIT": "1"}, {"P2VD_AUDIT": "2"})
    assert journal.newest("p2vd.service", ["a", "b"], reader) == {"P2VD_AUDIT": "2"}
    matches = [("_SYSTEMD_UNIT", "p2vd.service"), ("MESSAGE_ID", "a"), ("MESSAGE_ID", "b"), ("closed", "")]
    assert reader.matches == matches


def test_a_journal_without_it_has_none() -> None:
    assert journal.newest("p2vd.service", ["a"], FakeReader()) is None


def test_the_librarys_own_reader_takes_these_calls() -> None:
    assert journal.newest("no-such-unit-of-p2vd.service", ["f" * 32]) is None


def test_a_field_may_have_several_values(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[str, ...]] = []
    monkeypatch.setattr("systemd.journal.sendv", lambda *parts: sent.append(parts))
    journal.send("a sentence", "f" * 32, {"P2VD_JOB": ["a", "b"], "P2VD_WWID": []})
    assert sent == [
        (
            "MESSAGE=a sentence",
            f"MESSAGE_ID={'f' * 32}",
            "PRIORITY=5",
            "SYSLOG_IDENTIFIER=p2vd",
            "P2VD_JOB=a",
            "P2VD_JOB=b",
        )
    ]
