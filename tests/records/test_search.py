"""Which entries are found, page by page, while the file is written and changed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from p2vd.model.audit import AuditQuestion
from p2vd.records.search import search, verify
from tests.records.audit_desk import MACHINE, WWID, Desk, event

OTHER = "36001405b0000000000000000000000ff"


def never() -> bool:
    return False


def found(desk: Desk, **asked: object) -> list[int]:
    """The numbers of all entries, from page to page."""
    numbers, question = [], AuditQuestion(**asked)  # type: ignore[arg-type]
    while True:
        page = search(desk.directory, question, never)
        numbers += [json.loads(line)["number"] for line in page.lines]
        if not page.next:
            return numbers
        question = replace(question, after=page.next)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Six entries, every second of another disk, a second between any two; over three files."""
    desk = Desk(tmp_path, max_bytes=1200)
    for number in range(6):
        desk.now_us += 1_000_000
        wwid, name = (OTHER, "erp\u00f6") if number % 2 else (WWID, "erp1")
        desk.file.append(event(wwid=wwid, name=name))
    assert len(desk.names()) == 3
    return desk


def test_the_files_are_read_in_order(desk: Desk) -> None:
    assert found(desk) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("wwid", [OTHER, "36001405b"])
def test_a_wwid_or_its_beginning_finds(desk: Desk, wwid: str) -> None:
    assert found(desk, wwid=wwid) == [2, 4, 6]
    assert found(desk, wwid=OTHER[5:]) == []


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 200])
def test_pages_leave_nothing_out_and_give_nothing_twice(desk: Desk, limit: int) -> None:
    assert found(desk, limit=limit) == [1, 2, 3, 4, 5, 6]
    assert found(desk, limit=limit, wwid=OTHER) == [2, 4, 6]


def test_a_machine_is_found_by_its_name_in_any_script_and_by_its_uuid(desk: Desk) -> None:
    assert found(desk, machine="erp\u00f6") == [2, 4, 6]
    assert found(desk, machine="erp") == [], "a name is a name"
    assert found(desk, machine=MACHINE[:8]) == [1, 2, 3, 4, 5, 6]


def test_a_time_is_where_it_begins(desk: Desk) -> None:
    assert found(desk, since_us=desk.now_us - 1_500_000) == [5, 6]
    assert found(desk, since_us=desk.now_us + 1) == []


def test_a_page_that_takes_too_long_ends_and_the_next_goes_on(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    for _ in range(600):
        desk.file.append(event())
    page = search(desk.directory, AuditQuestion(wwid="nobody's"), lambda: True)
    assert (page.lines, page.next) == ((), 255)
    page = search(desk.directory, AuditQuestion(wwid="nobody's", after=page.next), lambda: True)
    assert page.next == 511
    assert search(desk.directory, AuditQuestion(wwid="nobody's", after=512), lambda: True).next == 0


def test_no_audit_yet_is_an_empty_one(tmp_path: Path) -> None:
    assert search(tmp_path, AuditQuestion(), never).lines == ()
    assert verify(tmp_path).findings == ()


def test_what_is_no_entry_is_passed_over(desk: Desk) -> None:
    desk.current.write_bytes(b"?\n" + desk.current.read_bytes() + b'{"torn')
    assert found(desk) == [1, 2, 3, 4, 5, 6]


def test_a_file_that_becomes_full_while_it_is_read_is_read_once(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.file.append(event())
    page = search(desk.directory, AuditQuestion(limit=1), never)
    desk.file.append(event())
    desk.current.rename(desk.directory / "audit-000000000001.jsonl")
    desk.restarted().append(event())
    assert len(page.lines) == 1
    assert found(desk, after=1) == [2, 3]
