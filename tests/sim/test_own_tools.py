"""What the README tells authors of tools to type, typed exactly so, against the simulation."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bus.harness import PATIENCE_S, Client
from tests.sim.conftest import Start
from tests.sim.test_end_to_end import usable

README = Path(__file__).parents[2] / "README.md"
SECTION = README.read_text().partition("## From your own tools\n")[2].partition("\n## ")[0]
BLOCKS = [
    "\n".join(line[4:] for line in block.splitlines())
    for block in re.findall(r"(?:^(?: {4}.*)?\n)+", SECTION, re.MULTILINE)
    if block.strip()
]
TYPED = [
    (lines[0].removeprefix("$ "), lines[1:])
    for block in BLOCKS
    for part in re.split(r"^(?=\$ )", block, flags=re.MULTILINE)
    if (lines := part.strip().splitlines()) and lines[0].startswith("$ ")
]
(PROGRAM,) = (block for block in BLOCKS if "import dbus" in block)


def run(address: str, *argv: str) -> subprocess.CompletedProcess[str]:
    # The system bus of whoever runs it is the private one: the words stay as they are printed.
    environment = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": address, "LC_ALL": "C.UTF-8"}
    return subprocess.run(
        argv, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )


def test_the_three_tools_are_there() -> None:
    assert {line.split()[0] for line, _ in TYPED} == {"busctl", "gdbus"}
    assert len(TYPED) == SECTION.count("    $ ")


@pytest.mark.parametrize(("line", "printed"), TYPED, ids=[line for line, _ in TYPED])
def test_it_works_as_printed(start: Start, bus_address: str, line: str, printed: list[str]) -> None:
    tool = line.split()[0]
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    start()
    done = run(bus_address, "bash", "-c", line)
    if printed:
        assert done.stderr.splitlines()[: len(printed)] == printed
        assert done.returncode != 0
    else:
        assert done.stderr == ""
        assert done.returncode == 0


def test_the_program_migrates_a_disk(start: Start, client: Client, bus_address: str) -> None:
    daemon = start()
    assert usable(client)
    done = run(bus_address, sys.executable, "-c", PROGRAM)
    assert done.stderr == ""
    steps, domain = done.stdout.splitlines()[:-1], done.stdout.splitlines()[-1]
    assert any("Create the thin volume vg_san/erp1" in step for step in steps)
    assert daemon.tell("domains") == [domain]


def test_the_program_says_an_error_by_its_name(start: Start, client: Client, bus_address: str) -> None:
    start()
    assert usable(client)
    broken = PROGRAM.replace('"source-offline": True, ', "")
    assert broken != PROGRAM
    done = run(bus_address, sys.executable, "-c", broken)
    assert done.returncode == 1
    assert done.stderr.startswith("org.p2vd1.Error.Refused: ")
