"""Calls that must all be refused: made from the XML and a seed, and sent past a client library's checks."""

import os
import random
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gi.repository import Gio, GLib

from p2vd.bus.introspection import Method, interfaces
from p2vd.bus.names import BUS_NAME, INTERFACES, JOB, MACHINE, MANAGER, PROPERTIES, ROOT
from tests.bus.harness import PATIENCE_S

STANDARD = "org.freedesktop.DBus.Error."
STANDARD_NAMES = frozenset(
    STANDARD + name
    for name in (
        "InvalidArgs",
        "UnknownInterface",
        "UnknownMethod",
        "UnknownObject",
        "UnknownProperty",
        "PropertyReadOnly",
    )
)

_HOSTILE = (
    "",
    " ",
    "../../../etc/shadow",
    "a\u2603b",
    "%s%n{0}{problem}",
    "'; DROP TABLE jobs; --",
    "x\n\nSIMULATION\x1b[2J",
    "\u202egnp.exe",
    "@" * 300,
    "[fe80::1%25",
    "999.1.2.3:99999",
    "-o exec",
)
_BASIC = ("b", "y", "n", "q", "i", "u", "x", "t", "d", "s", "o", "g")
_TYPES = (*_BASIC, "v", "as", "ay", "ao", "a{sv}", "a{ss}", "(ss)", "aa{sv}", "a(sss)", "h")


@dataclass
class Sent:
    """A call: whom it is to, what it says, and with which descriptors."""

    path: str
    interface: str
    member: str
    body: Any
    descriptors: Sequence[int] = ()
    reads: bool = False

    def __str__(self) -> str:
        return f"{self.interface}.{self.member} of {self.path} with {self.body.print_(True)[:300]}"


