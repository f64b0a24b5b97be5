"""Which jobs work at once: no limit is exceeded, nobody among equals waits for ever, and each knows why."""

from collections import Counter
from dataclasses import replace
from itertools import count
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from p2vd.model.limits import Limits
from p2vd.planning.schedule import Kind, Resource, Schedule, Work, schedule

VG = Resource(Kind.VOLUME_GROUP, "vg-uuid", "vg_san")
A, B = (Resource(Kind.ARRAY, f"iqn.{name}") for name in "ab")
P = Resource(Kind.PORTAL, "10.0.0.1:3260")


def work(job: str, *uses: Resource, priority: int = 0) -> Work:
    return Work(job, frozenset(uses), priority)


def reasons(found: Schedule) -> dict[str, str]:
    return {each.job: each.reason for each in found.waiting}


def test_without_limits_all_work() -> None:
    assert schedule([], [work("1", VG), work("2", VG)], Limits()) == Schedule(("1", "2"))


def test_the_oldest_come_first_and_the_others_have_their_place() -> None:
    found = schedule([], [work(name) for name in "1234"], Limits(in_all=2))
    assert found.running == ("1", "2")
    assert [(each.job, each.place) for each in found.waiting] == [("3", 1), ("4", 2)]
    assert reasons(found)["3"] == "2 jobs work already (max_jobs = 2)."


@pytest.mark.parametrize(
    ("limits", "shared", "reason"),
    [
        (
            Limits(per_volume_group=1),
            VG,
            "The volume group vg_san has 1 at work already (limits.per_volume_group = 1).",
        ),
        (Limits(per_array=1), A, "The array iqn.a has 1 at work already (limits.per_array = 1)."),
        (Limits(per_portal=1), P, "The portal 10.0.0.1:3260 has 1 at work already (limits.per_portal = 1)."),
    ],
)
def test_each_limit_names_itself_and_lets_others_pass(limits: Limits, shared: Resource, reason: str) -> None:
    found = schedule([work("1", shared)], [work("2", shared), work("3")], limits)
    assert found.running == ("1", "3")
    assert reasons(found) == {"2": reason}


def test_all_that_a_job_lacks_is_told() -> None:
    found = schedule([work("1", VG, A)], [work("2", VG, A)], Limits(1, 1, 1))
    assert reasons(found)["2"].count("already") == 3


def test_the_higher_priority_comes_first_but_stops_nobody() -> None:
    waiting = [work("old"), work("urgent", priority=10), work("later", priority=-1)]
    assert schedule([], waiting, Limits(in_all=1)).running == ("urgent",)
    found = schedule([work("at work", priority=-9)], waiting, Limits(in_all=1))
    assert found.running == ("at work",)
    assert [each.job for each in found.waiting] == ["urgent", "old", "later"]


def test_a_lowered_limit_holds_the_last_ones_at_the_head_of_the_queue() -> None:
    running = [work("1"), work("2"), work("3", priority=1)]
    found = schedule(running, [work("4")], Limits(in_all=2))
    assert found.running == ("3", "1")
    assert [each.job for each in found.waiting] == ["2", "4"]


def test_what_the_next_in_line_needs_is_kept_for_it() -> None:
    """Else jobs of one array each could take turns, and one of both would wait for ever."""
    found = schedule([work("1", A)], [work("both", A, B), work("2", B), work("3")], Limits(per_array=1))
    assert found.running == ("1", "3")
    assert reasons(found)["2"] == "The array iqn.b is kept for a job before this one (limits.per_array = 1)."


def test_only_for_the_next_in_line_it_is_kept() -> None:
    """Those behind it cannot start before it anyhow: what they need may be used meanwhile."""
    waiting = [work("next", A), work("behind", A, B), work("2", B)]
    assert schedule([work("1", A)], waiting, Limits(per_array=1)).running == ("1", "2")


LIMITS = st.builds(Limits, *[st.integers(0, 3)] * 4)
USES = st.frozensets(st.sampled_from([VG, replace(VG, id="vg2"), A, B, P]), max_size=4)


def used(works: list[Work]) -> Counter[Resource]:
    return Counter(resource for each in works for resource in each.uses)


