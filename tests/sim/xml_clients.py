"""Two clients of p2vd that know nothing of it but its XML: GDBus' types from the installed files, as the code
that gdbus-codegen makes has them, and dbus-python's from what the daemon says of itself (Introspect)."""

from importlib.resources import files
from typing import Any, Protocol

import dbus
from dbus.mainloop.glib import DBusGMainLoop
from gi.repository import Gio, GLib

from p2vd.bus.names import BUS_NAME, INTERFACES, PROPERTIES
from tests.bus.harness import PATIENCE_S


class RemoteError(Exception):
    """A call was answered by an error: its full name."""

    def __init__(self, name: str, sentence: str) -> None:
        super().__init__(f"{name}: {sentence}")
        self.name = name


class XmlClient(Protocol):
    """What both can do."""

    def call(self, path: str, interface: str, method: str, *arguments: Any) -> tuple[Any, ...]:
        """Call with plain values, typed by the XML; returns plain values. Raises RemoteError."""
        ...

    def properties(self, path: str, interface: str) -> dict[str, Any]:
        """All properties, of the types that the XML says."""
        ...

    def close(self) -> None: ...


class GdbusClient:
    """By GDBus. An answer or a property of another type than the XML's is an error of GDBus itself."""

    def __init__(self, address: str) -> None:
        flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
        self._connection = Gio.DBusConnection.new_for_address_sync(address, flags, None, None)
        self._types: dict[str, Any] = {}
        folder = files("p2vd.bus").joinpath("interfaces")
        self._nodes = [  # interfaces live as long as their node
            Gio.DBusNodeInfo.new_for_xml(folder.joinpath(f"{name}.xml").read_text()) for name in INTERFACES
        ]
        for node in self._nodes:
            self._types |= {interface.name: interface for interface in node.interfaces}

    def _proxy(self, path: str, interface: str) -> Any:
        return Gio.DBusProxy.new_sync(
            self._connection,
            Gio.DBusProxyFlags.DO_NOT_CONNECT_SIGNALS | Gio.DBusProxyFlags.DO_NOT_LOAD_PROPERTIES,
            self._types[interface],
            BUS_NAME,
            path,
            interface,
            None,
        )

    def call(self, path: str, interface: str, method: str, *arguments: Any) -> tuple[Any, ...]:
        wanted = self._types[interface].lookup_method(method).in_args
        descriptors = Gio.UnixFDList()
        values = []
        for declared, value in zip(wanted, arguments, strict=True):
            if declared.signature == "a{sv}":
                value = {key: _variant(item) for key, item in value.items()}
            values.append(descriptors.append(value) if declared.signature == "h" else value)
        signature = "(" + "".join(declared.signature for declared in wanted) + ")"
        try:
            answer, _ = self._proxy(path, interface).call_with_unix_fd_list_sync(
                method,
                GLib.Variant(signature, tuple(values)),
                Gio.DBusCallFlags.NONE,
                PATIENCE_S * 1000,
                descriptors,
                None,
            )
        except GLib.Error as error:
            name = Gio.DBusError.get_remote_error(error)
            if not name:
                raise
            raise RemoteError(name, error.message) from error
        return tuple(answer.unpack())

    def properties(self, path: str, interface: str) -> dict[str, Any]:
        answer = self._connection.call_sync(
            BUS_NAME,
            path,
            PROPERTIES,
            "GetAll",
            GLib.Variant("(s)", (interface,)),
            GLib.VariantType("(a{sv})"),
            Gio.DBusCallFlags.NONE,
            PATIENCE_S * 1000,
            None,
        )
        values = answer.get_child_value(0)
        found = {}
        for index in range(values.n_children()):
            entry = values.get_child_value(index)
            name, value = entry.get_child_value(0).unpack(), entry.get_child_value(1).get_variant()
            assert value.get_type_string() == self._types[interface].lookup_property(name).signature
            found[name] = value.unpack()
        return found

    def close(self) -> None:
        self._connection.close_sync(None)


class DbusPythonClient:
    """By dbus-python, which asks each object what it has."""

    def __init__(self, address: str) -> None:
        self._connection = dbus.bus.BusConnection(address, mainloop=DBusGMainLoop())

    def call(self, path: str, interface: str, method: str, *arguments: Any) -> tuple[Any, ...]:
        # dbus-python cannot guess the type of an empty dictionary in a variant; it has none here.
        proxy = self._connection.get_object(BUS_NAME, path)
        try:
            answer = proxy.get_dbus_method(method, interface)(*map(_typed, arguments), timeout=PATIENCE_S)
        except dbus.DBusException as error:
            raise RemoteError(str(error.get_dbus_name()), error.get_dbus_message()) from error
        if answer is None:
            return ()
        return tuple(answer) if isinstance(answer, tuple) else (answer,)

    def properties(self, path: str, interface: str) -> dict[str, Any]:
        (values,) = self.call(path, PROPERTIES, "GetAll", interface)
        return {str(name): value for name, value in values.items()}

    def close(self) -> None:
        self._connection.close()


def _variant(value: Any) -> Any:
    signature = {bool: "b", int: "t", float: "d", str: "s"}[type(value)]
    return GLib.Variant(signature, value)


def _typed(value: Any) -> Any:
    """Return options as dbus-python must have them: a whole number is a t, as for GDBus."""
    if isinstance(value, dict):
        return {
            key: dbus.UInt64(item) if type(item) is int else item for key, item in value.items()
        } or dbus.Dictionary({}, signature="sv")
    return value
