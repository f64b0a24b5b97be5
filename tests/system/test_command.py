"""The door to commands, with real small processes and a stand-in for systemd-run."""

import os
import stat
import sys
from pathlib import Path

import pytest

from p2vd.system.command import ChangeUnknown, CommandFailed, CommandTimedOut, SystemCommands, command_line
from tests.waiting import until_ended


@pytest.fixture
def commands(tmp_path: Path) -> SystemCommands:
    """Commands whose systemd-run only notes its options and runs the rest."""
    script = tmp_path / "systemd-run"
    script.write_text(
        '#!/bin/sh\nwhile [ "$1" != "--" ]; do echo "$1" >> "$0.options"; shift; done; shift\nexec "$@"\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return SystemCommands(systemd_run=str(script))


def test_query_returns_output_in_the_c_locale(commands: SystemCommands) -> None:
    result = commands.query(["sh", "-c", "echo $LC_ALL; echo oops >&2; cat"])
    assert (result.stdout, result.stderr, result.returncode) == ("C\n", "oops\n", 0)


def test_query_survives_bad_utf8(commands: SystemCommands) -> None:
    assert commands.query(["printf", r"a\377b"]).stdout == "a\ufffdb"


def test_query_failure_names_command_and_stderr(commands: SystemCommands) -> None:
    with pytest.raises(CommandFailed) as caught:
        commands.query(["sh", "-c", "echo no such VG >&2; exit 5"])
    assert caught.value.returncode == 5
    assert "no such VG" in str(caught.value)
    assert "sh -c" in str(caught.value)


def test_query_accepts_other_exit_codes(commands: SystemCommands) -> None:
    assert commands.query(["sh", "-c", "exit 3"], ok=(0, 3)).returncode == 3


def test_query_of_a_missing_program_fails_as_command(commands: SystemCommands) -> None:
    with pytest.raises(CommandFailed, match="/no/such/program"):
        commands.query(["/no/such/program"])


def test_query_kills_its_whole_family_at_the_timeout(commands: SystemCommands, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with pytest.raises(CommandTimedOut, match="no answer"):
        commands.query(["sh", "-c", f"sleep 600 & echo $! > {pid_file}; wait"], timeout_s=2)
    child = int(pid_file.read_text())
    until_ended(child)


def test_change_runs_in_a_unit_that_nothing_kills(commands: SystemCommands, tmp_path: Path) -> None:
    result = commands.change(["sh", "-c", "echo done; echo warned >&2"], unit="lvcreate-1")
    assert (result.stdout, result.stderr) == ("done\n", "warned\n")
    options = (tmp_path / "systemd-run.options").read_text().split()
    assert "--unit=p2vd-change-lvcreate-1.service" in options
    assert {"--wait", "--pipe", "--collect", "--property=SendSIGKILL=no"} <= set(options)


def test_change_may_have_properties_of_its_own(commands: SystemCommands, tmp_path: Path) -> None:
    commands.change(["true"], unit="x", properties=("BindReadOnlyPaths=/run/a:/etc/b",))
    options = (tmp_path / "systemd-run.options").read_text().split()
    assert {"--property=SendSIGKILL=no", "--property=BindReadOnlyPaths=/run/a:/etc/b"} <= set(options)


def test_change_keeps_dollars(commands: SystemCommands) -> None:
    # The stand-in does not expand as systemd does, which makes one dollar of two.
    assert commands.change(["printf", "%s", "a$HOME"], unit="x").stdout == "a$$HOME"


def test_change_past_its_deadline_is_reported_once_and_awaited(
    commands: SystemCommands, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    late: list[str] = []

    def on_late(unit: str) -> None:
        late.append(unit)
        gate.write_text("go on")

    result = commands.change(["cat", str(gate)], unit="slow", deadline_s=0.05, on_late=on_late)
    assert late == ["slow"]
    assert result.stdout == "go on"


def test_change_failure_keeps_stderr(commands: SystemCommands) -> None:
    with pytest.raises(CommandFailed, match="pool is full"):
        commands.change(["sh", "-c", "echo pool is full >&2; exit 5"], unit="x")


def test_change_whose_launcher_dies_has_no_known_outcome(commands: SystemCommands) -> None:
    with pytest.raises(ChangeUnknown, match="unknown"):
        commands.change([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], unit="x")


def test_change_refuses_a_name_that_is_none(commands: SystemCommands) -> None:
    with pytest.raises(ValueError, match="no name for a unit"):
        commands.change(["true"], unit="a/b c")


def test_running_changes_reads_systemd(tmp_path: Path) -> None:
    script = tmp_path / "systemctl"
    script.write_text('#!/bin/sh\necho \'[{"unit":"p2vd-change-lvcreate-1.service","active":"active"}]\'\n')
    script.chmod(0o755)
    assert SystemCommands(systemctl=str(script)).running_changes() == {"lvcreate-1"}


def test_a_long_device_list_is_cut() -> None:
    assert len(command_line(["pvs", "--devices", "x" * 9000])) < 300
