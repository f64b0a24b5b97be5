"""Who looks at a job's LV now: what `waking` counts."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field


def _nobody(uuid: str) -> None:
    """The next start finds the note."""


@dataclass
class Looks:
    """How many look at each job's LV now, and whose turn it is to change whether it is active.

    `held_up` takes the job whose LV cannot be put to rest while a change of its VG does not end.
    """

    users: Counter[str] = field(default_factory=Counter)
    held_up: Callable[[str], None] = _nobody
    _turns: dict[str, threading.Lock] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def turn(self, uuid: str) -> threading.Lock:
        """The lock of a job: held while its note or its LV changes."""
        with self._lock:
            return self._turns.setdefault(uuid, threading.Lock())
