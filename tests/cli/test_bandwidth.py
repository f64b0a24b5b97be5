"""p2vctl bandwidth against the face on a private bus."""

import json

import pytest

from p2vd.cli.client import Exit
from tests.bus import values
from tests.bus.harness import Face
from tests.cli.conftest import Run

RUNNING = {"rate_bytes_per_s": 90 << 20, "read_latency_us": 4000, "bytes_copied": 1 << 30}


@pytest.fixture
def copying(p2vctl: Run, face: Face) -> None:
    p2vctl("migrate", values.PLAN_ID)
    face.tell("stage", values.JOB_UUID, "copying")
    face.tell("progress", values.JOB_UUID, RUNNING)


def test_it_tells_the_total_and_what_each_copy_has(p2vctl: Run, copying: None) -> None:
    assert p2vctl("bandwidth") == (
        Exit.OK,
        "All copies together: no limit.\n\n"
        "JOB       MACHINE  RATE      MAY READ  LATENCY  WHY\n"
        f"{values.JOB_UUID[:8]}  erp1     90 MiB/s  no limit  4 ms\n",
        "",
    )


def test_the_total_is_changed_and_told(p2vctl: Run, copying: None, face: Face) -> None:
    status, out, _ = p2vctl("bandwidth", "200MiB")
    assert status == Exit.OK
    assert "All copies together: 200 MiB/s." in out
    assert "100 MiB/s  4 ms     Its share of 200 MiB/s, which 2 copies share." in out
    assert face.tell("what_was_asked")[-1] == ["set_total", 200 << 20]
    p2vctl("bandwidth", "none")
    assert face.tell("what_was_asked")[-1] == ["set_total", 0]


def test_of_a_job_or_a_machine_its_own_limit_is_changed(p2vctl: Run, copying: None, face: Face) -> None:
    for name in (values.JOB_UUID[:8], "erp1"):
        assert p2vctl("bandwidth", "50MiB/s", name)[0] == Exit.OK
        assert face.tell("what_was_asked")[-1] == ["set_bandwidth", values.JOB_UUID, 50 << 20]


def test_json_has_bytes(p2vctl: Run, copying: None) -> None:
    p2vctl("bandwidth", "200MiB")
    told = json.loads(p2vctl("bandwidth", "--json")[1])
    assert told["Total"] == 200 << 20
    assert [job["Bandwidth"] for job in told["Jobs"]] == [100 << 20]


def test_a_job_that_has_ended_has_no_bandwidth(p2vctl: Run, copying: None, face: Face) -> None:
    face.tell("stage", values.JOB_UUID, "proven")
    assert p2vctl("bandwidth", "50MiB", "erp1") == (
        Exit.REFUSED,
        "",
        "p2vctl: None of these copies any more. See: p2vctl jobs\n",
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0", "to have no limit, write none"),
        ("fast", "'fast' is not a size; write it as 10 GiB"),
        ("-5", "'-5' is not a size"),
        ("99999999999TiB", "is no limit that a copy comes to: write none"),
    ],
)
def test_what_is_no_rate_is_refused_and_said_why(
    p2vctl: Run, text: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        p2vctl("bandwidth", text)
    err = capsys.readouterr().err
    assert "SIZE|none" in err
    assert said in err


def test_a_copy_that_is_slowed_down_is_told_in_the_list_of_jobs(
    p2vctl: Run, copying: None, face: Face
) -> None:
    slow = {**RUNNING, "read_latency_us": 84_000, "slowed_bytes_per_s": 12 << 20}
    face.tell("progress", values.JOB_UUID, slow)
    said = "Slowed down to 12 MiB/s, because its source answers late: a read takes 84 ms"
    assert f"{values.JOB_UUID[:8]}: {said}" in p2vctl("jobs")[1]
    assert "84 ms" in p2vctl("show", "erp1")[1]
    assert said in p2vctl("bandwidth")[1]
