"""A helper that is started for one request: it answers as often as it likes, and may be left to itself."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from p2vd.system.descriptors import SeqpacketChannel, close_all
from p2vd.system.process import ChildProcess, Spawn

POLL_S = 0.25


class NoAnswer(Exception):
    """The helper `child` says nothing; it is left to itself."""

    def __init__(self, child: ChildProcess) -> None:
        super().__init__()
        self.child = child


@contextlib.contextmanager
def started(spawn: Spawn, program: str) -> Iterator[tuple[SeqpacketChannel, ChildProcess]]:
    """Start the module `program`, and lend the channel to it, which is closed at the end. Raises OSError."""
    ours, theirs = SeqpacketChannel.pair()
    with ours:
        with theirs:
            child = spawn([sys.executable, "-m", program, "--channel", str(theirs.fileno())], theirs.fileno())
        yield ours, child


def messages(channel: SeqpacketChannel, goes_on: Callable[[], bool]) -> Iterator[dict[str, Any] | None]:
    """Yield what the helper at the other end says, until it ends; None where it says nothing for a moment.

    Before each wait for it `goes_on` is asked, which may tell it more: False ends the conversation. `POLL_S`
    is how long a moment is. Raises OSError, ValueError for what is no message, and as `goes_on` does.
    """
    while goes_on():
        try:
            packet = channel.receive(POLL_S)
        except TimeoutError:
            yield None
            continue
        if packet is None:
            return
        message, descriptors = packet
        close_all(descriptors)  # no helper is asked for any
        yield message


def answers(
    spawn: Spawn,
    program: str,
    request: Mapping[str, Any],
    stopped: Callable[[], bool],
    silence_s: float,
) -> Iterator[dict[str, Any]]:
    """Start the module `program`, and yield what it answers until it ends, or we are `stopped`.

    An empty message is no answer, but a sign that it is at work. Raises NoAnswer after `silence_s` without
    either, also where it does not end in that time once nobody listens; OSError, and ValueError for what is
    no message.
    """
    with started(spawn, program) as (ours, child):
        ours.send(request)
        waited_s = 0.0
        for message in messages(ours, lambda: not stopped()):
            waited_s = waited_s + POLL_S if message is None else 0.0
            if waited_s >= silence_s:
                raise NoAnswer(child)
            if message:
                yield message
    try:
        child.wait(silence_s)
    except TimeoutError:
        raise NoAnswer(child) from None
