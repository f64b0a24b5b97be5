"""The process under test: p2vd's face over a fake engine, on the bus whose address it is given.

Each line of standard input is [NAME, [ARGUMENTS]]: a call of the fake engine or authority; its
result is written as a line of JSON, once all that the engine has told by it is on the bus. The end of the
input ends the process.
"""

import json
import sys
import threading
from collections.abc import Callable, Collection

import dbus
import pytest
from dbus.mainloop.glib import DBusGMainLoop
from gi.repository import GLib

from p2vd.bus import service as bus_service
from p2vd.bus.collector import Collector, Topic
from p2vd.bus.polkit import Polkit
from p2vd.bus.port import Authority, Verdict
from p2vd.bus.service import Service
from tests.bus.fake_engine import FakeEngine
from tests.bus.harness import PATIENCE_S


class FakeAuthority:
    """Allows all but what was denied; remembers what was asked."""

    def __init__(self) -> None:
        self.denied: set[str] = set()
        self.questions: list[tuple[str, bool]] = []

    def authorize(self, sender: str, action: str, interactive: bool, done: Callable[[Verdict], None]) -> None:
        self.questions.append((action, interactive))
        allowed = action not in self.denied
        GLib.idle_add(lambda: done(Verdict(1234, allowed, "the test says no.")))

    def deny(self, action: str) -> None:
        self.denied.add(action)

    def what_was_decided(self) -> list[tuple[str, bool]]:
        return self.questions


class Host:
    """What the process gets of its host."""

    def __init__(self) -> None:
        self._patch = pytest.MonkeyPatch()

    def threads(self, are_left: bool) -> None:
        if are_left:
            self._patch.undo()
        else:
            self._patch.setattr(threading.Thread, "start", _none_left)


def _none_left(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


class Published(Collector):
    """A collector that knows when all that it was told is on the bus."""

    told = on_bus = 0
    changed = threading.Condition()

    def want(self, topics: Collection[Topic]) -> None:
        with self._wanted:  # in one step with what it means: a picture is of all wishes or of those before
            Published.told += 1
            super().want(topics)

    def take(self, topics: Collection[Topic], then: Callable[[], None]) -> None:
        own = threading.current_thread() is self._thread
        with self._wanted:
            told = self.told if own and not self._dirty else 0

        def published() -> None:
            with self.changed:
                Published.on_bus = max(self.on_bus, told)
                self.changed.notify_all()
            then()

        super().take(topics, published)

    @classmethod
    def settle(cls) -> None:
        """Wait until what was told before this call is on the bus."""
        told = cls.told
        with cls.changed:
            assert cls.changed.wait_for(lambda: cls.on_bus >= told, PATIENCE_S)


def main() -> None:
    DBusGMainLoop(set_as_default=True)
    loop = GLib.MainLoop()
    connection = dbus.bus.BusConnection(sys.argv[1])
    engine, fake, host = FakeEngine(), FakeAuthority(), Host()
    authority: Authority = Polkit(connection, always=()) if "--polkit" in sys.argv else fake
    vars(bus_service)["Collector"] = Published
    service = Service(engine, connection, authority, "1.2.3", on_lost=loop.quit)
    service.start()

    def steer() -> None:
        for line in sys.stdin:
            name, arguments = json.loads(line)
            function = getattr(fake, name, None) or getattr(host, name, None) or getattr(engine, name)
            result = function(*arguments)
            Published.settle()
            print(json.dumps(result), flush=True)
        GLib.idle_add(loop.quit)

    print("ready", flush=True)
    threading.Thread(target=steer, daemon=True).start()
    loop.run()
    service.stop()


if __name__ == "__main__":
    main()
