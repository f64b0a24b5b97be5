"""Watching jobs: what the signals of p2vd say, and when it is over.

It only listens: a daemon that is stopped is never started by being watched, and one that starts
again is watched on.
"""

import contextlib
import signal
from collections.abc import Callable, Sequence
from typing import Any

from gi.repository import GLib

from p2vd.bus.names import BUS_NAME, INTERFACES, JOB, MACHINE, OBJECT_MANAGER, PROPERTIES
from p2vd.cli import outcome
from p2vd.cli.client import Client, CliError, Exit, Object, plain
from p2vd.cli.outcome import Outcome
from p2vd.cli.screens import Screen, open_screen

_REDRAW_MS = 500


class Watcher:
    """What p2vd has on the bus, kept up to date by its signals."""

    def __init__(self, client: Client, screen: Screen, subjects: Sequence[str]) -> None:
        """`subjects`: paths of the jobs and machines to watch until they end; empty: all, for ever."""
        self._client = client
        self._screen = screen
        self._subjects = tuple(subjects)
        self._objects: dict[str, Object] = {}
        self._loop = GLib.MainLoop()
        self._outcome: Outcome | None = None
        self._error: CliError | OSError | None = None
        self._interrupted = False

    def run(self) -> Outcome:
        """Watch until it is over. Raises CliError, OSError of the screen; KeyboardInterrupt goes through."""
        matches = self._listen()
        timer = GLib.timeout_add(_REDRAW_MS, self._tick)
        try:
            if self._client.is_running():
                self._load()
            else:
                self._note("p2vd does not run; waiting for it. To start it: systemctl start p2vd")
            if self._outcome is None and self._error is None:
                self._wait()
        finally:
            GLib.source_remove(timer)
            for match in matches:  # whoever uses the connection for something else is told no more of jobs
                match.remove()
        if self._error is not None:
            raise self._error
        assert self._outcome is not None  # noqa: S101  (the loop ends for one of the two)
        return self._outcome

    def _wait(self) -> None:
        """Let the signals come in until it is over. Raises KeyboardInterrupt."""
        before = signal.getsignal(signal.SIGINT)
        if before is not signal.default_int_handler:  # ignored, as in the background of a script: so it stays
            self._loop.run()
            return
        # Left to itself, PyGObject answers SIGINT with quit(): one that comes just before the loop runs quits
        # nothing, and is lost. A source of the loop waits for it.
        source = GLib.unix_signal_add(GLib.PRIORITY_HIGH, signal.SIGINT, self._interrupt)
        try:
            self._loop.run()
        finally:
            GLib.source_remove(source)
            signal.signal(signal.SIGINT, before)  # GLib leaves it the kernel's, which ends the process
        if self._interrupted:
            raise KeyboardInterrupt

    def _interrupt(self) -> bool:
        self._interrupted = True
        self._loop.quit()
        return True

    def _listen(self) -> list[Any]:
        connection = self._client.connection
        matches = [
            connection.add_signal_receiver(handler, name, interface, BUS_NAME, path_keyword="where")
            for name, interface, handler in (
                ("PropertiesChanged", PROPERTIES, self._changed),
                ("InterfacesAdded", OBJECT_MANAGER, self._added),
                ("InterfacesRemoved", OBJECT_MANAGER, self._removed),
            )
        ]
        owner = connection.add_signal_receiver(
            self._owner, "NameOwnerChanged", "org.freedesktop.DBus", "org.freedesktop.DBus", arg0=BUS_NAME
        )
        connection.call_on_disconnection(self._disconnected)
        return [*matches, owner]

    def _load(self) -> None:
        try:
            self._objects = {item.path: item for item in self._client.objects(start=False)}
        except CliError as error:
            if error.status is not Exit.NO_DAEMON:  # gone again: its owner signal is on the way
                self._fail(error)
            return
        self._update()

    def _update(self) -> None:
        objects = tuple(self._objects.values())
        subjects = [self._objects[path] for path in self._subjects if path in self._objects]
        if self._subjects:
            paths = {path for item in subjects for path in item.properties.get("Jobs", [item.path])}
            jobs = [item for item in objects if item.path in paths]
        else:
            jobs = [item for item in objects if item.interface == JOB]
        self._on_screen(lambda: self._screen.show(jobs, objects))
        if subjects and len(subjects) == len(self._subjects):
            self._outcome = outcome.of(subjects, objects)
            if self._outcome is not None:
                self._loop.quit()

    def _note(self, sentence: str) -> None:
        self._on_screen(lambda: self._screen.note(sentence))

    def _on_screen(self, show: Callable[[], None]) -> None:
        """End where nobody reads any more (`| head`): what a handler raises is heard by nobody."""
        try:
            show()
        except OSError as error:
            self._fail(error)

    def _tick(self) -> bool:
        if self._objects:
            self._update()
        return True

    def _changed(self, interface: str, changed: Any, _: object, where: str) -> None:
        item = self._objects.get(str(where))
        if item is not None and item.interface == str(interface):
            values = {**item.properties, **plain(changed)}
            self._objects[item.path] = Object(item.path, item.interface, values)
            self._update()

    def _added(self, path: str, added: Any, where: str) -> None:
        for interface, values in plain(added).items():
            if interface in INTERFACES:
                self._objects[str(path)] = Object(str(path), interface, values)
        self._update()

    def _removed(self, path: str, _: object, where: str) -> None:
        gone = self._objects.pop(str(path), None)
        if gone is not None and gone.path in self._subjects and gone.interface in (JOB, MACHINE):
            self._fail(CliError("What was watched has left the bus. See: journalctl -u p2vd"))
        self._update()

    def _owner(self, _: str, before: str, after: str) -> None:
        if before:
            self._objects.clear()
            self._note("p2vd has stopped; jobs go on when it is back. Waiting for it.")
        if after:
            self._note("p2vd is there.")
            self._load()

    def _disconnected(self, _: object) -> None:
        self._fail(CliError("The connection to the bus is lost.", Exit.NO_DAEMON))

    def _fail(self, error: CliError | OSError) -> None:
        self._error = self._error or error
        self._loop.quit()


def watch(client: Client, subjects: Sequence[str], *, quiet: bool = False) -> Outcome:
    """Show progress until `subjects` end; bars on a terminal, else a line a change, or nothing."""
    with contextlib.ExitStack() as stack:
        return Watcher(client, open_screen(stack, quiet=quiet), subjects).run()
