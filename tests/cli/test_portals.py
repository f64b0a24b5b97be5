"""p2vctl portals against the face on a private bus."""

import io
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.bus.harness import Face
from tests.cli.conftest import Run

ID = "10.98.1.1:3260"


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text("my-secret-12\n")
    file.chmod(0o600)
    return file


def asked(face: Face) -> list[Any]:
    return [item for item in face.tell("what_was_asked") if "portal" in item[0]]


def test_the_list_has_a_table_errors_and_json(p2vctl: Run, face: Face) -> None:
    assert p2vctl("portals", "list")[1].startswith("There are no portals. Add one:")
    p2vctl("portals", "add", "10.98.1.1", "--no-wait")
    face.tell("portal", ID, "connected", 3)
    _, out, _ = p2vctl("portals", "list")
    assert out.splitlines()[1].split() == [ID, "connected", "1/1", "3", "ens4", "10.98.1.9", "9000"]
    face.tell("portal", ID, "refused", 0, "The target refuses this host.")
    assert f"{ID}: The target refuses this host." in p2vctl("portals", "list")[1]
    (entry,) = json.loads(p2vctl("portals", "list", "--json")[1])
    assert entry["Error"] == ["LoginRefused", "The target refuses this host."]


@pytest.mark.parametrize(
    ("state", "status", "says"),
    [
        ("connected", 0, "is connected: 1 of 1 sessions by ens4, 10.98.1.9, MTU 9000."),
        ("refused", 1, "The target refuses this host."),
        ("retrying", 1, "p2vd goes on trying; to end that: p2vctl portals remove 10.98.1.1:3260"),
    ],
)
def test_adding_waits_for_the_outcome(
    p2vctl: Run, face: Face, monkeypatch: pytest.MonkeyPatch, state: str, status: int, says: str
) -> None:
    error = "" if state == "connected" else "The target refuses this host."
    # The portal settles while p2vctl waits between two looks.
    clock = SimpleNamespace(
        sleep=lambda _: face.tell("portal", ID, state, 1, error), monotonic=time.monotonic
    )
    monkeypatch.setattr("p2vd.cli.portals.time", clock)
    code, out, err = p2vctl("portals", "add", "10.98.1.1")
    assert code == status
    assert says in out + err


def test_a_secret_file_goes_as_a_descriptor(p2vctl: Run, face: Face, secret_file: Path) -> None:
    arguments = ["--chap-user", "me", "--chap-secret-file", str(secret_file), "--target", "iqn.x"]
    status, _, _ = p2vctl("portals", "add", "10.98.1.1", "10.98.2.1", *arguments, "--no-wait")
    assert status == 0
    assert asked(face) == [
        ["add_portal", portal, ["iqn.x"], ["my-secret-12", ""]] for portal in (ID, "10.98.2.1:3260")
    ]


def test_both_secrets_may_come_by_standard_input(
    p2vctl: Run, face: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = io.TextIOWrapper(io.BytesIO(b"my-secret-12\ntheir-secret-34\n"))
    monkeypatch.setattr(sys, "stdin", lines)
    mine = ["--chap-user", "me", "--chap-secret-file", "-"]
    theirs = ["--chap-user-in", "they", "--chap-secret-in-file", "-"]
    p2vctl("portals", "add", "10.98.1.1", *mine, *theirs, "--no-wait")
    assert asked(face) == [["add_portal", ID, [], ["my-secret-12", "their-secret-34"]]]


def test_a_secret_that_others_may_read_is_refused(p2vctl: Run, face: Face, secret_file: Path) -> None:
    secret_file.chmod(0o640)
    arguments = ["--chap-user", "me", "--chap-secret-file", str(secret_file)]
    status, _, err = p2vctl("portals", "add", "10.98.1.1", *arguments)
    assert status == 2
    assert f"chmod 600 {secret_file}" in err
    assert asked(face) == []


def test_a_secret_is_asked_for_on_a_terminal_only(
    p2vctl: Run, face: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, _, err = p2vctl("portals", "add", "10.98.1.1", "--chap-user", "me")
    assert status == 2
    assert "no terminal to ask on" in err
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda prompt: f"answer to {prompt}".strip(": "))
    p2vctl("portals", "add", "10.98.1.1", "--chap-user", "me", "--no-wait")
    assert asked(face) == [["add_portal", ID, [], ["answer to CHAP secret for me", ""]]]


def test_no_option_takes_a_secret(p2vctl: Run) -> None:
    with pytest.raises(SystemExit):
        p2vctl("portals", "add", "10.98.1.1", "--chap-secret", "x")


def test_removing_is_waited_for_and_named(p2vctl: Run, face: Face) -> None:
    p2vctl("portals", "add", "10.98.1.1", "--no-wait")
    assert p2vctl("portals", "remove", "10.98.1.1")[1] == f"{ID} is removed.\n"
    status, _, err = p2vctl("portals", "remove", "10.98.1.1")
    assert status == 1
    assert "See: p2vctl portals list" in err


def test_a_portal_in_use_stays_and_says_why(p2vctl: Run, face: Face) -> None:
    p2vctl("portals", "add", "10.98.1.1", "--no-wait")
    face.tell("portal", ID, "connected", 1)
    status, _, err = p2vctl("portals", "remove", "10.98.1.1")
    assert status == 1
    assert "mounted on /mnt" in err


def test_a_rescan_says_what_it_found_and_fails_for_what_is_left_alone(p2vctl: Run, face: Face) -> None:
    status, _, err = p2vctl("portals", "rescan")
    assert (status, "There are no portals." in err) == (1, True)
    p2vctl("portals", "add", "10.98.1.1", "--no-wait")
    status, out, _ = p2vctl("portals", "rescan", "--hct", "6:0:0")
    assert status == 1
    assert out.splitlines() == [f"{ID}:", "new: 36001405d", "! left alone: 36001405e is in use."]
    assert asked(face)[-1] == ["rescan_portal", ID, "6:0:0"]
    assert json.loads(p2vctl("portals", "rescan", "--json")[1])[0]["LastRescan"]["New"] == ["36001405d"]