@dataclass
class Fuzzer:
    """Makes calls that p2vd must refuse, whatever it is asked. `targets`: objects with their interfaces.

    `gone`: paths that were objects once.
    """

    seed: int
    targets: Mapping[str, Sequence[str]]
    gone: Sequence[str]
    chance: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)

    def calls(self, count: int) -> Iterator[Sent]:
        """Yield so many; the same ones for a seed."""
        kinds: list[Callable[[], Sent]] = [
            self._wrong_types,
            self._wrong_types,
            self._unknown_option,
            self._option_of_wrong_type,
            self._hostile,
            self._hostile,
            self._no_such_object,
            self._no_such_member,
            self._properties,
            self._descriptor,
        ]
        for _ in range(count):
            yield self.chance.choice(kinds)()

    # ---- kinds of calls ----------------------------------------------------------------------

    def _method(self) -> tuple[str, str, Method]:
        path = self.chance.choice(list(self.targets))
        interface = self.chance.choice([name for name in self.targets[path] if interfaces()[name].methods])
        return path, interface, self.chance.choice(list(interfaces()[interface].methods.values()))

    def _wrong_types(self) -> Sent:
        path, interface, method = self._method()
        while True:
            types = [self.chance.choice(_TYPES) for _ in range(self.chance.randrange(5))]
            if "".join(types) != method.in_signature:
                return Sent(path, interface, method.name, _tuple(types, map(self._value, types)))

    def _arguments(self, method: Method) -> tuple[list[str], list[Any]]:
        """Well-typed arguments but for the options, all of them nonsense."""
        types = complete(method.in_signature)[:-1]
        return types, [self._value(kind) for kind in types]

    def _unknown_option(self) -> Sent:
        path, interface, method = self._method()
        types, values = self._arguments(method)
        options = {self._text() or "?": self._variant() for _ in range(self.chance.randint(1, 4))}
        if any(name in method.options or name == "auth.no_user_interaction" for name in options):
            options["colour"] = self._variant()
        return Sent(path, interface, method.name, _tuple([*types, "a{sv}"], [*values, options]))

    def _option_of_wrong_type(self) -> Sent:
        path, interface, method = self._method()
        types, values = self._arguments(method)
        known = {**method.options, "auth.no_user_interaction": "b"}
        name = self.chance.choice(list(known))
        others = [kind for kind in _TYPES if kind != "v" and _class(kind) != _class(known[name])]
        wrong = self.chance.choice(others)
        options = {name: GLib.Variant(wrong, self._value(wrong))}
        return Sent(path, interface, method.name, _tuple([*types, "a{sv}"], [*values, options]))

    def _hostile(self) -> Sent:
        """Right types, and values that mean nothing."""
        path, interface, member, types, values = self.chance.choice(self._hostiles())
        declared = interfaces()[interface].methods[member]
        return Sent(path, interface, member, _tuple(types, values), reads=declared.reads)

    def _hostiles(self) -> list[tuple[str, str, str, list[str], list[Any]]]:
        text, nothing = self._text() or "\u2603", dict[str, Any]()
        words = [self._text() or "\u2603" for _ in range(self.chance.choice((1, 3, 200)))]
        calls: list[tuple[str, str, str, list[str], list[Any]]] = [
            (ROOT, MANAGER, "Plan", ["as", "a{sv}"], [words, {"name": GLib.Variant("s", text)}]),
            (ROOT, MANAGER, "Plan", ["as", "a{sv}"], [[], {"machine": GLib.Variant("s", text)}]),
            (ROOT, MANAGER, "Migrate", ["s", "a{sv}"], [text, nothing]),
            (ROOT, MANAGER, "GetPolicyMatches", ["s", "a{sv}"], [text, nothing]),
            (ROOT, MANAGER, "AddPortal", ["s", "a{sv}"], [f"\u2603{text}", nothing]),
            (ROOT, MANAGER, "RemovePortal", ["s", "a{sv}"], [text, nothing]),
            (ROOT, MANAGER, "GuessMachine", ["as", "a{sv}"], [words, nothing]),
            (ROOT, MANAGER, "GetReceipt", ["s", "a{sv}"], [text, nothing]),
            (ROOT, MANAGER, "FindReceipts", ["s", "a{sv}"], [text, nothing]),
            (ROOT, MANAGER, "Rescan", ["a{sv}"], [{"scsi": GLib.Variant("s", f"\u2603{text}")}]),
        ]
        target = {"target": GLib.Variant("s", f"\u2603{text}")}
        for path, own in self.targets.items():
            if JOB in own:
                calls += [(path, JOB, verb, ["a{sv}"], [nothing]) for verb in ("Pause", "Retry")]
                calls.append((path, JOB, "Cancel", ["a{sv}"], [target]))
            if MACHINE in own:
                wishes = ({"timeout": GLib.Variant("u", 0)}, {"expect": GLib.Variant("s", "(")})
                calls += [(path, MACHINE, "BootTest", ["a{sv}"], [wish]) for wish in wishes]
                calls.append((path, MACHINE, "Cutover", ["a{sv}"], [nothing]))
                calls.append((path, MACHINE, "Cancel", ["a{sv}"], [target]))
        return calls

    def _no_such_object(self) -> Sent:
        """Paths that never were, and replays of what once was right."""
        interface = self.chance.choice(INTERFACES)
        method = self.chance.choice(list(interfaces()[interface].methods.values()))
        types, values = self._arguments(method)
        path = self.chance.choice([*self.gone, f"{ROOT}/{self._label()}", f"{ROOT}/job/{self._label()}", "/"])
        return Sent(path, interface, method.name, _tuple([*types, "a{sv}"], [*values, {}]))

    def _no_such_member(self) -> Sent:
        path = self.chance.choice(list(self.targets))
        interface = self.chance.choice([*INTERFACES, "org.p2vd2.Manager", "a.b"])
        member = self.chance.choice(["Destroy", "plan", "X" * 200, "Get"])
        return Sent(path, interface, member, _tuple(["a{sv}"], [{}]))

    def _properties(self) -> Sent:
        path = self.chance.choice(list(self.targets))
        interface = self.chance.choice([*self.targets[path], "org.example.Nothing"])
        name = self.chance.choice([*interfaces()[interface].properties, "x"]) if "p2vd" in interface else "x"
        if self.chance.random() < 0.5:
            return Sent(path, PROPERTIES, "Set", _tuple(["s", "s", "v"], [interface, name, self._variant()]))
        return Sent(path, PROPERTIES, "Get", _tuple(["s", "s"], [interface, self._text() + "?"]))

    def _descriptor(self) -> Sent:
        """Descriptors that are no record, and handles of descriptors that nobody sent."""
        if self.chance.random() < 0.3:
            number = self.chance.choice((0, 1, 7, 1 << 30))
            return Sent(ROOT, MANAGER, "ImportMachine", _tuple(["h", "a{sv}"], [number, {}]))
        with tempfile.TemporaryFile() as file:
            file.write(self.chance.randbytes(self.chance.choice((0, 10, 5000))) + b"\xff{")
            file.seek(0)
            kind = self.chance.choice(("file", "/", "/dev/null"))
            opened = os.dup(file.fileno()) if kind == "file" else os.open(kind, os.O_RDONLY)
        return Sent(ROOT, MANAGER, "ImportMachine", _tuple(["h", "a{sv}"], [0, {}]), (opened,))

    # ---- values ------------------------------------------------------------------------------

    def _text(self) -> str:
        choose = self.chance.random()
        if choose < 0.02:
            return "\u2603" * self.chance.choice((1 << 12, 1 << 18))
        if choose < 0.6:
            return self.chance.choice(_HOSTILE)
        return "".join(chr(self.chance.randrange(1, 0xD800)) for _ in range(self.chance.randrange(20)))

    def _label(self) -> str:
        return "".join(self.chance.choice("abcXYZ019_") for _ in range(self.chance.randint(1, 60)))

    def _variant(self, depth: int = 0) -> Any:
        if depth < 20 and self.chance.random() < 0.3:
            return GLib.Variant("v", self._variant(depth + 1))
        kind = self.chance.choice(_BASIC)
        return GLib.Variant(kind, self._value(kind))

    def _value(self, kind: str) -> Any:
        match kind:
            case "s":
                return self._text()
            case "b":
                return self.chance.random() < 0.5
            case "d":
                return self.chance.choice((float("nan"), float("inf"), -1.5e300, 0.0))
            case "o":
                return f"{ROOT}/{self._label()}"
            case "g":
                return self.chance.choice(("", "a{sv}", "((((s))))"))
            case "v":
                return self._variant()
            case "a{sv}":
                return {self._text(): self._variant() for _ in range(self.chance.randrange(3))}
            case "a{ss}":
                return {self._text(): self._text()}
            case "(ss)" | "(sss)":
                return tuple(self._text() for _ in kind[1:-1])
            case "ay":
                return self.chance.randbytes(self.chance.choice((0, 3, 70_000)))
            case "h":
                return self.chance.randrange(3)
        if kind.startswith("a"):
            return [self._value(kind[1:]) for _ in range(self.chance.choice((0, 1, 50)))]
        bits, signed = _INTEGERS[kind]
        return self.chance.choice((0, 1, (1 << (bits - signed)) - 1, -(1 << (bits - 1)) if signed else 2))


