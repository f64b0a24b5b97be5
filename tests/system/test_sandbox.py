"""Children with limits: what they may not do, and that they end with us."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from p2vd.system.command import CommandFailed, CommandKilled, CommandNotStarted, CommandTimedOut
from p2vd.system.sandbox import GivenUp, Limits, User, run, start
from tests.waiting import until, until_ended

NOBODY = 65534
PYTHON = sys.executable


def python(text: str, limits: Limits | None = None, user: User | None = None) -> str:
    argv = [PYTHON, "-c", text]
    return run(argv, [], limits or Limits(), timeout_s=30, user=user).stdout.strip()


def run_true() -> object:
    return run(["true"], [], Limits(), timeout_s=30)


def start_true() -> object:
    return start(["true"], [], Limits())


def test_it_is_given_descriptors_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "given").write_text("given")
    with (tmp_path / "given").open() as given, (tmp_path / "given").open() as kept:
        os.set_inheritable(kept.fileno(), True)
        text = f"import os; print(os.read({given.fileno()}, 9)); os.fstat({kept.fileno()})"
        with pytest.raises(CommandFailed, match="Bad file descriptor"):
            run([PYTHON, "-c", text], [given.fileno()], Limits(), timeout_s=30)


def test_it_may_use_so_much_memory_and_write_so_much(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="MemoryError"):
        python("bytearray(1 << 30)", Limits(memory_bytes=512 << 20))
    path, limits = tmp_path / "file", Limits(file_bytes=1024)
    with pytest.raises(CommandFailed, match="File too large"):
        python(f"import pathlib; pathlib.Path({str(path)!r}).write_bytes(bytes(4096))", limits)
    assert path.stat().st_size <= 1024


def test_it_gets_no_new_privileges() -> None:
    text = "print([l for l in open('/proc/self/status') if l.startswith('NoNewPrivs')][0].split()[1])"
    assert python(text) == "1"


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_it_is_somebody_else_without_groups_and_capabilities() -> None:
    text = "import os; print(os.getresuid(), os.getresgid(), os.getgroups())"
    assert python(text, user=User(NOBODY, NOBODY)) == f"{(NOBODY,) * 3} {(NOBODY,) * 3} []"
    text = "print([l for l in open('/proc/self/status') if l.startswith('CapEff')][0].split()[1])"
    assert int(python(text, user=User(NOBODY, NOBODY)), 16) == 0


def test_one_that_does_not_end_in_time_is_killed() -> None:
    with pytest.raises(CommandTimedOut):
        run(["sleep", "60"], [], Limits(), timeout_s=0.2)


def test_one_whose_answer_is_no_longer_wanted_is_killed() -> None:
    asked = iter([False, True])
    with pytest.raises(GivenUp):
        run(["sleep", "60"], [], Limits(), timeout_s=30, ended=lambda: next(asked))


def test_what_is_not_installed_is_said() -> None:
    with pytest.raises(CommandFailed) as failure:
        start(["p2vd-no-such-program"], [], Limits())
    assert failure.value.returncode == 127


@pytest.mark.parametrize("begin", [run_true, start_true], ids=["run", "start"])
def test_what_the_host_lacks_for_a_moment_is_no_missing_program(
    begin: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was said that qemu-utils is to be installed."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(CommandNotStarted, match="temporarily unavailable"):
        begin()


def test_one_that_somebody_kills_has_said_nothing() -> None:
    with pytest.raises(CommandKilled, match="SIGKILL"):
        python("import os; os.kill(os.getpid(), 9)")


def test_one_that_ends_by_what_it_read_says_why() -> None:
    """The same image would end it again: that is no lack of the host's."""
    with pytest.raises(CommandFailed, match="it is bad") as failure:
        python("import os, sys; print('it is bad', file=sys.stderr, flush=True); os.kill(os.getpid(), 6)")
    assert failure.value.returncode == -6


def test_its_last_words_and_its_end() -> None:
    child = start(["sh", "-c", "echo cannot >&2; exec sleep 60"], [], Limits())
    until(lambda: child.said() == "cannot")
    assert child.poll() is None
    assert child.end(30) == -15


def test_it_ends_with_the_process_that_started_it() -> None:
    text = (
        "from p2vd.system.sandbox import Limits, start; import os, signal\n"
        "print(start(['sleep', '60'], [], Limits()).pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([PYTHON, "-c", text], stdout=subprocess.PIPE, text=True, check=False)
    child = int(done.stdout)
    until_ended(child)  # it may stay as a zombie where nobody reaps orphans
