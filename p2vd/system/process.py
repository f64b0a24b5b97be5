"""Children that speak over a channel: the copy worker and the helper that opens devices."""

import contextlib
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from p2vd.system.descriptors import SeqpacketChannel, close_all


class ChildProcess(Protocol):
    """What the daemon asks of a child; `Child` is one, the simulator has others."""

    @property
    def pid(self) -> int:
        """Its process id."""
        ...

    def poll(self) -> int | None:
        """Return its exit status if it ended (negative: the signal that ended it), else None."""
        ...

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait for its end and return the status, as `poll`. Raises TimeoutError."""
        ...


Spawn = Callable[[Sequence[str], int], ChildProcess]
"""Starts a program that inherits a channel's descriptor, as `spawn` does."""


class Child:
    """A process that was started by `spawn`. It is never killed on its own account."""

    def __init__(self, process: "subprocess.Popen[bytes]"):
        self._process = process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def poll(self) -> int | None:
        """Return its exit status if it ended (negative: the signal that ended it), else None."""
        return self._process.poll()

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait for its end and return the status, as `poll`. Raises TimeoutError."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"process {self.pid} still runs after {timeout_s} s") from error

    def terminate(self) -> None:
        """Send SIGTERM; no error if it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL; no error if it has ended. A process in the kernel dies when its I/O ends."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()


def spawn(
    argv: Sequence[str], channel_fd: int, *, env: Mapping[str, str] | None = None, also: Sequence[int] = ()
) -> Child:
    """Start `argv` with `channel_fd`, and `also`, inherited under the same numbers, in a session of its own.

    Own session: a signal to the caller's terminal or group does not reach it. Standard input is
    /dev/null; output goes where the caller's goes (the journal). Raises OSError.
    """
    process = subprocess.Popen(
        list(argv),
        stdin=subprocess.DEVNULL,
        pass_fds=(channel_fd, *also),
        start_new_session=True,
        env=None if env is None else dict(env),
    )
    return Child(process)


def hand_over(
    spawn: Spawn, argv: Callable[[int], Sequence[str]], message: Mapping[str, Any], descriptors: Sequence[int]
) -> tuple[ChildProcess, SeqpacketChannel]:
    """Start a program, and send it `message` and `descriptors`; return it, and our end of the channel.

    `argv`: its command line, by the number of its end. The descriptors are closed here, also where nothing
    could be started: the program alone has them. Raises OSError.
    """
    try:
        with contextlib.ExitStack() as unstarted:
            ours, theirs = SeqpacketChannel.pair()
            unstarted.enter_context(ours)
            with theirs:
                child = spawn(argv(theirs.fileno()), theirs.fileno())
            ours.send(message, descriptors)
            unstarted.pop_all()
    finally:
        close_all(descriptors)
    return child, ours
