"""p2vctl audit, receipt and remove against the face on a private bus."""

import json

import pytest

from p2vd.records.receipt import build_receipt
from tests.bus import values
from tests.bus.harness import Face
from tests.cli.conftest import Run
from tests.records.test_receipt import JOB as PROVEN_JOB


@pytest.fixture
def receipt(face: Face) -> dict[str, object]:
    receipt = build_receipt(PROVEN_JOB, {"p2vd": "0.1.0"})
    face.tell("receipt", receipt)
    return receipt


def test_the_audit_is_a_table_of_who_and_what(p2vctl: Run) -> None:
    p2vctl("migrate", values.PLAN_ID)
    p2vctl("migrate", "old")
    status, out, _ = p2vctl("audit")
    assert status == 0
    head, *lines = [" ".join(line.split()) for line in out.splitlines()]
    assert head == "ENTRY TIME WHO ABOUT WHAT"
    assert lines[0].startswith("1 2023-11-1")
    assert lines[0].endswith(f"uid 1234 - Manager.Migrate plan_id={values.PLAN_ID}")
    assert lines[1].endswith("- - Manager.Migrate of entry 1: answered")
    assert lines[3].endswith("- - Manager.Migrate of entry 3: PlanOutdated")


def test_the_audit_speaks_json(p2vctl: Run) -> None:
    p2vctl("reload")
    _, out, _ = p2vctl("audit", "--json")
    assert [entry["kind"] for entry in json.loads(out)] == ["asked", "ended"]


def test_the_audit_is_asked_for_a_disk_a_machine_and_a_time(p2vctl: Run, face: Face) -> None:
    status, out, _ = p2vctl("audit", "--wwid", "3600", "--machine", "erp1", "--since", "2026-10-01T00:00Z")
    assert (status, out) == (0, "The audit has no such entry.\n")
    assert face.tell("what_was_recorded")[-1] == ["search", "3600", "erp1", 1_790_812_800_000_000]


def test_a_time_that_is_none_is_a_wrong_command_line(p2vctl: Run) -> None:
    with pytest.raises(SystemExit) as caught:
        p2vctl("audit", "--since", "soon")
    assert caught.value.code == 2


def test_a_whole_audit_is_said_to_be(p2vctl: Run, face: Face) -> None:
    p2vctl("reload")
    face.tell("verify_slowly", 2)
    status, out, _ = p2vctl("audit", "verify")
    assert status == 0
    assert out.startswith("The audit is whole: 2 entries, 1 to 2. Its last hash: ")
    assert out.endswith("\nThe journal says 1.\n")


def test_a_changed_audit_has_an_exit_status(p2vctl: Run, face: Face) -> None:
    p2vctl("reload")
    face.tell("harm_the_audit", "Entry 1 was edited.")
    status, out, _ = p2vctl("audit", "verify")
    assert (status, out) == (6, "! Entry 1 was edited.\nThe journal says 1.\n")
    assert json.loads(p2vctl("audit", "verify", "--json")[1])["Findings"] == ["Entry 1 was edited."]


def test_a_receipt_is_a_page(p2vctl: Run, receipt: dict[str, object]) -> None:
    status, out, _ = p2vctl("receipt", "0c3e9cf6")
    assert status == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0] == f"Receipt of job {PROVEN_JOB.uuid}"
    for line in (
        "Machine web1 (7a1c6a0e-40a6-4f7e-8f6c-0f2f4c2d9a01)",
        "Source 36001405 (10 GiB, 512-byte sectors, iscsi)",
        "Target san/web1, thin in pool, 10 GiB",
        "Copied 6 GiB of data, 4 GiB of zeros",
        "Verified both, 10 GiB read",
        "Unchanged proven: the source, read again",
        "Unreadable 512 B in 1 places",
        f"Checksum {receipt['sha256']} (fits)",
    ):
        assert line in lines
    assert any(line.startswith("Offline declared by uid 1000, 2023-11-1") for line in lines)


def test_a_receipt_as_json_is_the_receipt(p2vctl: Run, receipt: dict[str, object]) -> None:
    assert json.loads(p2vctl("receipt", "36001405", "--json")[1]) == json.loads(json.dumps(receipt))


def test_receipts_are_listed(p2vctl: Run, receipt: dict[str, object], face: Face) -> None:
    face.tell("receipt", {**receipt, "job": values.JOB_UUID}, "it is torn, no whole JSON")
    _, out, _ = p2vctl("receipt")
    assert PROVEN_JOB.uuid in out
    assert out.splitlines()[-1] == f"{values.JOB_UUID}: it is torn, no whole JSON"
    assert len(json.loads(p2vctl("receipt", "--json")[1])) == 2


def test_a_damaged_receipt_is_said_to_be(p2vctl: Run, receipt: dict[str, object], face: Face) -> None:
    face.tell("receipt", receipt, "its own checksum does not fit: it was edited")
    status, out, err = p2vctl("receipt", "0c3e9cf6")
    assert (status, out) == (1, "")
    assert "cannot be trusted: its own checksum does not fit: it was edited" in err


def test_more_than_one_receipt_of_a_disk_asks_for_the_job(
    p2vctl: Run, receipt: dict[str, object], face: Face
) -> None:
    face.tell("receipt", {**receipt, "job": values.JOB_UUID})
    status, _, err = p2vctl("receipt", "36001405")
    assert status == 1
    assert f"There are 2 receipts of '36001405': {PROVEN_JOB.uuid}, {values.JOB_UUID}. Give the job." in err


def test_no_receipt_says_when_there_will_be_one(p2vctl: Run) -> None:
    assert "it is made when a job is proven" in p2vctl("receipt", "7c9e")[2]
    assert p2vctl("receipt")[1] == "There are no receipts: no job was proven yet.\n"


def test_a_finished_job_is_taken_off_the_list(p2vctl: Run, face: Face) -> None:
    p2vctl("migrate", values.PLAN_ID)
    assert p2vctl("remove", "7c9e")[0] == 1
    face.tell("stage", values.JOB_UUID, "cancelled")
    status, out, _ = p2vctl("remove", "erp1")
    assert status == 0
    assert out == "Job 7c9e6679 is no longer listed.\n"  # one that was cancelled has no receipt
    assert p2vctl("jobs")[1] == "There are no jobs.\n"


def test_a_job_that_was_proven_has_a_receipt_afterwards(p2vctl: Run, face: Face) -> None:
    p2vctl("migrate", values.PLAN_ID)
    face.tell("stage", values.JOB_UUID, "proven")
    face.tell("machine_state", values.MACHINE_UUID, "registered")
    assert p2vctl("remove", "erp1")[1].endswith("Its receipt: p2vctl receipt 7c9e6679\n")
