"""What Tab offers: by the words before it, and by what is on the bus; asked in the shells themselves."""

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from p2vd.bus.names import PORTAL
from p2vd.cli import completion
from p2vd.cli.client import Object
from p2vd.cli.completion import ask, candidates
from p2vd.cli.main import build_parser, main
from tests.bus import values
from tests.bus.harness import PATIENCE_S, Face

ROOT = Path(__file__).parents[2]
COMPLETION = ROOT / "conf/completion"


def offered(*words: str, objects: Sequence[Object] = ()) -> list[str]:
    return [each.text for each in candidates(build_parser(), words, lambda _: objects)]


# -- the words that the parser knows ---------------------------------------------------------


def test_commands_come_first() -> None:
    assert {"sources", "plan", "migrate", "audit", "portals"} <= set(offered(""))
    assert offered("pl") == ["plan"]
    assert offered("sources-and") == []


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("--h",), ["--help", "--host"]),
        (("sources", "--"), ["--help", "--json", "--filter"]),
        (("sources", "--json", "--j"), []),
        (("sources", "--filter", "usable=no", "--f"), ["--filter"]),
        (("cancel", "x", "--remove"), ["--remove-target"]),
        (("portals", ""), ["list", "add", "remove", "rescan"]),
        (("portals", "add", "10.1.1.1", "--chap-user", "x", "--chap-user-"), ["--chap-user-in"]),
        (("portals", "add", "--chap-secret-file", ""), [":files"]),
        (("portals", "add", "--chap-secret-file", "/ro"), [":files"]),
        (("audit", ""), ["verify"]),
        (("audit", "verify", ""), []),
        (("--bus", "x", "wat"), ["watch"]),
        (("--bus=x", "wat"), ["watch"]),
        (("--bus", ""), []),
        (("plan", "--", "--s"), []),
        (("nonsense", ""), list(build_parser()._actions[-1].choices or ())),
    ],
)
def test_the_place_decides(words: tuple[str, ...], found: list[str]) -> None:
    assert offered(*words) == found


def test_every_command_of_the_parser_is_offered_with_what_it_does() -> None:
    for candidate in candidates(build_parser(), [""], lambda _: ()):
        assert candidate.meaning, candidate.text


# -- what is on the bus ----------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits here with a finger on the key, and the bus of a busy machine may take its second."""
    monkeypatch.setattr(completion, "_PATIENCE_S", PATIENCE_S)


