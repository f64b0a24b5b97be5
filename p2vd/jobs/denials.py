"""Calls that polkit refused, on their way into the audit.

They come on the GLib thread, which never waits, and from anybody as fast as they like: of one caller's one
verb the first is recorded at once, and those of the following minute are one entry with their number.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from p2vd.model.audit import AuditEvent
from p2vd.system.clock import Clock
from p2vd.system.threads import NoThread, start

log = logging.getLogger(__name__)

_GATHERED_S = 60.0
_CALLERS = 1000
_STOP_S = 2.0

Key = tuple[int, str]


@dataclass
class _Gathered:
    make: Callable[[], AuditEvent]
    count: int
    due_s: float


class Denials:
    """Thread-safe. `add` never waits for a disk."""

    def __init__(self, record: Callable[[AuditEvent], None], clock: Clock) -> None:
        self._record = record
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: dict[Key, _Gathered] = {}
        self._stopped = False
        self._thread: threading.Thread | None = None

    def add(self, key: Key, make: Callable[[], AuditEvent]) -> None:
        """Have an entry written; `make` is called on a thread of its own, and makes it."""
        with self._changed:
            gathered = self._waiting.get(key)
            if gathered is not None:
                gathered.count += 1
            elif not self._stopped and len(self._waiting) < _CALLERS:  # else the log has the line of each
                self._waiting[key] = _Gathered(make, 1, self._clock.monotonic())
            if self._thread is None and not self._stopped:
                try:
                    self._thread = start(self._run, "denials")
                except NoThread as error:  # the next refusal tries again, and at the latest the stop
                    log.warning("refused calls cannot be recorded now: %s", error)
            self._changed.notify()

    def stop(self) -> None:
        """Write what is gathered, and end."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join(_STOP_S)
        else:
            self._run()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._due() and not self._stopped:
                    self._changed.wait(self._wait_s())
                due, stopped = self._due(), self._stopped
                for key, gathered in due.items():
                    if gathered.count:  # counted from here again, for a minute
                        self._waiting[key] = replace(
                            gathered, count=0, due_s=self._clock.monotonic() + _GATHERED_S
                        )
                    else:
                        del self._waiting[key]
            for gathered in due.values():
                if gathered.count:
                    self._write(gathered)
            if stopped:
                return

    def _write(self, gathered: _Gathered) -> None:
        try:
            self._record(replace(gathered.make(), times=gathered.count))
        except Exception:  # a defect of ours, or a store that is damaged: the next ones shall be recorded
            log.exception("a refused call is not recorded")

    def _due(self) -> dict[Key, _Gathered]:
        now = self._clock.monotonic()
        return {key: each for key, each in self._waiting.items() if each.due_s <= now or self._stopped}

    def _wait_s(self) -> float | None:
        if not self._waiting:
            return None
        return max(0.0, min(each.due_s for each in self._waiting.values()) - self._clock.monotonic())
