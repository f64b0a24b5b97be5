"""Work for the GLib thread: in order, and a little at a time, so that calls are answered in between."""

import logging
import threading
from collections import deque
from collections.abc import Iterator

from gi.repository import GLib

log = logging.getLogger(__name__)

_TURN_US = 10_000


class Turns:
    """Runs iterators on the GLib thread, one after the other; each step of one is a piece of work."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Iterator[None]] = deque()

    def add(self, work: Iterator[None]) -> None:
        """Run `work` to its end after what was added before. On any thread."""
        with self._lock:
            self._waiting.append(work)
            if len(self._waiting) == 1:
                GLib.idle_add(self._turn, priority=GLib.PRIORITY_DEFAULT)

    def _turn(self) -> bool:
        """Work for a few milliseconds; return whether there is more: GLib looks at the bus before."""
        end = GLib.get_monotonic_time() + _TURN_US
        while GLib.get_monotonic_time() < end:
            work = self._waiting[0]
            try:
                next(work)
                continue
            except StopIteration:
                pass
            except Exception:  # one odd object must not end all news
                log.exception("cannot bring the bus up to date")
            with self._lock:
                self._waiting.popleft()
                if not self._waiting:
                    return False
        return True
