"""Calls as the audit has them: which are recorded, and what of them. Pure."""

from collections.abc import Mapping

from p2vd.bus.introspection import Method
from p2vd.bus.names import JOB, MACHINE, MANAGER, ROOT, SOURCE, object_id
from p2vd.model.audit import Json, Request, Subject
from p2vd.model.job import Caller

_PREFIX = "org.p2vd1."
_TEXT = 200  # characters of an argument: who sends more gets it cut, not recorded
_ITEMS = 50


def is_recorded(method: Method, action: str) -> bool:
    """Whether a call is a matter for the audit: all but what reads.

    `action` decides about this call: where an option asks for another than the method's own, it does more
    than read.
    """
    return bool(action) and not (method.reads and action == method.action)


def request_of(
    interface: str,
    method: Method,
    path: str,
    arguments: tuple[object, ...],
    options: Mapping[str, object],
    who: Caller,
) -> Request:
    """Return what somebody asks for. Descriptors, which may lead to secrets, are named and not read."""
    named = zip(method.arguments, arguments, strict=False)  # the last argument is the options
    told = {name: _json(value) for name, value in (*named, *options.items())}
    verb = f"{interface.removeprefix(_PREFIX)}.{method.name}"
    return Request(verb, who, _subject(interface, method.name, object_id(path), arguments), told)


def subject_after(interface: str, method: Method, values: tuple[object, ...]) -> Subject:
    """Return what the answer tells of the subject: the plan that was made, the machine that was begun."""
    if interface != MANAGER or not values:
        return Subject()
    if method.name == "Plan":
        return Subject(plan=str(values[0]))
    if method.out_signature == "o" and str(values[0]).startswith(f"{ROOT}/machine/"):
        return Subject(machine=object_id(str(values[0])))
    return Subject()


def _subject(interface: str, method: str, own: str, arguments: tuple[object, ...]) -> Subject:
    if interface == JOB:
        return Subject(job=own)
    if interface == MACHINE:
        return Subject(machine=own)
    if interface == SOURCE:
        return Subject(sources=(own,))
    if interface == MANAGER and method == "Verify":
        return Subject(job=_text(arguments[0]))
    if interface == MANAGER and method == "Migrate":
        return Subject(plan=_text(arguments[0]))
    if interface == MANAGER and method in ("StartWave", "CancelWave"):
        return Subject(plan=_text(arguments[0]))
    if interface == MANAGER and method == "Plan" and isinstance(arguments[0], list):
        return Subject(sources=tuple(_text(item) for item in arguments[0][:_ITEMS]))
    return Subject()


def _json(value: object) -> Json:
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [_json(item) for item in value[:_ITEMS]]
    if isinstance(value, str):
        return _text(value)
    return "(a descriptor)"


def _text(value: object) -> str:
    text = str(value)
    return text if len(text) <= _TEXT else text[:_TEXT] + "\u2026"
