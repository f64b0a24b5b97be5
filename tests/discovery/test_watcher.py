"""The watcher, on a pipe in place of udev."""

import os
import threading
from collections.abc import Iterator

import pytest

from p2vd.discovery.watcher import Watcher

# The tests end by events; this only keeps a broken watcher from hanging them.
_LONG = 20.0


class Pipe:
    """Events through a pipe, a byte each; `X` is a lost one."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()

    def fileno(self) -> int:
        return self.read_end

    def poll(self, timeout: float | None = None) -> object | None:
        if os.read(self.read_end, 1) == b"X":
            raise OSError(105, "No buffer space available")
        return object()


@pytest.fixture
def events() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    os.close(pipe.read_end)
    os.close(pipe.write_end)


def test_a_burst_is_one_call(events: Pipe) -> None:
    called = threading.Semaphore(0)
    watcher = Watcher(called.release, events, quiet_seconds=0.05)
    os.write(events.write_end, b"e" * 100)
    watcher.start()
    assert called.acquire(timeout=_LONG)
    watcher.stop()
    assert not called.acquire(blocking=False)


def test_a_stream_without_a_pause_is_not_put_off_for_ever(events: Pipe) -> None:
    called = threading.Semaphore(0)
    watcher = Watcher(called.release, events, quiet_seconds=3600)
    os.write(events.write_end, b"e" * 500)
    watcher.start()
    assert called.acquire(timeout=_LONG)
    watcher.stop()


def test_a_lost_event_counts(events: Pipe) -> None:
    called = threading.Semaphore(0)
    watcher = Watcher(called.release, events, quiet_seconds=0.0)
    os.write(events.write_end, b"X")
    watcher.start()
    assert called.acquire(timeout=_LONG)
    watcher.stop()


def test_stop_ends_an_idle_watcher_and_one_never_started(events: Pipe) -> None:
    idle = Watcher(lambda: None, events)
    idle.start()
    idle.stop()
    Watcher(lambda: None, events).stop()
