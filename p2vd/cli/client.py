"""p2vd as a D-Bus client sees it: objects as plain values, calls, and errors with an exit status."""

import enum
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import dbus
from dbus.lowlevel import MethodCallMessage
from dbus.mainloop.glib import DBusGMainLoop

from p2vd.bus.names import (
    BUS_NAME,
    ERROR_PREFIX,
    INTERFACES,
    OBJECT_MANAGER,
    PROPERTIES,
    ROOT,
)
from p2vd.cli.remote import bus_address

_TIMEOUT_S = 30.0
_PERSON_ANSWERS_S = 330.0  # a call may wait for somebody to type a password

# A call is answered within a second; what takes p2vd longer is asked for again.
_PASSING_S = 60.0
_AGAIN_S = 0.3

Properties = Mapping[str, Any]
T = TypeVar("T")


class Exit(enum.IntEnum):
    """Exit statuses; the manual p2vctl(1) explains them."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    NO_DAEMON = 3
    NOT_AUTHORIZED = 4
    JOB_FAILED = 5
    FINDINGS = 6
    INTERRUPTED = 130


class CliError(Exception):
    """Something that ends the command: a sentence that says what to do, and the exit status.

    `name` is the last part of p2vd's own error name (`Refused`), "" for what is none of p2vd's.
    """

    def __init__(self, sentence: str, status: Exit = Exit.REFUSED, name: str = "") -> None:
        super().__init__(sentence)
        self.status = status
        self.name = name


@dataclass(frozen=True)
class Object:
    """One object of p2vd: its path, its interface, and its properties as plain values."""

    path: str
    interface: str
    properties: Properties = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.properties[name]


class Client:
    """One connection to the bus."""

    def __init__(self, address: str = "", host: str = "", patience_s: float = _TIMEOUT_S) -> None:
        """On the system bus, that of `host`, or the bus at `address`.

        `patience_s`: how long to wait for what takes p2vd no time.
        """
        self._address = address
        self._host = host
        self._patience_s = patience_s

    @cached_property
    def connection(self) -> Any:
        """The connection, made when it is first used: some commands need no bus. Raises CliError."""
        loop, host = DBusGMainLoop(), self._host
        address = bus_address(host) if host else self._address
        try:
            connection = (
                dbus.bus.BusConnection(address, mainloop=loop)
                if address
                else dbus.SystemBus(private=True, mainloop=loop)
            )
        except dbus.DBusException as error:
            if host:
                raise CliError(
                    f"Cannot reach the system bus of {host} by ssh ({error}). Try: ssh {host} "
                    "systemd-stdio-bridge --version",
                    Exit.NO_DAEMON,
                ) from error
            where = f"the bus at {address}" if address else "the system bus; see: systemctl status dbus"
            raise CliError(f"Cannot connect to {where} ({error}).", Exit.NO_DAEMON) from error
        connection.set_exit_on_disconnect(False)
        return connection

    def is_running(self) -> bool:
        """Whether p2vd is on the bus; starts nothing."""
        return bool(self.connection.name_has_owner(BUS_NAME))

    def objects(self, *, start: bool = True) -> tuple[Object, ...]:
        """Everything below the root. `start`: the bus may start p2vd for this. Raises CliError."""
        (found,) = self.call(ROOT, OBJECT_MANAGER, "GetManagedObjects", start=start)
        return tuple(
            Object(path, interface, properties)
            for path, own in sorted(found.items())
            for interface, properties in own.items()
            if interface in INTERFACES
        )

    def properties(self, path: str, interface: str) -> Properties:
        """All properties of one object. Raises CliError."""
        (values,) = self.call(path, PROPERTIES, "GetAll", "s", interface)
        return dict(values)

    def call(
        self,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        *arguments: object,
        start: bool = True,
        ask: bool = True,
    ) -> list[Any]:
        """Call a method and return its values as plain ones. Raises CliError.

        `start`: the bus may start p2vd for this; `ask`: polkit may ask the user for a password.
        """
        if self._host and _has_descriptor(arguments):
            raise CliError(
                f"{member} takes a file or a secret, which cannot be handed over ssh. "
                f"Run p2vctl on {self._host}.",
                Exit.USAGE,
            )
        message = MethodCallMessage(BUS_NAME, path, interface, member)
        message.set_auto_start(start)
        message.set_allow_interactive_authorization(ask)
        try:
            message.append(*arguments, signature=signature)
        except UnicodeEncodeError as error:
            raise CliError(
                f"{error.object!r} is not UTF-8, and p2vd knows nothing of such a name.", Exit.USAGE
            ) from error
        wait_s = _PERSON_ANSWERS_S if interface in INTERFACES else self._patience_s
        try:
            reply = self.connection.send_message_with_reply_and_block(message, wait_s)
        except dbus.DBusException as error:
            raise translate(error.get_dbus_name() or "", error.get_dbus_message()) from error
        return [plain(value) for value in reply.get_args_list()]

    def act(self, path: str, interface: str, member: str, **options: object) -> list[Any]:
        """Call a method that takes nothing but options. Raises CliError."""
        return self.call(path, interface, member, "a{sv}", make_options(options))


def _has_descriptor(value: object) -> bool:
    if isinstance(value, dict):
        return _has_descriptor(tuple(value.values()))
    if isinstance(value, list | tuple):
        return any(_has_descriptor(item) for item in value)
    return isinstance(value, dbus.types.UnixFd)


def repeated(call: Callable[[], T], is_passing: Callable[[CliError], bool]) -> T:
    """Return what `call` returns, asking again for a minute while its error passes by itself."""
    deadline_s = time.monotonic() + _PASSING_S
    while True:
        try:
            return call()
        except CliError as error:
            if not is_passing(error) or time.monotonic() > deadline_s:
                raise
        time.sleep(_AGAIN_S)


def make_options(options: Mapping[str, object]) -> Any:
    """Return `options` as a{sv}; `_` in names stands for `-`."""
    return dbus.Dictionary({name.replace("_", "-"): value for name, value in options.items()}, signature="sv")


def plain(value: Any) -> Any:
    """Return a D-Bus value as Python's own: what json can write."""
    if isinstance(value, dbus.Boolean):
        return bool(value)
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    return value


