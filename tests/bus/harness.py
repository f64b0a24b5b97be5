"""A private bus, the face on it, and a client that hears its signals."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dbus
from dbus.lowlevel import MethodCallMessage
from dbus.mainloop.glib import DBusGMainLoop
from gi.repository import GLib

from p2vd.bus.names import BUS_NAME, MANAGER, OBJECT_MANAGER, PROPERTIES, ROOT

# Of a machine ten times slower, and busy with other tests.
PATIENCE_S = 180

_CONFIGURATION = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:dir={directory}</listen>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
  </policy>
</busconfig>
"""


@contextlib.contextmanager
def private_bus(directory: Path) -> Iterator[str]:
    """Run a bus of our own; yields its address."""
    configuration = directory / "bus.conf"
    configuration.write_text(_CONFIGURATION.format(directory=directory))
    arguments = ["dbus-daemon", f"--config-file={configuration}", "--nofork", "--print-address"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as daemon:
        try:
            assert daemon.stdout is not None
            yield daemon.stdout.readline().strip()
        finally:
            daemon.terminate()


class Face:
    """The process that face.py is."""

    def __init__(self, address: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.bus.face", address, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._line() == "ready"

    def tell(self, name: str, *arguments: object) -> Any:
        """Call the fake engine or authority; returns when it was done."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([name, arguments]) + "\n")
        self.process.stdin.flush()
        return json.loads(self._line())

    def stop(self) -> int:
        """End it as a daemon ends, or at once where it does not."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            return self.process.wait(PATIENCE_S)
        finally:
            self.process.kill()
            self.process.stdout.close()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


class Client:
    """A D-Bus client with a loop of its own. `signals`: (path, interface, member, arguments)."""

    def __init__(self, address: str) -> None:
        self.connection = dbus.bus.BusConnection(address, mainloop=DBusGMainLoop())
        self.signals: list[tuple[str, str, str, list[Any]]] = []
        self.connection.add_signal_receiver(
            self._hear,
            bus_name=BUS_NAME,
            path_keyword="path",
            interface_keyword="interface",
            member_keyword="member",
        )

    def _hear(self, *arguments: Any, path: str, interface: str, member: str) -> None:
        self.signals.append((str(path), str(interface), str(member), list(arguments)))

    def call(
        self,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        *arguments: object,
        ask: bool = False,
    ) -> Any:
        """Call and wait; one value is returned as it is, several as a list."""
        message = MethodCallMessage(BUS_NAME, path, interface, member)
        message.append(*arguments, signature=signature)
        message.set_allow_interactive_authorization(ask)
        reply = self.connection.send_message_with_reply_and_block(message, PATIENCE_S)
        values = reply.get_args_list()
        return values[0] if len(values) == 1 else values

    def manager(self, member: str, signature: str, *arguments: object) -> Any:
        return self.call(ROOT, MANAGER, member, signature, *arguments)

    def objects(self) -> Any:
        return self.call(ROOT, OBJECT_MANAGER, "GetManagedObjects")

    def get(self, path: str, interface: str, name: str) -> Any:
        return self.call(path, PROPERTIES, "Get", "ss", interface, name)

    def until(self, predicate: Callable[[], Any]) -> Any:
        """Run the loop until `predicate` holds; returns what it returned."""
        late: list[bool] = []
        timer = GLib.timeout_add_seconds(PATIENCE_S, lambda: late.append(True))
        context = GLib.MainContext.default()
        result = predicate()
        while not result and not late:
            context.iteration(True)
            result = predicate()
        if not late:
            GLib.source_remove(timer)
        assert result, f"did not happen within {PATIENCE_S} s; signals: {self.signals}"
        return result

    def heard(self, member: str, path: str | None = None) -> list[list[Any]]:
        """Arguments of the signals of that name, in order; all that were sent before the latest answer."""
        self._take_in()
        return [
            arguments
            for where, _, name, arguments in self.signals
            if name == member and path in (None, where)
        ]

    def changes(self, path: str) -> list[dict[str, Any]]:
        """What PropertiesChanged said of one object."""
        return [arguments[1] for arguments in self.heard("PropertiesChanged", path)]

    def forget(self) -> None:
        """Forget the signals that were sent before the latest answer."""
        self._take_in()
        self.signals.clear()

    def _take_in(self) -> None:
        """Hear what a call that waited for its answer has put by."""
        context = GLib.MainContext.default()
        while context.iteration(False):
            pass

    def close(self) -> None:
        self.connection.close()
