"""The watcher, on a pipe in place of udev."""

import os
import queue
from collections.abc import Iterator

import pytest

from p2vd.discovery.watcher import Watcher
from p2vd.sim.events import Uevent

# The tests end by events; this only keeps a broken watcher from hanging them.
_LONG = 60.0


class Pipe:
    """Events through a pipe, a byte each, which is the device's name; `X` is a lost one."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()

    def fileno(self) -> int:
        return self.read_end

    def poll(self, timeout: float | None = None) -> Uevent | None:
        name = os.read(self.read_end, 1).decode()
        if name == "X":
            raise OSError(105, "No buffer space available")
        return Uevent("change", name)


@pytest.fixture
def events() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    os.close(pipe.read_end)
    os.close(pipe.write_end)


Told = queue.Queue[frozenset[str] | None]


def test_a_burst_is_one_call_with_every_device_named(events: Pipe) -> None:
    told = Told()
    watcher = Watcher(told.put, events, quiet_seconds=0.05)
    os.write(events.write_end, b"abc" * 30)
    watcher.start()
    assert told.get(timeout=_LONG) == frozenset("abc")
    watcher.stop()
    assert told.empty()


def test_a_stream_without_a_pause_is_not_put_off_for_ever(events: Pipe) -> None:
    told = Told()
    watcher = Watcher(told.put, events, quiet_seconds=3600)
    os.write(events.write_end, b"a" * 500)
    watcher.start()
    assert told.get(timeout=_LONG) == frozenset("a")
    watcher.stop()


def test_after_a_lost_event_any_device_may_have_changed(events: Pipe) -> None:
    told = Told()
    watcher = Watcher(told.put, events, quiet_seconds=0.05)
    os.write(events.write_end, b"aXb")
    watcher.start()
    assert told.get(timeout=_LONG) is None
    watcher.stop()


def test_stop_ends_an_idle_watcher_and_one_never_started(events: Pipe) -> None:
    idle = Watcher(lambda _: None, events)
    idle.start()
    idle.stop()
    Watcher(lambda _: None, events).stop()
