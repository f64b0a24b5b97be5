"""Where p2vctl writes to, and what it cannot hand on: p2vctl in a process of its own."""

import os
import subprocess
import sys

import pytest

from tests.bus import values
from tests.bus.harness import Face
from tests.cli.conftest import Run


def typed(line: str, bus: str) -> subprocess.CompletedProcess[str]:
    """What a shell makes of a line in which `p2vctl` is this one."""
    p2vctl = f"p2vctl() {{ {sys.executable} -m p2vd.cli.main --bus '{bus}' \"$@\"; }}"
    return subprocess.run(
        ["/bin/bash", "-c", f"{p2vctl}\n{line}"], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("command", ["sources", "sources --json", "policy show --json"])
def test_a_full_disk_is_a_sentence_and_no_success(bus_address: str, face: Face, command: str) -> None:
    ended = typed(f"p2vctl {command} > /dev/full", bus_address)
    assert ended.returncode == 1
    assert ended.stderr == "p2vctl: The answer could not be written: No space left on device.\n"


def test_errors_that_nobody_can_be_told_keep_their_status(bus_address: str, face: Face) -> None:
    ended = typed("p2vctl show nothing 2> /dev/full", bus_address)
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", "")


def test_an_output_that_is_closed_is_no_error(bus_address: str, face: Face) -> None:
    ended = typed("p2vctl sources >&-", bus_address)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_reader_that_is_gone_does_not_make_a_failure_a_success(bus_address: str, face: Face) -> None:
    ended = typed("p2vctl show nothing 2>&1 >/dev/null | true; exit ${PIPESTATUS[0]}", bus_address)
    assert ended.returncode == 1


@pytest.mark.parametrize(
    "arguments", [("plan", "{}"), ("migrate", "{}"), ("receipt", "{}"), ("plan", "x", "--name", "{}")]
)
def test_a_name_that_is_not_utf8_is_refused(p2vctl: Run, arguments: tuple[str, ...]) -> None:
    name = os.fsdecode(b"web\xff")
    status, _, err = p2vctl(*(word.format(name) for word in arguments))
    assert status == 2
    assert "is not UTF-8, and p2vd knows nothing of such a name" in err


@pytest.mark.parametrize("command", ["pause", "resume", "retry", "remove", "cancel --keep-target"])
def test_a_typing_error_is_found_before_anything_is_done(p2vctl: Run, face: Face, command: str) -> None:
    p2vctl("migrate", values.PLAN_ID)
    asked = face.tell("what_was_asked")
    status, out, err = p2vctl(*command.split(), "erp1", "erp11")
    assert (status, out) == (1, "")
    assert "There is no job or machine 'erp11'" in err
    assert face.tell("what_was_asked") == asked