def exceeded(works: list[Work], limits: Limits) -> bool:
    by_kind = {
        Kind.VOLUME_GROUP: limits.per_volume_group,
        Kind.ARRAY: limits.per_array,
        Kind.PORTAL: limits.per_portal,
    }
    over = any(0 < by_kind[each.kind] < count for each, count in used(works).items())
    return over or 0 < limits.in_all < len(works)


@given(st.lists(st.builds(Work, st.just(""), USES, st.integers(-1, 1)), max_size=12), st.data(), LIMITS)
def test_every_job_is_placed_once_none_is_left_idle_without_cause(
    works: list[Work], data: st.DataObject, limits: Limits
) -> None:
    named = [replace(each, job=str(number)) for number, each in enumerate(works)]
    cut = data.draw(st.integers(0, len(named)))
    found = schedule(named[:cut], named[cut:], limits)
    assert found == schedule(named[:cut], named[cut:], limits)
    held = [each.job for each in found.waiting]
    assert sorted([*found.running, *held]) == sorted(each.job for each in named)
    assert not exceeded([each for each in named if each.job in found.running], limits)
    assert [each.place for each in found.waiting] == list(range(1, len(held) + 1))
    assert all(each.reason for each in found.waiting)
    first = next((each for each in named if held and each.job == held[0]), None)
    if first is not None:  # the head of the queue waits only for what is really taken
        assert exceeded([*(each for each in named if each.job in found.running), first], limits)


class Host(RuleBasedStateMachine):
    """Jobs come, end, are cancelled and held in any order; limits hold at each moment."""

    def __init__(self) -> None:
        super().__init__()
        self.limits = Limits(2, 2, 1, 1)
        self.jobs: dict[str, Work] = {}  # oldest first
        self.held: set[str] = set()
        self.running: tuple[str, ...] = ()
        self.born = 0

    def decide(self) -> None:
        ready = [each for name, each in self.jobs.items() if name not in self.held]
        at_work = [each for each in ready if each.job in self.running]
        found = schedule(at_work, [each for each in ready if each not in at_work], self.limits)
        assert set(self.running) & {each.job for each in ready} <= set(found.running), "one was stopped"
        self.running = found.running

    @rule(uses=USES, priority=st.integers(0, 1))
    def come(self, uses: frozenset[Resource], priority: int) -> None:
        self.born += 1
        self.jobs[str(self.born)] = Work(str(self.born), uses, priority)
        self.decide()

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        del self.jobs[data.draw(st.sampled_from(self.running))]
        self.decide()

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.jobs)))
        self.held.discard(name)
        del self.jobs[name]
        self.decide()

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def hold_or_release(self, data: st.DataObject) -> None:
        self.held ^= {data.draw(st.sampled_from(sorted(self.jobs)))}
        self.decide()

    @invariant()
    def no_limit_is_exceeded(self) -> None:
        assert not exceeded([self.jobs[name] for name in self.running if name in self.jobs], self.limits)


Host.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestHost = Host.TestCase


# Few kinds of jobs, so that those that take turns at what another needs at once are among them.
FEW = st.frozensets(st.sampled_from([A, B]), max_size=2)


@given(st.lists(FEW, min_size=1, max_size=4), FEW, st.integers(0, 6), st.randoms(use_true_random=False))
def test_nobody_among_equals_waits_for_ever(
    kinds: list[frozenset[Resource]], uses: frozenset[Resource], earlier: int, random: Random
) -> None:
    """However many come later: one starts by the time that each job before it could have run once."""
    limits = Limits(3, 2, 1, 1)
    numbers = count()

    def newcomer() -> Work:
        number = next(numbers)
        return Work(f"job {number}", kinds[number % len(kinds)])

    jobs = [*(newcomer() for _ in range(earlier)), Work("patient", uses), newcomer(), newcomer()]
    running: tuple[str, ...] = ()

    def decide() -> tuple[str, ...]:
        at_work = [each for each in jobs if each.job in running]
        return schedule(at_work, [each for each in jobs if each not in at_work], limits).running

    running = decide()
    for _ in range(earlier + 1):
        # In a round all that work end, in any order, and as many come as end.
        for ended in random.sample(running, len(running)):
            if "patient" in running:
                return
            jobs = [*(each for each in jobs if each.job != ended), newcomer()]
            running = decide()
    assert "patient" in running
