"""Commands that this host cannot start for a moment, or that are killed: nothing is known, nothing done."""

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from p2vd.system.command import (
    CommandFailed,
    CommandKilled,
    CommandNotStarted,
    CommandTimedOut,
    SystemCommands,
)

Run = Callable[[], object]
COMMANDS = SystemCommands(systemd_run="/bin/true")
RUNS: list[Run] = [lambda: COMMANDS.query(["true"]), lambda: COMMANDS.change(["true"], unit="x")]
each_way = pytest.mark.parametrize("run", RUNS, ids=["query", "change"])


@pytest.fixture
def no_descriptors() -> Iterator[None]:
    """A process that has as many open files as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@each_way
def test_too_many_open_files_is_passing(run: Run, no_descriptors: None) -> None:
    with pytest.raises(CommandNotStarted, match="Too many open files"):
        run()


@each_way
@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE])
def test_what_the_host_lacks_for_a_moment_is_passing(
    run: Run, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It failed every running copy: their targets could not be looked at."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(CommandTimedOut) as caught:
        run()
    assert isinstance(caught.value, CommandNotStarted)
    assert os.strerror(number) in str(caught.value)
    assert "was killed" not in str(caught.value)


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOEXEC])
def test_what_is_no_lack_fails(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(CommandFailed) as caught:
        COMMANDS.query(["true"])
    assert caught.value.returncode == 127


def test_a_change_whose_launcher_is_not_there_fails() -> None:
    with pytest.raises(CommandFailed) as caught:
        SystemCommands(systemd_run="/no/such/program").change(["true"], unit="x")
    assert caught.value.returncode == 127


def test_a_query_that_is_killed_has_said_nothing() -> None:
    """By the kernel, for want of memory, say: what it did not say is no answer."""
    with pytest.raises(CommandTimedOut) as caught:
        COMMANDS.query([sys.executable, "-c", "import os; print('half'); os.kill(os.getpid(), 9)"])
    assert isinstance(caught.value, CommandKilled)
    assert "SIGKILL" in str(caught.value)


def test_a_change_that_was_not_started_is_not_late(no_descriptors: None) -> None:
    late: list[str] = []
    with pytest.raises(CommandNotStarted):
        COMMANDS.change(["true"], unit="x", on_late=late.append)
    assert late == []
