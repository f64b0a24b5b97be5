"""Who may what: the table of p2vctl(1) is true of the commands, and `jobs` is everybody's."""

import json
import re
from pathlib import Path

import pytest

from p2vd.bus.names import ACTION_INSPECT, ACTIONS
from tests.bus import values
from tests.bus.harness import Face
from tests.cli.conftest import Run

MANUAL = Path(__file__).resolve().parents[2] / "units/p2vctl.1.md"
ROWS = re.findall(r"^\| (`org\.[\w.-]+`|none) \| ([^|]*) \|", MANUAL.read_text(), re.MULTILINE)
ARGUMENTS = {
    "show": [values.WWID],
    "policy explain": [values.WWID],
    "plan": [values.WWID, "--source-offline"],
    "machine guess": [values.WWID],
    "receipt": [values.JOB_UUID],
    "cutover": [values.MACHINE_UUID, "--dry-run"],
}
NOT_HERE = {
    *("watch", "support-bundle"),  # without an end; of root alone, and asks the host
    *("policy check", "machine show", "machine diff", "machine collect"),  # want a file, or a record
    "export",  # wants a machine whose disks are proven
}


def commands(action: str) -> list[str]:
    """The commands that the table has for `action`, but those that are not tried here."""
    (cell,) = (cell for name, cell in ROWS if name.strip("`") == action)
    return [name for name in re.findall(r"\*\*([a-z -]+)\*\*", cell) if name not in NOT_HERE]


def test_the_table_has_every_action() -> None:
    assert [name.strip("`") for name, _ in ROWS] == ["none", *ACTIONS]


@pytest.mark.parametrize("command", commands("none"))
def test_what_is_free_asks_nobody(p2vctl: Run, face: Face, command: str) -> None:
    p2vctl("migrate", values.PLAN_ID)
    for action in ACTIONS:
        face.tell("deny", action)
    assert p2vctl(*command.split(), *ARGUMENTS.get(command, ()))[0] == 0


@pytest.mark.parametrize("command", commands(ACTION_INSPECT))
def test_what_wants_inspect_is_refused_without(p2vctl: Run, face: Face, command: str) -> None:
    p2vctl("migrate", values.PLAN_ID)
    face.tell("deny", ACTION_INSPECT)
    assert p2vctl(*command.split(), *ARGUMENTS.get(command, ()))[0] == 4


def test_jobs_without_the_right_to_see_waves(p2vctl: Run, face: Face) -> None:
    p2vctl("migrate", values.PLAN_ID)
    face.tell("deny", ACTION_INSPECT)
    status, out, err = p2vctl("jobs")
    assert (status, err) == (0, "")
    assert values.JOB_UUID[:8] in out
    assert out.splitlines()[-1] == (
        "Waves are not shown: they want the polkit action org.p2vd1.inspect. See: p2vctl waves"
    )
    assert [ACTION_INSPECT, False] in face.tell("what_was_decided")  # and nobody was asked for a password
    assert json.loads(p2vctl("jobs", "--json")[1])
