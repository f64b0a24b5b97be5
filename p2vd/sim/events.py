"""Simulated uevents, behind the interface of pyudev's monitor."""

import os
import threading
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True)
class Uevent:
    """What p2vd reads of a pyudev.Device."""

    action: str
    sys_name: str


class Uevents:
    """A queue of uevents with a descriptor that is readable while there are any. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Uevent] = deque()
        self._ready = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def send(self, action: str, *names: str) -> None:
        """Announce a change of devices."""
        with self._lock:
            if names and not self._waiting:
                os.eventfd_write(self._ready, 1)
            self._waiting.extend(Uevent(action, name) for name in names)

    def clear(self) -> None:
        """Forget what nobody has taken yet."""
        while self.poll() is not None:
            pass

    def waiting(self) -> int:
        """How many nobody has taken yet."""
        return len(self._waiting)

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._ready

    def poll(self, timeout: float | None = None) -> Uevent | None:
        """Take one event, or return None where there is none; never waits."""
        with self._lock:
            if not self._waiting:
                return None
            event = self._waiting.popleft()
            if not self._waiting:
                os.eventfd_read(self._ready)
            return event
