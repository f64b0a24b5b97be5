"""The objects on the bus and the signals that tell of them. Used on the GLib thread only."""

from collections.abc import Callable, KeysView, Mapping
from dataclasses import dataclass, field
from typing import Any

from dbus.lowlevel import SignalMessage

from p2vd.bus.introspection import interfaces, node_xml, standard
from p2vd.bus.names import OBJECT_MANAGER, PROPERTIES, ROOT
from p2vd.bus.views import Properties
from p2vd.bus.views_work import COUNTERS
from p2vd.bus.wire import Variant, complete_types, encode, encode_properties

COUNTER_INTERVAL_S = 0.5

Interfaces = Mapping[str, Properties]


@dataclass
class _Entry:
    """`now`: what Get answers. `told`: what the signals said so far. Their values are never changed."""

    now: dict[str, Properties]
    told: dict[str, Properties]
    counters_told_s: float = float("-inf")
    timer: bool = field(default=False)


class ObjectTree:
    """Objects by path. `send` takes finished messages; `later` calls back after so many seconds."""

    def __init__(
        self,
        send: Callable[[Any], object],
        clock: Callable[[], float],
        later: Callable[[float, Callable[[], None]], None],
    ) -> None:
        self._send = send
        self._clock = clock
        self._later = later
        self._entries: dict[str, _Entry] = {}
        self.silent = True
        """Nobody can have asked yet, so nobody is told."""

    def paths(self) -> KeysView[str]:
        """Every object's path, as they are now: copy it before objects come or go."""
        return self._entries.keys()

    def get(self, path: str) -> Interfaces | None:
        """The interfaces of an object with the values of this moment."""
        entry = self._entries.get(path)
        return entry.now if entry else None

    def put(self, path: str, values: Interfaces) -> None:
        """Publish an object, or bring one up to date; announces exactly what is new about it."""
        now = {name: dict(properties) for name, properties in values.items()}
        entry = self._entries.get(path)
        if entry is not None:
            entry.now = {name: _shared(entry.told[name], properties) for name, properties in now.items()}
            self._tell(path, entry)
            return
        self._entries[path] = _Entry(now, dict(now))
        if path != ROOT and not self.silent:
            self.emit(ROOT, OBJECT_MANAGER, "InterfacesAdded", path, self._dictionary(now))

    def remove(self, path: str) -> None:
        """Take an object off the bus."""
        entry = self._entries.pop(path)
        self.emit(ROOT, OBJECT_MANAGER, "InterfacesRemoved", path, tuple(entry.now))

    def emit(self, path: str, interface: str, member: str, *values: object) -> None:
        """Send a signal that the XML declares."""
        if self.silent:
            return
        spec = standard().get(interface) or interfaces()[interface]
        message = SignalMessage(path, interface, member)
        append(message, spec.signals[member], values)
        self._send(message)

    def managed(self) -> dict[str, dict[str, dict[str, Variant]]]:
        """What GetManagedObjects answers: all below the root."""
        return {path: self._dictionary(entry.now) for path, entry in self._entries.items() if path != ROOT}

    def introspect(self, path: str) -> str | None:
        """XML of an object, or of a node on the way to one; None where there is neither."""
        prefix = path.rstrip("/") + "/"
        below = {known[len(prefix) :].split("/")[0] for known in self._entries if known.startswith(prefix)}
        values = self.get(path)
        if values is None and not below:
            return None
        return node_xml(values or (), below, is_root=path == ROOT)

    def _tell(self, path: str, entry: _Entry) -> None:
        now_s = self._clock()
        due_s = entry.counters_told_s + COUNTER_INTERVAL_S
        with_counters = now_s >= due_s
        for interface, properties in entry.now.items():
            told = entry.told[interface]
            changed = {name: value for name, value in properties.items() if told[name] != value}
            counters = changed.keys() & COUNTERS
            if counters and not with_counters:
                changed = {name: value for name, value in changed.items() if name not in counters}
                self._tell_counters_at(due_s - now_s, path, entry)
            elif counters:
                entry.counters_told_s = now_s
            if changed:
                whole = with_counters or not counters
                entry.told[interface] = properties if whole else {**told, **changed}
                types = interfaces()[interface].properties
                values = encode_properties(types, changed)
                self.emit(path, PROPERTIES, "PropertiesChanged", interface, values, ())

    def _tell_counters_at(self, delay_s: float, path: str, entry: _Entry) -> None:
        def due() -> None:
            entry.timer = False
            if self._entries.get(path) is entry:
                self._tell(path, entry)

        if not entry.timer:
            entry.timer = True
            self._later(delay_s, due)

    @staticmethod
    def _dictionary(values: Interfaces) -> dict[str, dict[str, Variant]]:
        return {
            name: encode_properties(interfaces()[name].properties, properties)
            for name, properties in values.items()
        }


def _shared(told: Properties, now: Properties) -> Properties:
    """Return `now` with the objects of `told` where they are equal: there are thousands, and none twice."""
    return {name: told[name] if told[name] == value else value for name, value in now.items()}


def append(message: Any, signature: str, values: tuple[object, ...]) -> None:
    """Put `values` of the types in `signature` into a message."""
    types = complete_types(signature)
    arguments = [encode(kind, value) for kind, value in zip(types, values, strict=True)]
    message.append(*arguments, signature=signature)
