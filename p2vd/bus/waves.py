"""Waves on the bus: a list of machines is taken in, and what becomes of them told."""

from collections.abc import Callable, Mapping

from p2vd.bus.call import Answer, Call
from p2vd.bus.collector import WORK
from p2vd.bus.names import MANAGER
from p2vd.bus.port import EnginePort
from p2vd.bus.wire import Variant, fits
from p2vd.bus.wire import plain as plain_value
from p2vd.model.codec import from_dict
from p2vd.model.errors import InvalidArgument
from p2vd.model.wave import Wave, WaveEntry, WaveItem

_KEYS = {"machine": "s", "sources": "as", "name": "s", "source-offline": "b", "priority": "i", "place": "s"}
_PRIORITY = range(-1000, 1001)  # as of a policy


def waves_methods(engine: EnginePort) -> Mapping[tuple[str, str], Callable[[Call], Answer]]:
    """Return the methods of the Manager for waves."""
    waves = engine.waves

    def plan(call: Call) -> Answer:
        (machines,) = call.arguments
        listed = machines if isinstance(machines, list) else []
        return Answer((view(waves.plan([entry(number, one) for number, one in enumerate(listed, 1)])),))

    def start(call: Call) -> Answer:
        at = call.options.get("at", 0)
        wave = waves.start(str(call.arguments[0]), at if isinstance(at, int) else 0, call.caller)
        return Answer((view(wave),), WORK)

    def cancel(call: Call) -> Answer:
        return Answer((view(waves.cancel(str(call.arguments[0]), call.caller)),))

    return {
        (MANAGER, "PlanWave"): plan,
        (MANAGER, "StartWave"): start,
        (MANAGER, "CancelWave"): cancel,
        (MANAGER, "GetWaves"): lambda _: Answer((tuple(view(wave) for wave in waves.all()),)),
    }


def entry(number: int, given: object) -> WaveEntry:
    """Return a machine of the list, the `number`th. Raises InvalidArgument that names it and the key."""
    if not isinstance(given, dict):
        raise InvalidArgument(f"machines, number {number}", "it is no dictionary.")
    told: dict[str, object] = {}
    for name, value in given.items():
        key = str(name)
        kind = _KEYS.get(key)
        if kind is None:
            raise InvalidArgument(f"machines, number {number}, {key}", f"known are: {', '.join(_KEYS)}.")
        if kind == "i":
            if isinstance(value, bool) or not isinstance(value, int) or int(value) not in _PRIORITY:
                raise InvalidArgument(f"machines, number {number}, {key}", "write a number, -1000 to 1000.")
            told[key] = int(value)
        elif not fits(kind, value):
            raise InvalidArgument(f"machines, number {number}, {key}", f"its D-Bus type is {kind}.")
        else:
            told[key.replace("-", "_")] = plain_value(kind, value)
    made = from_dict(WaveEntry, told)
    if not made.machine and not made.sources:
        raise InvalidArgument(f"machines, number {number}", "name its record by machine, or its sources.")
    return made


def view(wave: Wave) -> dict[str, Variant]:
    """A wave as a dictionary of the bus."""
    return {
        "Id": Variant("s", wave.id),
        "State": Variant("s", wave.state.value),
        "At": Variant("t", wave.at_us),
        "StartedBy": Variant("u", wave.started_by.uid),
        "Planned": Variant("t", wave.planned_us),
        "Machines": Variant("aa{sv}", tuple(_item(item) for item in wave.items)),
    }


def _item(item: WaveItem) -> dict[str, Variant]:
    started = item.machine_uuid if item.fate.value == "started" else ""
    return {
        "Name": Variant("s", item.name),
        "Place": Variant("s", item.entry.place),
        "Fate": Variant("s", item.fate.value),
        "Plan": Variant("s", item.plan_id),
        "Priority": Variant("i", item.priority),
        "Disks": Variant("u", item.disks),
        "Size": Variant("t", item.bytes_to_copy),
        "Targets": Variant("as", item.targets),
        "Reasons": Variant("as", tuple(reason.text for reason in item.reasons)),
        "Warnings": Variant("as", item.warnings),
        "Uuid": Variant("s", started),
    }