_INTEGERS = {"y": (8, 0), "n": (16, 1), "q": (16, 0), "i": (32, 1), "u": (32, 0), "x": (64, 1), "t": (64, 0)}

# Alike for an option: p2vd tells a text from a whole number, not a u from a t.
_CLASSES = ("ynqiuxt", "sog", "d", "b", "h")


def _class(kind: str) -> str:
    return next((alike for alike in _CLASSES if kind in alike), kind[0])


def complete(signature: str) -> list[str]:
    """Split a signature into its complete types."""
    types = []
    while signature:
        length = 1
        while not GLib.VariantType.string_is_valid(signature[:length]):
            length += 1
        types.append(signature[:length])
        signature = signature[length:]
    return types


def _tuple(types: Sequence[str], values: Any) -> Any:
    return GLib.Variant("(" + "".join(types) + ")", tuple(values))


class Sender:
    """Sends calls by GDBus, which checks less than libdbus; returns the error's name, "" for an answer."""

    def __init__(self, address: str) -> None:
        flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
        self._connection = Gio.DBusConnection.new_for_address_sync(address, flags, None, None)

    def send(self, call: Sent) -> tuple[str, str]:
        """Call, and return the name and the sentence of the error."""
        descriptors = Gio.UnixFDList()
        for descriptor in call.descriptors:
            descriptors.append(descriptor)
            os.close(descriptor)
        try:
            self._connection.call_with_unix_fd_list_sync(
                BUS_NAME,
                call.path,
                call.interface,
                call.member,
                call.body,
                None,
                Gio.DBusCallFlags.NONE,
                PATIENCE_S * 1000,
                descriptors if call.descriptors else None,
                None,
            )
        except GLib.Error as error:
            return str(Gio.DBusError.get_remote_error(error) or "none"), str(error.message)
        return "", ""

    def close(self) -> None:
        self._connection.close_sync(None)


class RawBus:
    """A connection to the bus made of bytes: for messages that no library would make."""

    def __init__(self, address: str) -> None:
        path = next(part[len("unix:path=") :] for part in address.split(",") if part.startswith("unix:path="))
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(path)
        self.socket.sendall(b"\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode() + b"\r\n")
        assert self.socket.recv(200).startswith(b"OK")
        self.socket.sendall(b"BEGIN\r\n")
        self.send(bus_call("Hello"))
        self.socket.recv(4096)

    def send(self, message: bytes) -> None:
        self.socket.sendall(message)

    def hear(self, seconds: float) -> bytes:
        """What comes within that time; b"" where the bus hung up."""
        self.socket.settimeout(seconds)
        try:
            return self.socket.recv(65536)
        except TimeoutError:
            return b"nothing"
        except ConnectionError:
            return b""

    def close(self) -> None:
        self.socket.close()


def blob(
    destination: str, path: str, interface: str, member: str, body: Any = None, serial: int = 1
) -> bytes:
    """A method call as it goes over the wire."""
    message = Gio.DBusMessage.new_method_call(destination, path, interface, member)
    if body is not None:
        message.set_body(body)
    message.set_serial(serial)
    return bytes(message.to_blob(Gio.DBusCapabilityFlags.NONE))


def bus_call(member: str, body: Any = None, serial: int = 1) -> bytes:
    """A call of the bus itself."""
    name = "org.freedesktop.DBus"
    return blob(name, "/org/freedesktop/DBus", name, member, body, serial)


def mutated(message: bytes, chance: random.Random) -> bytes:
    """A message with bytes that are not UTF-8, or some that flipped."""
    marker = message.find(b"@@@@")
    if marker >= 0 and chance.random() < 0.5:
        return message.replace(b"@@@@", b"\xff\xfe\x80"[: chance.randint(1, 3)].ljust(4, b"\xc0"))
    flipped = bytearray(message)
    for _ in range(chance.randint(1, 4)):
        flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
    return bytes(flipped)
