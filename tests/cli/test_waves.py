"""p2vctl plan and migrate --wave, waves and report against the face on a private bus."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from p2vd.cli.since import parse_at
from tests.bus import values
from tests.bus.harness import Face
from tests.cli.conftest import Run

LIST = f"machine,sources,name,source_offline,priority\nerp1,,,yes,3\n,{values.WWID},web,yes,\nbad,,,,\n"
WAVE = "abcdef0123456789"


@pytest.fixture
def listed(tmp_path: Path) -> str:
    path = tmp_path / "wave.csv"
    path.write_text(LIST)
    return str(path)


def test_a_wave_is_planned_and_every_reason_told(p2vctl: Run, listed: str) -> None:
    status, out, _ = p2vctl("plan", "--wave", listed)
    assert status == 6
    assert f"Wave {WAVE}, planned" in out
    assert f"bad ({listed}:4)" in out
    assert "- There is no record of a machine 'bad'." in out
    assert "3 machines, 2 ready, 1 refused" in out
    assert f"p2vctl waves start {WAVE}" in out


def test_a_wave_is_started_at_a_time_and_cancelled(p2vctl: Run, listed: str, face: Face) -> None:
    assert p2vctl("migrate", "--wave", listed, "--at", "2099-01-01T00:00Z")[0] == 6
    at_us = int(datetime(2099, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
    assert ["start_wave", WAVE, at_us, 1234] in face.tell("what_was_asked")
    status, out, _ = p2vctl("waves", "show", "abc", "--json")
    page = json.loads(out)
    assert (status, page["State"], page["At"]) == (0, "scheduled", at_us)
    assert [one["Priority"] for one in page["Machines"]] == [3, 0, 0]
    assert WAVE in p2vctl("waves")[1]
    assert p2vctl("waves", "cancel", "abc")[0] == 0


def test_mistakes_of_the_list_are_told_and_nothing_is_planned(p2vctl: Run, tmp_path: Path) -> None:
    path = tmp_path / "wave.csv"
    path.write_text("machine,priority\nerp1,high\n")
    status, _, err = p2vctl("migrate", "--wave", str(path))
    assert status == 2
    assert f"{path}:2: priority: 'high' is no number." in err
    assert "No wave was planned" in p2vctl("waves")[1]
    assert p2vctl("migrate", "--wave", str(tmp_path / "none"))[0] == 2


@pytest.mark.parametrize(
    "words",
    [
        ["migrate"],
        ["migrate", "a", "--wave", "b"],
        ["plan", "a", "--wave", "b"],
        ["migrate", "a", "--at", "+1h"],
    ],
)
def test_a_wrong_command_line_is_told(p2vctl: Run, words: list[str]) -> None:
    assert p2vctl(*words)[0] == 2


def test_a_wave_is_not_waited_for(p2vctl: Run, listed: str) -> None:
    status, _, err = p2vctl("migrate", "--wave", listed, "--wait")
    assert status == 2
    assert "--wait is for one plan" in err
    assert "No wave was planned" in p2vctl("waves")[1]


def test_the_report_is_a_page_and_json(p2vctl: Run) -> None:
    status, out, _ = p2vctl("report", "--since", "2026-10-01")
    assert status == 6
    assert "1 failed" in out
    assert "- SourceChanged: it is another disk." in out
    assert json.loads(p2vctl("report", "--json")[1])["Jobs"][0]["Outcome"] == "failed"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("22:00", "2026-10-01T22:00+00:00"),
        ("9:30", "2026-10-02T09:30+00:00"),
        ("+2h", "2026-10-01T12:00+00:00"),
        ("2026-10-03 01:00", "2026-10-03T01:00+00:00"),
    ],
)
def test_a_time_to_come(text: str, wanted: str) -> None:
    now = datetime(2026, 10, 1, 10, tzinfo=UTC)
    assert parse_at(text, now) == int(datetime.fromisoformat(wanted).timestamp()) * 1_000_000


def test_a_wave_that_is_not_there_is_no_wrong_command_line(p2vctl: Run) -> None:
    assert p2vctl("waves", "show", "zz") == (1, "", "p2vctl: There is no wave 'zz'. See: p2vctl waves\n")


def test_a_wave_that_is_not_named_is_asked_for(p2vctl: Run) -> None:
    status, _, err = p2vctl("waves", "start")
    assert status == 2
    assert "Say it: p2vctl waves start WAVE" in err
