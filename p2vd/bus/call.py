"""A call as its method gets it, and what the method gives back."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from p2vd.bus.collector import Topic
from p2vd.model.job import Caller


@dataclass(frozen=True)
class Call:
    """One call: of which object, with which arguments and options, by whom."""

    object_id: str
    arguments: tuple[object, ...]
    options: Mapping[str, object]
    caller: Caller


@dataclass(frozen=True)
class Answer:
    """What goes back, and what has to be read again before the caller hears of it."""

    values: tuple[object, ...] = ()
    changed: Collection[Topic] = ()
