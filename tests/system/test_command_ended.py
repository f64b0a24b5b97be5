"""A change that a signal ends is no success where its exit is believed: for systemd it has ended cleanly."""

import sys
from pathlib import Path

import pytest

from p2vd.system.command import CommandFailed, SystemCommands

# As systemd does with a service of Type=simple: `$$` is one dollar, these signals are a clean end, and of
# the others systemd-run says 255 (run.c, service.c).
SYSTEMD_RUN = f"""#!{sys.executable}
import signal, subprocess, sys
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_DFL)  # whoever runs the tests may ignore them (nohup)
words = [word.replace("$$", "$") for word in sys.argv[sys.argv.index("--") + 1 :]]
status = subprocess.run(words).returncode
sys.exit(0 if -status in (1, 2, 13, 15) else 255 if status < 0 else status)
"""


@pytest.fixture
def commands(tmp_path: Path) -> SystemCommands:
    script = tmp_path / "systemd-run"
    script.write_text(SYSTEMD_RUN)
    script.chmod(0o755)
    return SystemCommands(systemd_run=str(script))


@pytest.mark.parametrize("whom", ["$$", "$PPID"], ids=["the command", "the shell before it"])
@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "KILL"])
def test_an_end_by_a_signal_is_a_failure(commands: SystemCommands, whom: str, name: str) -> None:
    with pytest.raises(CommandFailed) as caught:
        commands.change(["sh", "-c", f"echo half; kill -s {name} {whom}"], unit="x", must_exit=True)
    assert caught.value.returncode != 0
    assert caught.value.argv[0] == "sh"


def test_it_says_so(commands: SystemCommands) -> None:
    with pytest.raises(CommandFailed, match=r"failed with exit status 255: half It was ended by a signal"):
        commands.change(["sh", "-c", "echo half >&2; kill -s TERM $PPID"], unit="x", must_exit=True)


def test_what_exits_is_as_it_is_without(commands: SystemCommands) -> None:
    argv = ["sh", "-c", 'printf "%s" "$1"; echo y >&2', "sh", "a  b"]
    said = commands.change(argv, unit="x", must_exit=True)
    assert (said.stdout, said.stderr, said.returncode) == ("a  b", "y\n", 0)
    with pytest.raises(CommandFailed, match="no space") as caught:
        commands.change(["sh", "-c", "echo no space >&2; exit 5"], unit="x", must_exit=True)
    assert caught.value.returncode == 5
    assert commands.change(["sh", "-c", "exit 3"], unit="x", must_exit=True, ok=(0, 3)).returncode == 3
