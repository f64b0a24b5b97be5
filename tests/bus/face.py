"""The process under test: p2vd's face over a fake engine, on the bus whose address it is given.

Each line of standard input is [NAME, [ARGUMENTS]]: a call of the fake engine or authority; its
result is written as a line of JSON. The end of the input ends the process.
"""

import json
import sys
import threading
from collections.abc import Callable

import dbus
from dbus.mainloop.glib import DBusGMainLoop
from gi.repository import GLib

from p2vd.bus.polkit import Polkit
from p2vd.bus.port import Authority, Verdict
from p2vd.bus.service import Service
from tests.bus.fake_engine import FakeEngine


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


def main() -> None:
    DBusGMainLoop(set_as_default=True)
    loop = GLib.MainLoop()
    connection = dbus.bus.BusConnection(sys.argv[1])
    engine, fake = FakeEngine(), FakeAuthority()
    authority: Authority = Polkit(connection, always=()) if "--polkit" in sys.argv else fake
    service = Service(engine, connection, authority, "1.2.3", on_lost=loop.quit)
    service.start()

    def steer() -> None:
        for line in sys.stdin:
            name, arguments = json.loads(line)
            function = getattr(fake, name, None) or getattr(engine, name)
            print(json.dumps(function(*arguments)), flush=True)
        GLib.idle_add(loop.quit)

    print("ready", flush=True)
    threading.Thread(target=steer, daemon=True).start()
    loop.run()
    service.stop()


if __name__ == "__main__":
    main()
