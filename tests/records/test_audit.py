"""The audit's file: durable, chained, and honest about what happened to it."""

import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2vd.records.audit import AuditUnwritable
from p2vd.records.chain import GENESIS, Link
from p2vd.records.search import verify
from tests.records.audit_desk import DAY_US, JOB, MACHINE, WWID, Desk, event


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def findings(desk: Desk, newest: Link | None = None) -> tuple[str, ...]:
    return verify(desk.directory, newest).findings


def test_an_entry_says_who_what_and_about_what(desk: Desk) -> None:
    desk.file.append(event("Job.Cancel", arguments={"target": "keep"}))
    (entry,) = desk.entries()
    assert entry.pop("hash") == desk.told[0][1].hash
    assert entry == {
        "number": 1,
        "time_us": desk.now_us,
        "previous": GENESIS,
        "kind": "asked",
        "verb": "Job.Cancel",
        "who": {"uid": 1000, "bus_name": ":1.7", "pid": 4711, "unit": "session-3.scope"},
        "arguments": {"target": "keep"},
        "job": [JOB],
        "wwid": [WWID],
        "machine": MACHINE,
        "machine_name": "erp1",
        "plan": "plan-1",
    }


def test_only_root_reads_it(desk: Desk) -> None:
    desk.file.append(event())
    assert desk.current.stat().st_mode & 0o777 == 0o600
    assert desk.directory.stat().st_mode & 0o777 == 0o700


def test_the_chain_goes_on_after_a_restart(desk: Desk) -> None:
    first = desk.file.append(event())
    second = desk.restarted().append(event())
    assert (second.number, desk.entries()[1]["previous"]) == (2, first.hash)
    assert findings(desk) == ()


def test_an_entry_is_durable_before_anybody_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.file.append(event())
    desk.told.clear()
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(len(desk.told)))
    desk.file.append(event())
    assert (synced, len(desk.told)) == ([0], 1)


@pytest.mark.parametrize("rest", [b'{"number":3,"time', b"\0" * 4096, b"half\nand a half"], ids=repr)
def test_what_a_power_cut_left_is_kept_aside_and_has_an_entry(desk: Desk, rest: bytes) -> None:
    desk.file.append(event())
    whole = desk.current.read_bytes()
    desk.current.write_bytes(whole + rest)
    desk.restarted().append(event())
    _, torn, after = desk.entries()
    assert (torn["kind"], torn["outcome"], torn["arguments"]["bytes"]) == ("file", "torn", len(rest))
    assert (desk.directory / torn["arguments"]["kept_in"]).read_bytes() == rest
    assert after["number"] == 3
    assert findings(desk) == ()


def test_a_whole_entry_without_its_end_was_never_told_and_is_torn(desk: Desk) -> None:
    desk.file.append(event())
    desk.file.append(event())
    lines = desk.current.read_bytes().splitlines()
    desk.current.write_bytes(lines[0] + b"\n" + lines[1])
    desk.restarted().append(event())
    assert [(entry["number"], entry["kind"]) for entry in desk.entries()] == [
        (1, "asked"),
        (2, "file"),
        (3, "asked"),
    ]


def test_a_write_that_does_not_fit_leaves_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.file.append(event())
    before = desk.current.read_bytes()
    real: Callable[[int, bytes, int], int] = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, data[:10], at))
    with pytest.raises(AuditUnwritable, match="No space left on device"):
        desk.file.append(event())
    assert desk.current.read_bytes() == before
    monkeypatch.undo()
    assert desk.file.append(event()).number == 2
    assert findings(desk) == ()


