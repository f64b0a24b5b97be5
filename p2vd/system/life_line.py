"""Whether a child, or any child of its own, is there still: a pipe of which they have the writing end open.

A child that is killed may leave one of its own behind, in the kernel, until a read of it ends. Only those
inherit the pipe that `sandbox` and queries of `command` start, once the child has handed it down.
"""

import os
import select
import weakref

_handed_down: list[int] = []


class LifeLine:
    """The pipe, as the parent has it. `theirs`: the descriptor that the child is to inherit."""

    def __init__(self) -> None:
        self._ours, self.theirs = os.pipe()
        self._close = weakref.finalize(self, os.close, self._ours)

    def started(self) -> None:
        """The child has its own copy now, or there is none."""
        os.close(self.theirs)

    @property
    def held(self) -> bool:
        """Whether one of them is there still; what they write into it, if anything, is not looked at."""
        if not self._close.alive:
            return False
        poll = select.poll()
        poll.register(self._ours, 0)  # POLLHUP is told in any case
        if not poll.poll(0):
            return True
        self._close()
        return False


def hand_down(fd: int) -> None:
    """Have the children of this process inherit the descriptor, too, as `theirs` by this process."""
    _handed_down.append(fd)


def handed_down() -> tuple[int, ...]:
    """What every child inherits."""
    return tuple(_handed_down)
