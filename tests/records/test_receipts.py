"""Receipts are found when their job is long gone, and shown only where they are whole."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from p2vd.model.errors import NotFound
from p2vd.records.receipt import write_receipt
from p2vd.records.receipts import ReceiptDamaged, find_receipts, read_receipt
from tests.records.test_receipt import JOB

OTHER = "1111cf6e-8f3f-4c6e-9a55-3a0f7b6b1c11"


@pytest.fixture
def jobs(tmp_path: Path) -> Path:
    """Two receipts of one disk, the later of another machine; a job without one; a file that is none."""
    jobs = tmp_path / "jobs"
    write_receipt(JOB, jobs / JOB.uuid)
    later = replace(
        JOB, uuid=OTHER, end_time_us=JOB.end_time_us + 1, plan=replace(JOB.plan, machine_name="web2")
    )
    write_receipt(later, jobs / OTHER)
    (jobs / "not-proven").mkdir()
    (jobs / "stray").write_text("")
    return jobs


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", [JOB.uuid, OTHER]),
        ("0c3e", [JOB.uuid]),
        (OTHER, [OTHER]),
        ("36001405", [JOB.uuid, OTHER]),
        ("3600", [JOB.uuid, OTHER]),
        ("web2", [OTHER]),
        ("web", []),
        ("nobody", []),
    ],
)
def test_they_are_found_by_job_disk_and_machine_oldest_first(jobs: Path, text: str, found: list[str]) -> None:
    assert [note.job for note in find_receipts(jobs, text)] == found


def test_before_the_first_job_there_are_none(tmp_path: Path) -> None:
    assert find_receipts(tmp_path / "jobs", "") == ()


def test_one_is_read_as_it_was_written(jobs: Path) -> None:
    assert read_receipt(jobs, JOB.uuid) == (jobs / JOB.uuid / "receipt.json").read_text()


@pytest.mark.parametrize(
    "uuid", ["not-proven", "none", "", ".", "..", "../jobs/" + JOB.uuid, "/etc", "x" * 300]
)
def test_what_is_no_job_with_one_has_none(jobs: Path, uuid: str) -> None:
    with pytest.raises(NotFound):
        read_receipt(jobs, uuid)


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        (lambda text: text.replace("san", "sun"), "its own checksum does not fit: it was edited"),
        (lambda text: text[:100], "it is torn, no whole JSON"),
        (lambda _: "", "it is torn, no whole JSON"),
        (lambda _: "[]", "its own checksum does not fit: it was edited"),
    ],
    ids=["edited", "torn", "empty", "another thing"],
)
def test_a_damaged_one_is_said_to_be(jobs: Path, harm: Callable[[str], str], problem: str) -> None:
    path = jobs / JOB.uuid / "receipt.json"
    path.write_text(harm(path.read_text()))
    with pytest.raises(ReceiptDamaged) as caught:
        read_receipt(jobs, JOB.uuid)
    assert (caught.value.path, caught.value.problem) == (str(path), problem)
    (note,) = find_receipts(jobs, JOB.uuid)
    assert (note.job, note.source, note.problem) == (JOB.uuid, "", problem)


def test_that_of_another_job_is_no_receipt_of_this(jobs: Path) -> None:
    other = (jobs / OTHER / "receipt.json").read_bytes()
    (jobs / JOB.uuid / "receipt.json").write_bytes(other)
    with pytest.raises(ReceiptDamaged, match=f"it is that of job {OTHER}"):
        read_receipt(jobs, JOB.uuid)


def test_the_text_is_json_for_anybody(jobs: Path) -> None:
    assert json.loads(read_receipt(jobs, OTHER))["machine"]["name"] == "web2"
