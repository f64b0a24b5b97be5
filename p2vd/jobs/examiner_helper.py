"""The process that looks at disks' contents, as the daemon talks to it."""

import sys
from collections.abc import Callable
from typing import Any

from p2vd.discovery.examining import ExamineReply, ExamineRequest
from p2vd.model.codec import from_dict, to_dict
from p2vd.system.descriptors import SeqpacketChannel, close_all
from p2vd.system.life_line import LifeLine
from p2vd.system.process import Child, spawn

_POLL_S = 0.25
# Python's own start: on a host that is very busy it takes long, and says nothing of any disk.
_START_S = 120.0


class ExaminerHelper:
    """One process, which answers one request after the other. Used by one thread, but for `kill`."""

    def __init__(self, program: str = "p2vd.discovery.examiner", *words: str) -> None:
        """Start it: a module, and options of it. Raises OSError."""
        self._channel, theirs = SeqpacketChannel.pair()
        self._line = LifeLine()
        argv = [sys.executable, "-m", program, *words, "--channel", str(theirs.fileno())]
        argv += ["--life-line", str(self._line.theirs)]
        try:
            self._child: Child = spawn(argv, theirs.fileno(), also=[self._line.theirs])
        except OSError:
            self._channel.close()
            raise
        finally:
            theirs.close()
            self._line.started()
        self._ready = False

    def examine(self, request: ExamineRequest, keep_waiting: Callable[[float], bool]) -> ExamineReply:
        """Return what is on a disk.

        `keep_waiting(seconds that the disk took)` is asked several times a second and ends the wait by
        returning False: then TimeoutError is raised, and this helper is of no more use. Raises EOFError where
        the helper ended or did not start, ValueError where it said what is not understood.
        """
        if not self._ready:
            self._receive(lambda waited_s: _is_starting(waited_s) and keep_waiting(0.0))
            self._ready = True
        try:
            self._channel.send(to_dict(request))
        except BrokenPipeError:
            raise EOFError from None
        return from_dict(ExamineReply, self._receive(keep_waiting))

    def _receive(self, keep_waiting: Callable[[float], bool]) -> dict[str, Any]:
        waited_s = 0.0
        while True:
            try:
                answer = self._channel.receive(_POLL_S)
            except TimeoutError:
                waited_s += _POLL_S
                if not keep_waiting(waited_s):
                    raise
                continue
            if answer is None:
                raise EOFError
            message, descriptors = answer
            close_all(descriptors)  # it is asked for none
            return message

    @property
    def alive(self) -> bool:
        """Whether the process, or a child of its own, is there still.

        One in the kernel outlives `kill` until its I/O ends.
        """
        self._child.poll()  # what has ended is not to remain as a zombie
        return self._line.held

    def close(self) -> None:
        """Let it end."""
        self._channel.close()
        self._child.poll()

    def kill(self) -> None:
        """End it now, as far as the kernel lets it. It has nothing open but for reading."""
        self._child.kill()


def _is_starting(waited_s: float) -> bool:
    if waited_s >= _START_S:
        raise EOFError(f"The helper that looks at it did not start in {_START_S:.0f} s.")
    return True
