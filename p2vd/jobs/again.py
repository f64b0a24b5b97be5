"""What the host has no thread, or its disk no room for now: tried again in two seconds.

By a timer of the main loop, since a thread that waits may be the very thing that lacks. For what is durable
already, which nobody would ask for once more.
"""

import logging
import threading
from collections.abc import Callable

from p2vd.model.errors import P2vdError

log = logging.getLogger(__name__)

AGAIN_S = 2.0

Later = Callable[[float, Callable[[], None]], None]
"""Has something called in so many seconds, on a thread that must not be kept waiting."""


def _no_timer(seconds: float, act: Callable[[], None]) -> None:
    raise NotImplementedError(f"this p2vd has no timer that would call {act} in {seconds} s")


class Again:
    """Thread-safe. Says in the log once that something lacks, and once that it is there again."""

    def __init__(self, later: Later = _no_timer) -> None:
        self._later = later
        self._lock = threading.Lock()
        self._owed: dict[str, Callable[[], None]] = {}
        self._waits = False
        self._told = False

    def owe(self, key: str, act: Callable[[], None], why: P2vdError) -> None:
        """Have `act` called again, once for `key` however often that is owed; it may owe it again."""
        with self._lock:
            self._owed[key] = act
            told, self._told = self._told, True
            waits, self._waits = self._waits, True
        if not told:
            log.error("%s It is tried again every %g s.", why, AGAIN_S)
        if not waits:
            self._later(AGAIN_S, self._pay)

    def _pay(self) -> None:
        with self._lock:
            owed, self._owed = self._owed, {}
            self._waits = False
        for key, act in owed.items():
            try:
                act()
            except Exception:  # a defect of ours: the others are owed all the same
                log.exception("%s could not be tried again", key)
        with self._lock:
            over, self._told = not self._owed, bool(self._owed)
        if over:
            log.warning("what could not be begun before is begun now")
