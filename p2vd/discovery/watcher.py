"""Tells when block devices came, went or changed: udev events, many of them as one call."""

import logging
import os
import select
import threading
from collections.abc import Callable
from typing import Protocol

import pyudev

log = logging.getLogger(__name__)

# A burst of events (a login brings hundreds) is one event; a stream of them is not put off for ever.
_QUIET_SECONDS = 0.5
_LONGEST_BURST_EVENTS = 500


class EventSource(Protocol):
    """What the watcher needs of pyudev.Monitor; tests put a pipe here."""

    def fileno(self) -> int:
        """Return the descriptor that gets readable with an event."""
        ...

    def poll(self, timeout: float | None = None) -> object | None:
        """Take one event, or return None where there is none."""
        ...


def block_events() -> EventSource:
    """Return udev's events of block devices, as they come after udev's rules ran."""
    monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source="udev")
    monitor.filter_by("block")
    monitor.start()
    source: EventSource = monitor
    return source


class Watcher:
    """A thread that calls `on_event()` after each burst of events, and does nothing else."""

    def __init__(
        self,
        on_event: Callable[[], None],
        source: EventSource | None = None,
        quiet_seconds: float = _QUIET_SECONDS,
    ) -> None:
        self._on_event = on_event
        self._source = source if source is not None else block_events()
        self._quiet_ms = quiet_seconds * 1000
        self._stop_read, self._stop_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="udev-watcher", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it. A call of `on_event` under way ends first."""
        os.write(self._stop_write, b"x")
        if self._thread.is_alive():
            self._thread.join()
        os.close(self._stop_read)
        os.close(self._stop_write)

    def _run(self) -> None:
        poller = select.poll()
        poller.register(self._stop_read, select.POLLIN)
        poller.register(self._source.fileno(), select.POLLIN)
        pending = 0
        while True:
            ready = {descriptor for descriptor, _ in poller.poll(self._quiet_ms if pending else None)}
            if self._stop_read in ready:
                return
            if ready:
                pending += self._take()
            if pending and (not ready or pending >= _LONGEST_BURST_EVENTS):
                pending = 0
                self._on_event()

    def _take(self) -> int:
        """Take one event. A lost one (the socket's buffer overflowed) is an event too."""
        try:
            self._source.poll(timeout=0)
        except OSError as error:
            log.warning("udev events were lost: %s", error)
        return 1
