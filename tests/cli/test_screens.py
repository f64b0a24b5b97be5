"""Every screen of p2vctl, of a simulated SAN, in terminals of 80 and of 200 columns, and in a pipe."""

import io
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2vd.cli.main import build_parser, main
from tests.bus.harness import Client
from tests.sim.harness import Simulated
from tests.sim.test_end_to_end import looked_at, usable

SCRIPT = """
[[luns]]
count = 5
size = "96 MiB"

[[luns]]
count = 1
size = "1 GiB"
transport = "fc"

[[volume_group]]
name = "vg_san"
size = "16 GiB"
pool = { name = "pool0", size = "8 GiB" }

[speed]
copy = "400 MiB"
verify = "800 MiB"
"""
RECORD = {
    "name": "erp1",
    "memory_bytes": 64 << 30,
    "disks": [{"name": "sda", "size_bytes": 96 << 20, "wwid": "3" * 33, "model": "A disk of some length"}],
    "nics": [{"name": "ens1f0", "mac": "3c:fd:fe:00:00:01", "addresses": ["10.1.2.3/24", "fd00::1/64"]}],
}
LONG = "web-frontend-01.production.example.org"

# What is typed; {source}, {job} are ids. The place of each command of the parser is one of these, or below.
SCREENS = (
    *("sources", "sources --filter transport=fc", "vgs", "fabric", "jobs", "doctor", "receipt", "audit"),
    *("audit verify", "portals list", "portals rescan", "machine list", "machine show erp1", "policy show"),
    *("policy explain {source}", "show {source}", "show {job}", "show erp1", f"show {LONG}", "show vg_san"),
    *("receipt {job}", "plan {source} --source-offline --name other", "plan {source} --name other"),
    *("plan {source} {source2} --source-offline --name two", "show nothing", "verify {job}", "rescan"),
    *("machine diff erp1 erp1", "policy check", "reload", "boot-test erp1", "watch erp1", "migrate nothing"),
    *(
        "pause erp1",
        "resume erp1",
        "retry erp1",
        "cancel erp1 --keep-target",
        "cutover erp1",
        "remove {job2}",
    ),
    *("bandwidth", "bandwidth 1GiB", "bandwidth none", "waves", "report --since 1h"),
    *("portals remove 192.0.2.99", "portals add nothing", "machine remove nobody", "rollback nobody"),
    *("machine import /nowhere", "accept nobody --yes", "export erp1 --format vmdk --directory /srv"),
    *("support-bundle --output /nowhere/x", "machine guess {source}", "machine collect --output /nowhere/x"),
)
VERBATIM = ("export", "machine guess", "machine collect")
"""For programs, or to be run: as it is, however wide."""


class Terminal(io.StringIO):
    """Standard output and error that say they are one."""

    def isatty(self) -> bool:
        return True


class San:
    """A daemon that has done some work, and the ids of what is there."""

    def __init__(self, address: str, luns: list[str]) -> None:
        self.address = address
        for name, count in (("erp1", 2), (LONG, 1)):
            mine = " ".join(luns.pop() for _ in range(count))
            page = json.loads(self.typed(f"plan {mine} --source-offline --name {name} --json")[1])
            assert self.typed(f"migrate {page['Id']} --wait --json")[0] == 0
        jobs = [job["Uuid"] for job in json.loads(self.typed("jobs --json")[1])]
        self.ids = {"source": luns[0], "source2": luns[1], "job": jobs[0], "job2": jobs[2]}

    def typed(self, line: str, width: int | None = None) -> tuple[int, str]:
        """What p2vctl prints for a line that is typed in a terminal so wide; None: into a pipe."""
        words = line.format(**getattr(self, "ids", {})).split()
        before, columns = (sys.stdout, sys.stderr), os.environ.get("COLUMNS")
        out: io.StringIO = io.StringIO() if width is None else Terminal()
        sys.stdout = sys.stderr = out
        os.environ["COLUMNS"] = str(width or 80)
        try:
            status = main(["--bus", self.address, *words])
        finally:
            sys.stdout, sys.stderr = before
            os.environ.pop("COLUMNS")
            if columns is not None:
                os.environ["COLUMNS"] = columns
        return status, out.getvalue()


