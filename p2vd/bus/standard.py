"""Introspectable, Properties and ObjectManager, answered from the tree."""

from typing import Any

from p2vd.bus.introspection import interfaces
from p2vd.bus.names import INTROSPECTABLE, OBJECT_MANAGER, PROPERTIES, ROOT
from p2vd.bus.tree import ObjectTree
from p2vd.bus.wire import Variant, encode_properties

_PREFIX = "org.freedesktop.DBus.Error."
_TEXTS = 2  # what a Set has behind them may be anything, and is not looked at
_SIGNATURES = {
    (INTROSPECTABLE, "Introspect"): "",
    (PROPERTIES, "Get"): "ss",
    (PROPERTIES, "GetAll"): "s",
    (PROPERTIES, "Set"): "ssv",
    (OBJECT_MANAGER, "GetManagedObjects"): "",
}


class StandardError(Exception):
    """An error that the D-Bus specification names."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = _PREFIX + name

    @classmethod
    def unknown_object(cls, path: str) -> "StandardError":
        """There is nothing at that path now."""
        return cls("UnknownObject", f"There is no object {path}.")

    @classmethod
    def unknown_method(cls, interface: str, name: str) -> "StandardError":
        """The object has no such method."""
        return cls("UnknownMethod", f"There is no method {interface}.{name} here.")

    @classmethod
    def invalid_args(cls, message: str) -> "StandardError":
        """The arguments' types are wrong."""
        return cls("InvalidArgs", message)


def arguments_of(message: Any) -> list[Any]:
    """Return a message's arguments. Raises StandardError where it has no descriptor that it speaks of."""
    try:
        return list(message.get_args_list())
    except ValueError as error:  # dbus-python's: "invalid file descriptor in message"
        raise StandardError.invalid_args(f"The arguments cannot be read: {error}.") from error


def answer_standard(tree: ObjectTree, message: Any) -> tuple[str, tuple[object, ...]] | None:
    """Answer a call of a standard interface: the reply's signature and values.

    None where it is another interface's call. Raises StandardError.
    """
    interface, member = message.get_interface(), message.get_member()
    if interface is None:  # the specification lets a caller leave it out
        interface = next((name for name, known in _SIGNATURES if known == member), None)
    wanted = _SIGNATURES.get((interface, member))
    if wanted is None:
        return None
    if message.get_signature() != wanted:
        raise StandardError.invalid_args(f"{member} takes ({wanted})")
    path, arguments = message.get_path(), [str(item) for item in arguments_of(message)[:_TEXTS]]
    if interface == INTROSPECTABLE:
        xml = tree.introspect(path)
        if xml is None:
            raise StandardError.unknown_object(path)
        return "s", (xml,)
    if interface == OBJECT_MANAGER:
        if path != ROOT:
            raise StandardError.unknown_method(interface, member)
        return "a{oa{sa{sv}}}", (tree.managed(),)
    return _properties(tree, path, member, arguments)


def _properties(
    tree: ObjectTree, path: str, member: str, arguments: list[str]
) -> tuple[str, tuple[object, ...]]:
    values = tree.get(path)
    if values is None:
        raise StandardError.unknown_object(path)
    interface = arguments[0]
    if member == "GetAll" and interface == "":
        every = {name: value for own in values for name, value in _typed(own, values[own]).items()}
        return "a{sv}", (every,)
    if interface not in values:
        if member == "GetAll" and interface.startswith("org.freedesktop.DBus."):
            return "a{sv}", ({},)
        raise StandardError("UnknownInterface", f"{path} has no interface {interface}.")
    if member == "GetAll":
        return "a{sv}", (_typed(interface, values[interface]),)
    name = arguments[1]
    if name not in values[interface]:
        raise StandardError("UnknownProperty", f"{interface} has no property {name}.")
    if member == "Set":
        raise StandardError("PropertyReadOnly", f"{interface}.{name} cannot be set.")
    return "v", (_typed(interface, values[interface])[name],)


def _typed(interface: str, values: dict[str, object]) -> dict[str, Variant]:
    return encode_properties(interfaces()[interface].properties, values)