def complete(bus_address: str, capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    assert main(["complete", "--", "--bus", bus_address, *words]) == 0
    return capsys.readouterr().out.splitlines()


def test_jobs_machines_disks_and_groups_are_known(
    bus_address: str, face: Face, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--bus", bus_address, "migrate", values.PLAN_ID])
    capsys.readouterr()
    assert complete(bus_address, capsys, "pause", "") == [
        f"{values.JOB_UUID}\terp1, planned",
        "erp1\tmachine, planned",
    ]
    assert complete(bus_address, capsys, "pause", "erp1", "7c") == [f"{values.JOB_UUID}\terp1, planned"]
    assert complete(bus_address, capsys, "plan", "36001405a") == [f"{values.WWID}\tmpatha, 10 GiB, iscsi"]
    assert complete(bus_address, capsys, "audit", "--wwid=36001405a") == [
        f"--wwid={values.WWID}\tmpatha, 10 GiB, iscsi"
    ]
    assert complete(bus_address, capsys, "audit", "--machine", "e") == ["erp1\tmachine, planned"]
    assert complete(bus_address, capsys, "show", "vg_") == ["vg_san\tvolume group, 40 GiB free"]
    assert complete(bus_address, capsys, "show", "vg_san", "") == []


def test_portals_are_known() -> None:
    portal = Object("/x", PORTAL, {"Id": "10.98.1.1:3260", "State": "connected"})
    assert offered("portals", "remove", "", objects=[portal]) == ["10.98.1.1:3260"]


def test_nothing_is_said_where_p2vd_is_away(bus_address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert complete(bus_address, capsys, "pause", "") == []
    assert ask("unix:path=/nowhere") == ()
    assert capsys.readouterr().err == ""


def test_another_host_is_not_asked() -> None:
    def never(_: str) -> Sequence[Object]:
        raise AssertionError("ssh would ask for a password")

    assert candidates(build_parser(), ["--host", "erp-san", "pause", ""], never) == []


# -- the shells ------------------------------------------------------------------------------


PROGRAM = f"""#!{sys.executable}
import sys

from p2vd.cli import completion
from p2vd.cli.main import main

completion._PATIENCE_S = {PATIENCE_S}
sys.exit(main())
"""


@pytest.fixture
def environment(bus_address: str, face: Face, tmp_path: Path) -> dict[str, str]:
    """A p2vctl on PATH that asks the test's daemon, which has a job."""
    program = tmp_path / "bin/p2vctl"
    program.parent.mkdir()
    program.write_text(PROGRAM)
    program.chmod(0o755)
    face.tell("add", values.JOB_UUID, values.MACHINE_UUID)
    return {
        **os.environ,
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "DBUS_SYSTEM_BUS_ADDRESS": bus_address,
        "HOME": str(tmp_path),
    }


LINES = [
    ("p2vctl rel", ["reload"]),
    ("p2vctl cancel --keep", ["--keep-target"]),
    ("p2vctl pause 7c", [values.JOB_UUID]),
    ("p2vctl plan 36001405a", [values.WWID]),
    ("p2vctl show vg", ["vg_san"]),
    ("p2vctl portals r", ["remove", "rescan"]),
    ("p2vctl jobs nothing", []),
]


def run(argv: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        argv, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(("line", "found"), LINES, ids=[line for line, _ in LINES])
def test_bash_completes(environment: dict[str, str], line: str, found: list[str]) -> None:
    assert in_bash(environment, line) == found


def in_bash(environment: dict[str, str], line: str, cwd: Path | None = None) -> list[str]:
    script = """
source "$1"; cd "$3"
COMP_LINE=$2 COMP_POINT=${#2}
_p2vctl
printf '%s\\n' "${COMPREPLY[@]}"
"""
    argv = ["bash", "-c", script, "bash", str(COMPLETION / "p2vctl.bash"), line, str(cwd or ROOT)]
    return run(argv, environment).split()


def test_bash_gets_only_what_follows_a_colon_or_an_equals_sign(environment: dict[str, str]) -> None:
    assert in_bash(environment, "p2vctl audit --wwid=36001405a") == [values.WWID]
    assert in_bash(environment, "p2vctl audit --wwid=36001405a --machine=e") == ["erp1"]


def test_bash_completes_files_where_a_file_is_wanted(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "secret").touch()
    line = "p2vctl portals add 10.1.1.1 --chap-secret-file sec"
    assert in_bash(environment, line, tmp_path) == ["secret"]


def test_bash_is_silent_where_p2vctl_is_not_there(environment: dict[str, str]) -> None:
    assert in_bash({**environment, "PATH": "/usr/bin:/bin"}, "p2vctl pause ") == []


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("p2vctl rel", "p2vctl reload "),
        ("p2vctl cancel --keep", "p2vctl cancel --keep-target "),
        ("p2vctl pause 7c", f"p2vctl pause {values.JOB_UUID} "),
        ("p2vctl show vg", "p2vctl show vg_san "),
        ("p2vctl portals r", "p2vctl portals re"),
        ("p2vctl jobs nothing", "p2vctl jobs nothing"),
    ],
)
def test_zsh_completes(environment: dict[str, str], tmp_path: Path, typed: str, line: str) -> None:
    """At a terminal: Tab, then a key that writes down what the line has become."""
    (tmp_path / "functions").mkdir()
    shutil.copy(COMPLETION / "p2vctl.zsh", tmp_path / "functions/_p2vctl")
    told = tmp_path / "line"
    setup = f"""
fpath=({tmp_path}/functions $fpath); autoload -Uz compinit; compinit -u -d {tmp_path}/dump
tell() {{ print -rn -- "$BUFFER" > {told}.part; mv {told}.part {told} }}
zle -N tell; bindkey '^T' tell; print set" "up
"""
    terminal, its_end = pty.openpty()
    zsh = subprocess.Popen(
        ["zsh", "-f", "-i"],
        stdin=its_end,
        stdout=its_end,
        stderr=its_end,
        env={**environment, "TERM": "dumb"},
        start_new_session=True,
    )
    os.close(its_end)
    try:
        os.write(terminal, setup.encode())
        seen = b""
        while b"set up" not in seen:
            seen += os.read(terminal, 4096)
        os.write(terminal, f"{typed}\t\x14".encode())
        deadline = time.monotonic() + PATIENCE_S
        while not told.exists():
            assert time.monotonic() < deadline, seen
            if select.select([terminal], [], [], 0.05)[0]:
                seen += os.read(terminal, 4096)
        assert told.read_text() == line
    finally:
        zsh.kill()
        zsh.wait()
        os.close(terminal)


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
@pytest.mark.parametrize(("line", "found"), LINES, ids=[line for line, _ in LINES])
def test_fish_completes(environment: dict[str, str], line: str, found: list[str]) -> None:
    script = f"source {COMPLETION / 'p2vctl.fish'}; complete -C {line!r}"
    answer = run(["fish", "--no-config", "-c", script], environment)
    assert [each.partition("\t")[0] for each in answer.splitlines()] == found
