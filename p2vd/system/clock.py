"""Time, behind a seam: tests hand in a clock of their own."""

import threading
import time
from pathlib import Path
from typing import Protocol


def now_us() -> int:
    """Return the wall clock in microseconds since the epoch, as D-Bus and the store carry it."""
    return time.time_ns() // 1000


def boot_id() -> str:
    """Return what tells this boot of the host from every other."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class Clock(Protocol):
    """What code may ask of time."""

    def monotonic(self) -> float:
        """Seconds that only grow; for measuring and deadlines."""

    def now_us(self) -> int:
        """The wall clock in microseconds since the epoch; for people."""

    def sleep(self, seconds: float, until: threading.Event) -> bool:
        """Wait for `until`, at most `seconds`; True when it was set. The only way to sleep here."""


class SystemClock:
    """The kernel's clock."""

    def monotonic(self) -> float:
        """Return seconds that only grow."""
        return time.monotonic()

    def now_us(self) -> int:
        """Return microseconds since the epoch."""
        return now_us()

    def sleep(self, seconds: float, until: threading.Event) -> bool:
        """Wait for `until`, at most `seconds`; True when it was set."""
        return until.wait(seconds)