_HINTS = {
    "NotAuthorized": "Run p2vctl as root.",
    "Failed": "The log may say more: journalctl -u p2vd",
    "PolicyInvalid": "Correct the files, then: p2vctl reload",
}
_ABSENT = (
    "org.freedesktop.DBus.Error.ServiceUnknown",
    "org.freedesktop.DBus.Error.NameHasNoOwner",
    "org.freedesktop.DBus.Error.Spawn.",
    "org.freedesktop.DBus.Error.TimedOut",
    "org.freedesktop.systemd1.",
)
_GONE = (
    "org.freedesktop.DBus.Error.NoReply",
    "org.freedesktop.DBus.Error.Disconnected",
)


def translate(name: str, message: str) -> CliError:
    """Return the error that a D-Bus error is to a person at a terminal."""
    if name.startswith(ERROR_PREFIX):
        short = name.removeprefix(ERROR_PREFIX)
        status = Exit.NOT_AUTHORIZED if short == "NotAuthorized" else Exit.REFUSED
        hint = _HINTS.get(short, "")
        if not hint or hint in message:
            return CliError(message, status, short)
        end = "" if message.endswith((".", "!", "?")) else "."
        return CliError(f"{message}{end} {hint}", status, short)
    if name.startswith(_ABSENT):
        return CliError(f"p2vd does not run. Start it: systemctl start p2vd ({message})", Exit.NO_DAEMON)
    if name.startswith(_GONE):
        return CliError(
            "p2vd did not answer. Whether it did what was asked shows: p2vctl jobs. "
            "Why, says: systemctl status p2vd",
            Exit.NO_DAEMON,
        )
    if name == "org.freedesktop.DBus.Error.AccessDenied":
        return CliError(
            f"The bus does not let this user talk to p2vd ({message}). Run p2vctl as root.",
            Exit.NOT_AUTHORIZED,
        )
    if name == "org.freedesktop.DBus.Error.UnknownObject":
        return CliError("That object has just gone. See what is there: p2vctl jobs, p2vctl sources")
    return CliError(f"p2vd does not understand p2vctl ({message}). Are both of one version?")
