"""A look that takes its time (the doctor's at the host, at all of the audit): on a thread of its own.

So no call waits for a command or a disk that hangs.
"""

import logging
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from p2vd.model.errors import StillLooking
from p2vd.system.clock import Clock, SystemClock
from p2vd.system.threads import start

log = logging.getLogger(__name__)

_FRESH_S = 5.0

T = TypeVar("T")


class Checkup(Generic[T]):
    """One look at a time, however many ask. Thread-safe."""

    def __init__(
        self, read: Callable[[], T], clock: Clock | None = None, what: str = "this host's settings"
    ) -> None:
        self._read = read
        self._what = what
        self._clock = clock or SystemClock()
        self._changed = threading.Condition()
        self._looking = False
        self._facts: T | None = None
        self._ended_s = 0.0

    def facts(self, timeout_s: float) -> T:
        """Return what a look found that ended after this call, or some seconds before it.

        Raises StillLooking where it does not end within `timeout_s`: the next call may have it; NoThread.
        """
        with self._changed:
            if self._facts is None or self._clock.monotonic() - self._ended_s > _FRESH_S:
                self._facts = None
                if not self._looking:
                    start(self._look, "checkup")
                    self._looking = True  # in time: it waits for our lock
            self._changed.wait_for(lambda: not self._looking, timeout_s)
            if self._facts is None:
                raise StillLooking(self._what)
            return self._facts

    def _look(self) -> None:
        facts = None
        try:
            facts = self._read()
        except Exception:  # a defect of ours: the caller is told that there is no answer, the log why
            log.exception("%s cannot be read", self._what)
        with self._changed:
            self._facts, self._looking, self._ended_s = facts, False, self._clock.monotonic()
            self._changed.notify_all()
