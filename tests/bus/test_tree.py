"""Which signals are sent, and when: the tree with a clock that tests move."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from p2vd.bus import views_work
from p2vd.bus.names import JOB, object_path
from p2vd.bus.tree import ObjectTree
from p2vd.model.copying import Progress
from p2vd.model.job import Activity, Hold
from tests.bus import values

PATH = object_path(JOB, values.JOB_UUID)


class World:
    """Time, the timers that wait for it, and what was sent."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.sent: list[Any] = []
        self.tree = ObjectTree(self.sent.append, lambda: self.now_s, self.later)
        self.tree.silent = False

    def later(self, delay_s: float, function: Callable[[], None]) -> None:
        self.timers.append((self.now_s + delay_s, function))

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        due = [timer for timer in self.timers if timer[0] <= self.now_s]
        self.timers = [timer for timer in self.timers if timer not in due]
        for _, function in due:
            function()

    def put(self, copied: int, *holds: Hold) -> None:
        job = replace(values.job(), progress=Progress(bytes_copied=copied), holds=frozenset(holds))
        properties = views_work.job(job, Activity.RUNNING, "", 0)
        self.tree.put(PATH, {JOB: {**properties, "Progress": 0.0}})

    def changes(self) -> list[dict[str, object]]:
        """What PropertiesChanged said since the last look."""
        found = [dict(message.get_args_list()[1]) for message in self.sent]
        self.sent.clear()
        return found


@pytest.fixture
def world() -> World:
    made = World()
    made.put(0)
    assert [message.get_member() for message in made.sent] == ["InterfacesAdded"]
    made.sent.clear()
    return made


def test_nothing_new_is_not_told(world: World) -> None:
    world.put(0)
    assert world.changes() == []


def test_counters_are_told_twice_a_second_and_the_last_value_is_told(world: World) -> None:
    told = []
    for step in range(1, 101):  # ten seconds of news, ten times a second
        world.put(step)
        world.pass_time(0.1)
        told += world.changes()
    world.pass_time(0.5)
    told += world.changes()
    assert len(told) <= 21
    assert told[0] == {"BytesCopied": 1}
    assert told[-1] == {"BytesCopied": 100}


def test_what_matters_is_told_at_once_and_counters_keep_their_pace(world: World) -> None:
    world.put(1)
    world.put(2, Hold.USER)
    assert world.changes() == [{"BytesCopied": 1}, {"Holds": ["user"]}]
    world.pass_time(0.5)
    assert world.changes() == [{"BytesCopied": 2}]


def test_get_answers_the_newest_value_before_it_was_told(world: World) -> None:
    world.put(1)
    world.put(2)
    values_now = world.tree.get(PATH)
    assert values_now is not None
    assert values_now[JOB]["BytesCopied"] == 2


def test_a_job_that_left_is_not_told_of(world: World) -> None:
    world.put(1)
    world.put(2)
    world.tree.remove(PATH)
    world.sent.clear()
    world.pass_time(1)
    assert world.sent == []


def test_nodes_on_the_way_can_be_introspected(world: World) -> None:
    assert '<node name="org"/>' in (world.tree.introspect("/") or "")
    assert '<node name="job"/>' in (world.tree.introspect("/org/p2vd1") or "")
    assert world.tree.introspect("/org/p2vd1/none") is None