@pytest.fixture(scope="module")
def san(bus_address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[San]:
    state = tmp_path_factory.mktemp("screens") / "state"
    client = Client(bus_address)
    with Simulated(bus_address, state, SCRIPT) as daemon:
        daemon.await_ready(client)
        san = San(bus_address, usable(client, "iscsi"))
        record = state / "erp1.json"
        record.write_text(json.dumps(RECORD))
        status, said = san.typed(f"machine import {record}")
        assert status == 0, said
        san.typed("portals add 192.0.2.99")  # which settles without success: from now on nothing changes
        looked_at(client)
        yield san
    client.close()


def plain(text: str) -> list[str]:
    """The lines of a screen as one sees them: what steers the terminal is gone."""
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    return [part for line in shown.split("\n") for part in line.split("\r")]


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("line", [line for line in SCREENS if not line.startswith(VERBATIM)])
def test_no_line_is_wider_than_the_terminal(san: San, line: str, width: int) -> None:
    _, text = san.typed(line, width)
    assert "Traceback" not in text
    assert text.strip()
    assert [each for each in plain(text) if len(each.rstrip()) > width] == []


@pytest.mark.parametrize("line", [line for line in SCREENS if line.startswith(VERBATIM)])
def test_what_is_for_programs_is_the_same_everywhere(san: San, line: str) -> None:
    assert san.typed(line, 80) == san.typed(line)


@pytest.mark.parametrize("line", ["sources", "vgs", "jobs", "receipt", "machine list", "show {job}"])
def test_nothing_is_lost_by_folding(san: San, line: str) -> None:
    """Every id and word of the wide screen is on the narrow one, whole."""
    wide, narrow = san.typed(line)[1].split(), san.typed(line, 80)[1].split()
    assert sorted(set(wide) - {"-"}) == sorted(set(narrow) - {"-"})


@pytest.mark.parametrize("line", ["sources", "jobs", "receipt"])
def test_in_a_pipe_a_row_is_a_line(san: San, line: str) -> None:
    head, *rows = san.typed(line)[1].split("\n\n")[0].splitlines()
    assert len(rows) == len(json.loads(san.typed(f"{line} --json")[1])) > 1
    assert len(head) > 80


def test_json_is_never_folded(san: San) -> None:
    assert san.typed("sources --json", 80) == san.typed("sources --json")


def test_every_command_is_among_the_screens() -> None:
    """A command that is added is looked at, too."""
    typed = {line.split()[0] for line in SCREENS}
    assert typed == set(build_parser()._actions[-1].choices or ())


# -- colours ---------------------------------------------------------------------------------


def seen(address: str, **environment: str) -> str:
    """All that `watch` writes to a terminal that could show any colour."""
    terminal, its_end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "p2vd.cli.main", "--bus", address, "watch", "erp1"],
        stdin=its_end,
        stdout=its_end,
        stderr=its_end,
        env={
            **os.environ,
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
            "COLUMNS": "80",
            **environment,
        },
        cwd=Path(__file__).parents[2],
    )
    os.close(its_end)
    text = b""
    while True:
        try:
            more = os.read(terminal, 65536)
        except OSError:  # Linux's way to say that the other end is closed
            break
        if not more:
            break
        text += more
    process.wait()
    os.close(terminal)
    return text.decode()


def colours(text: str) -> set[str]:
    """The parameters of all SGR sequences that are about colours."""
    found = {code for codes in re.findall(r"\x1b\[([0-9;]*)m", text) for code in codes.split(";")}
    return {code for code in found if code.isdigit() and (int(code) >= 90 or 30 <= int(code) < 50)}


BASIC = {str(code) for first in (30, 40, 90, 100) for code in range(first, first + 8)} | {"39", "49"}


def test_only_the_terminals_own_colours_are_used(san: San) -> None:
    text = seen(san.address)
    assert "proven" in text
    found = colours(text)
    assert found
    assert found <= BASIC  # 38 and 48 begin a colour of 256 or more
    assert [line for line in plain(text) if len(line.rstrip()) > 80] == []


def test_no_color_is_honoured(san: San) -> None:
    text = seen(san.address, NO_COLOR="1")
    assert "proven" in text
    assert colours(text) == set()


@pytest.mark.parametrize("line", ["sources", "jobs", "doctor", "show erp1"])
def test_tables_have_no_colour_at_all(san: San, line: str) -> None:
    assert "\x1b" not in san.typed(line, 80)[1]
