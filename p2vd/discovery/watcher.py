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


class Event(Protocol):
    """What the watcher reads of a pyudev.Device."""

    @property
    def sys_name(self) -> str:
        """The kernel's name of the device that came, went or changed (`sda1`, `dm-3`)."""
        ...


class EventSource(Protocol):
    """What the watcher needs of pyudev.Monitor; tests put a pipe here."""

    def fileno(self) -> int:
        """Return the descriptor that gets readable with an event."""
        ...

    def poll(self, timeout: float | None = None) -> Event | None:
        """Take one event, or return None where there is none."""
        ...


def block_events() -> EventSource:
    """Return udev's events of block devices and Fibre Channel ports, as they come after udev's rules ran.

    A port that is merely blocked makes no event of its own; the paths over it make theirs as they fail.
    """
    monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source="udev")
    for subsystem in ("block", "fc_host", "fc_remote_ports"):
        monitor.filter_by(subsystem)
    monitor.start()
    source: EventSource = monitor
    return source


class Watcher:
    """A thread that calls `on_change` after each burst of events, and does nothing else.

    With the names of the devices they were of; with None where events were lost: then any may have changed.
    """

    def __init__(
        self,
        on_change: Callable[[frozenset[str] | None], None],
        source: EventSource | None = None,
        quiet_seconds: float = _QUIET_SECONDS,
    ) -> None:
        self._on_change = on_change
        self._source = source if source is not None else block_events()
        self._quiet_ms = quiet_seconds * 1000
        self._stop_read, self._stop_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="udev-watcher", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it. A call of `on_change` under way ends first."""
        os.write(self._stop_write, b"x")
        if self._thread.is_alive():
            self._thread.join()
        os.close(self._stop_read)
        os.close(self._stop_write)

    def _run(self) -> None:
        poller = select.poll()
        poller.register(self._stop_read, select.POLLIN)
        poller.register(self._source.fileno(), select.POLLIN)
        pending, names, lost = 0, set[str](), False
        while True:
            ready = {descriptor for descriptor, _ in poller.poll(self._quiet_ms if pending else None)}
            if self._stop_read in ready:
                return
            if ready:
                pending += 1
                try:
                    event = self._source.poll(timeout=0)
                    names |= {event.sys_name} if event else set()
                except OSError as error:  # the socket's buffer overflowed
                    log.warning("udev events were lost: %s", error)
                    lost = True
            if pending and (not ready or pending >= _LONGEST_BURST_EVENTS):
                self._on_change(None if lost else frozenset(names))
                pending, names, lost = 0, set(), False
