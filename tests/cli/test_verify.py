"""p2vctl verify against the face on a private bus."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.bus import values
from tests.bus.harness import PATIENCE_S, Face
from tests.cli.conftest import Run
from tests.waiting import until

SHORT = values.JOB_UUID[:8]
RECEIPT = {
    "job": values.JOB_UUID,
    "source": {"id": values.WWID},
    "machine": {"name": "erp1", "uuid": values.MACHINE_UUID},
    "end_time_us": 5,
}


@pytest.fixture(autouse=True)
def _proven(face: Face) -> None:
    face.tell("add", values.JOB_UUID, values.MACHINE_UUID)
    face.tell("stage", values.JOB_UUID, "proven")
    face.tell("receipt", RECEIPT)


@contextmanager
def ending(face: Face, result: dict[str, Any]) -> Iterator[None]:
    """Have the verification that is begun meanwhile end so."""

    def end() -> None:
        until(
            lambda: any(asked[0] == "verify" for asked in face.tell("what_was_asked")),
            within_s=PATIENCE_S,
            every_s=0.05,
        )
        face.tell("end_verification", values.JOB_UUID, result)

    thread = threading.Thread(target=end)
    thread.start()
    yield
    thread.join()


@pytest.mark.parametrize("name", [SHORT, "erp1"])
@pytest.mark.parametrize(
    ("state", "status"), [("unchanged", 0), ("used-since", 6), ("differs", 5), ("failed", 1)]
)
def test_the_result_is_a_sentence_and_a_status(
    p2vctl: Run, face: Face, name: str, state: str, status: int
) -> None:
    with ending(face, {"state": state, "seen": "It was read."}):
        got, out, _ = p2vctl("verify", name)
    assert got == status
    assert out.splitlines() == [
        f"Being verified: {SHORT}. The volumes are only read.",
        f"Job {SHORT}: {state}. It was read.",
    ]


def test_json_has_what_the_bus_has(p2vctl: Run, face: Face) -> None:
    with ending(face, {"state": "differs", "differing": [[1048576, 1048576]]}):
        status, out, _ = p2vctl("verify", SHORT, "--json")
    (one,) = json.loads(out)
    assert (status, one["Job"], one["State"], one["Differing"]) == (
        5,
        values.JOB_UUID,
        "differs",
        [[1048576, 1048576]],
    )


def test_it_can_go_on_by_itself(p2vctl: Run) -> None:
    status, out, _ = p2vctl("verify", SHORT, "--no-wait")
    assert (status, out) == (
        0,
        f"Job {SHORT} is being verified. The result: p2vctl receipt {SHORT}\n",
    )
    assert "running" in p2vctl("show", SHORT)[1]


def test_a_job_that_left_the_bus_is_found_by_its_receipt(p2vctl: Run, face: Face) -> None:
    face.tell("forget", values.JOB_UUID)
    status, out, _ = p2vctl("verify", values.WWID)
    assert status == 1
    assert out.splitlines()[-1].startswith(f"Job {SHORT}: failed. There is no job")  # the fake's word


@pytest.mark.parametrize("name", ["erp1", values.MACHINE_UUID[:8]])
def test_of_a_machine_the_jobs_that_left_the_bus_are_found_too(p2vctl: Run, face: Face, name: str) -> None:
    face.tell("forget", values.JOB_UUID)
    of_another = {**RECEIPT, "job": "another", "machine": {"name": "erp1", "uuid": "an earlier one"}}
    face.tell("receipt", of_another)
    status, out, _ = p2vctl("verify", name)
    assert status == 1
    assert [line.partition(":")[0] for line in out.splitlines()] == [f"Job {SHORT}"]


def test_a_machine_of_which_nothing_is_proven_is_no_success(p2vctl: Run, face: Face) -> None:
    face.tell("forget", values.JOB_UUID)
    face.tell("receipt", {**RECEIPT, "machine": {"name": "web1", "uuid": "web1"}})
    assert p2vctl("verify", "erp1") == (
        1,
        "",
        "p2vctl: Of erp1 there is nothing to verify: none of its jobs has a receipt. All: p2vctl receipt\n",
    )


def test_what_is_nothing_is_said(p2vctl: Run) -> None:
    status, _, err = p2vctl("verify", "nothing")
    assert status == 1
    assert "There is no job or machine 'nothing'" in err


def test_records_stand_below_the_receipt(p2vctl: Run, face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    face.tell("end_verification", values.JOB_UUID, {"state": "unchanged", "seen": "It is the same."})
    monkeypatch.setattr("p2vd.cli.render_records.receipt", lambda page: f"Receipt of {page['job']}")
    _, out, _ = p2vctl("receipt", SHORT)
    lines = out.splitlines()
    assert lines[:2] == [f"Receipt of {values.JOB_UUID}", ""]
    assert lines[2] == "Verified again"
    assert lines[3].endswith(", by uid 0: unchanged")
    assert lines[4].strip() == "It is the same."
    assert "Verified again: unchanged\nIt is the same." in p2vctl("show", SHORT)[1]