def test_after_a_failed_fsync_the_entry_is_written_anew(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second fsync says success with nothing written: the pages must be dirty again."""
    desk.file.append(event())
    size = desk.current.stat().st_size
    calls: list[str] = []

    def fsync(_: int) -> None:
        calls.append("fsync")
        if calls.count("fsync") == 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    real = os.pwrite

    def pwrite(fd: int, data: bytes, at: int) -> int:
        calls.append(f"write at {at - size}")
        return real(fd, data, at)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "pwrite", pwrite)
    with pytest.raises(AuditUnwritable, match="Input/output error"):
        desk.file.append(event("Job.Retry"))
    assert len(desk.told) == 1
    assert desk.file.append(event("Job.Pause")).number == 2
    assert calls == ["write at 0", "fsync", "write at 0", "fsync"]
    assert [entry["verb"] for entry in desk.entries()] == ["Job.Pause", "Job.Pause"]


def test_a_directory_that_cannot_be_made_is_named_and_tried_again(tmp_path: Path) -> None:
    (tmp_path / "audit").write_text("a file")
    desk = Desk(tmp_path)
    with pytest.raises(AuditUnwritable, match="Nothing is changed that cannot be recorded"):
        desk.file.append(event())
    (tmp_path / "audit").unlink()
    assert desk.file.append(event()).number == 1


def test_a_full_file_is_put_aside_and_the_chain_goes_through(tmp_path: Path) -> None:
    desk = Desk(tmp_path, max_bytes=1500)
    for _ in range(10):
        desk.file.append(event())
    names = desk.names()
    assert names[:2] == ["audit-000000000001.jsonl", "audit-000000000004.jsonl"]
    assert all((desk.directory / name).stat().st_size <= 1500 for name in names)
    verdict = verify(desk.directory)
    assert (verdict.entries, verdict.first, verdict.last, verdict.findings) == (10, 1, 10, ())
    last = json.loads((desk.directory / names[0]).read_text().splitlines()[-1])
    first = json.loads((desk.directory / names[1]).read_text().splitlines()[0])
    assert first["previous"] == last["hash"]


def test_a_restart_right_after_the_change_of_files_goes_on(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.file.append(event())
    desk.current.rename(desk.directory / "audit-000000000001.jsonl")
    assert desk.restarted().append(event()).number == 2
    assert findings(desk) == ()


def test_files_leave_when_they_are_old_and_an_entry_says_so(tmp_path: Path) -> None:
    desk = Desk(tmp_path, max_bytes=1500, keep_days=30)
    for day in range(60):
        desk.now_us = 1_700_000_000_000_000 + day * DAY_US
        desk.file.append(event())
    verdict = verify(desk.directory)
    assert verdict.findings == ()
    assert verdict.first > 20
    oldest = json.loads((desk.directory / desk.names()[0]).read_text().splitlines()[-1])
    assert desk.now_us - oldest["time_us"] <= 31 * DAY_US


def test_nothing_leaves_where_nothing_says_how_long_it_is_kept(tmp_path: Path) -> None:
    desk = Desk(tmp_path, max_bytes=1500)
    for day in range(20):
        desk.now_us += day * 365 * DAY_US
        desk.file.append(event())
    assert verify(desk.directory).first == 1


Harm = Callable[[list[bytes]], list[bytes]]


@pytest.mark.parametrize(
    ("harm", "finding"),
    [
        (lambda ls: [ls[0].replace(b"erp1", b"erp2"), *ls[1:]], "Entry 1 (audit.jsonl:1) was edited"),
        (lambda ls: [ls[0].replace(b":", b": "), *ls[1:]], "Entry 1 (audit.jsonl:1) was edited"),
        (lambda ls: [ls[0], *ls[2:]], "audit.jsonl:2 holds entry 3, the one before is 1."),
        (lambda ls: [ls[0], ls[2], ls[1], ls[3]], "audit.jsonl:2 holds entry 3, the one before is 1."),
        (lambda ls: [ls[0], b"what?", *ls[1:]], "audit.jsonl:2 is not an entry."),
        (lambda ls: [ls[0], ls[0], *ls[1:]], "audit.jsonl:2 holds entry 1, the one before is 1."),
        (lambda ls: ls[1:], "The audit begins with entry 2, and nothing says"),
    ],
    ids=["edited", "blanks", "one removed", "swapped", "put in", "doubled", "beginning removed"],
)
def test_what_somebody_did_to_it_shows(desk: Desk, harm: Harm, finding: str) -> None:
    for _ in range(4):
        desk.file.append(event())
    lines = desk.current.read_bytes().splitlines()
    desk.current.write_bytes(b"\n".join(harm(lines)) + b"\n")
    assert any(finding in each for each in findings(desk)), findings(desk)


def test_an_entry_forged_with_a_fitting_hash_does_not_continue_the_chain(desk: Desk, tmp_path: Path) -> None:
    for _ in range(3):
        desk.file.append(event())
    forger = Desk(tmp_path / "forger")
    for _ in range(2):
        forger.file.append(event("Job.Resume"))
    ours, theirs = desk.current.read_bytes().splitlines(), forger.current.read_bytes().splitlines()
    desk.current.write_bytes(b"\n".join([ours[0], theirs[1], ours[2]]) + b"\n")
    assert findings(desk) == (
        "Entry 2 (audit.jsonl:2) does not continue entry 1.",
        "Entry 3 (audit.jsonl:3) does not continue entry 2.",
    )


def test_an_end_that_was_cut_off_shows_by_the_journal(desk: Desk) -> None:
    links = [desk.file.append(event()) for _ in range(3)]
    assert findings(desk, links[-1]) == ()
    desk.current.write_bytes(b"".join(desk.current.read_bytes().splitlines(keepends=True)[:2]))
    assert findings(desk) == ()
    (finding,) = findings(desk, links[-1])
    assert finding == ("The end is missing: the audit ends with entry 2, and the journal tells of entry 3.")


def test_an_audit_made_anew_shows_by_the_journal(desk: Desk, tmp_path: Path) -> None:
    newest = [desk.file.append(event()) for _ in range(2)][-1]
    other = Desk(tmp_path / "other")
    for _ in range(3):
        other.file.append(event("Job.Resume"))
    assert findings(other, newest) == ("Entry 2 is another than the one the journal tells of.",)


def test_a_journal_that_is_older_than_the_oldest_file_says_nothing(tmp_path: Path) -> None:
    desk = Desk(tmp_path, max_bytes=1500, keep_days=1)
    first = desk.file.append(event())
    for _ in range(12):
        desk.now_us += DAY_US
        desk.file.append(event())
    assert findings(desk, first) == ()


@pytest.mark.parametrize("how", ["removed", "replaced", "appended to", "cut off"])
def test_what_is_done_to_it_while_p2vd_runs_has_an_entry_and_shows(desk: Desk, how: str) -> None:
    for _ in range(3):
        last = desk.file.append(event())
    data = desk.current.read_bytes()
    if how == "appended to":
        desk.current.write_bytes(data + b"mine\n")
    elif how == "cut off":
        desk.current.write_bytes(data.splitlines(keepends=True)[0])
    else:
        desk.current.unlink()
        if how == "replaced":
            desk.current.write_bytes(data.splitlines(keepends=True)[0])
    assert desk.file.append(event()).number > 4
    told = next(entry for entry in desk.entries() if entry.get("outcome") == "changed")
    assert told["arguments"] == {"last": 3, "last_hash": last.hash}
    if how == "appended to":
        assert next(desk.directory.glob("torn-*")).read_bytes() == b"mine\n"
        assert findings(desk) == ()
    else:
        assert findings(desk) != ()


@given(at=st.integers(0), bit=st.integers(0, 7))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bit_can_be_changed_unseen(tmp_path: Path, at: int, bit: int) -> None:
    desk = Desk(tmp_path / "desk")
    if not desk.current.exists():
        for _ in range(3):
            desk.file.append(event())
        (tmp_path / "whole").write_bytes(desk.current.read_bytes())
        newest = desk.told[-1][1]
        (tmp_path / "newest").write_text(f"{newest.number} {newest.hash}")
    number, last_hash = (tmp_path / "newest").read_text().split()
    data = bytearray((tmp_path / "whole").read_bytes())
    data[at % len(data)] ^= 1 << bit
    desk.current.write_bytes(data)
    assert findings(desk, Link(int(number), last_hash)) != ()


def test_many_findings_are_counted(desk: Desk) -> None:
    for _ in range(60):
        desk.file.append(event())
    desk.current.write_bytes(desk.current.read_bytes().replace(b"erp1", b"erp2"))
    assert findings(desk)[-1] == "And 40 more."


def test_counts_are_in_the_entry(desk: Desk) -> None:
    desk.file.append(replace(event(), times=7))
    assert desk.entries()[0]["times"] == 7
