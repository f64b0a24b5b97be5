"""A copy slows down while its source answers late, and is fast again after: by a clock that is told."""

import itertools
import threading
from collections.abc import Callable

import pytest

from p2vd.copying.controls import Controls, Gauge
from p2vd.copying.latency import LEAST_BYTES_PER_S, BackOff
from p2vd.copying.throttle import ChunkCredit, TokenBucket
from p2vd.model.duration import format_latency, parse_latency
from p2vd.model.size import MIB

BOUND_US = 20_000
FAST_S = 0.004


class Array:
    """A source and a copy of it, read after read. `took`: what one takes when so much is read a second."""

    def __init__(self, took: Callable[[float], float], bound_us: int = BOUND_US) -> None:
        self.now = 100.0
        self.took = took
        self.guard = BackOff(bound_us, self.now)
        self._bucket = TokenBucket(0, self.now)
        self.limits: list[int] = []

    def read_for(self, seconds: float) -> float:
        """Read for so long; return the bytes a second."""
        began, done = self.now, 0
        while self.now < began + seconds:
            self.now += self._bucket.delay(self.now)
            self._bucket.take(MIB)
            self.guard.taken(MIB)
            limit = self.guard.limit_bytes_per_s
            started = self.now
            self.now += self.took(limit or 250 * MIB)
            done += MIB
            if self.guard.note(started, self.now):
                self.limits.append(self.guard.limit_bytes_per_s)
                self._bucket.set_rate(self.guard.limit_bytes_per_s, self.now)
        return done / (self.now - began)


def always(seconds: float) -> Callable[[float], float]:
    return lambda _: seconds


def test_a_source_that_answers_in_time_is_never_slowed_down() -> None:
    array = Array(always(FAST_S))
    assert array.read_for(60) > 200 * MIB
    assert array.limits == []
    assert array.guard.latency_us == pytest.approx(4000, abs=1)


def test_without_a_bound_it_measures_and_no_more() -> None:
    array = Array(always(0.5), bound_us=0)
    array.read_for(60)
    assert (array.limits, array.guard.latency_us) == ([], 500_000)


def test_a_source_that_stays_late_is_read_ever_slower_but_never_left() -> None:
    array = Array(always(0.05))
    array.read_for(60)
    assert array.limits == sorted(array.limits, reverse=True)
    assert array.guard.limit_bytes_per_s == LEAST_BYTES_PER_S
    assert array.read_for(10) == pytest.approx(LEAST_BYTES_PER_S, rel=0.2)


def test_it_is_as_fast_as_before_once_the_others_are_gone() -> None:
    array = Array(always(FAST_S))
    before = array.read_for(10)
    array.took = always(0.1)
    array.read_for(30)
    assert array.guard.limit_bytes_per_s == LEAST_BYTES_PER_S
    array.took = always(FAST_S)
    array.read_for(40)
    assert array.guard.limit_bytes_per_s == 0
    assert array.read_for(10) == pytest.approx(before, rel=0.05)


def test_it_comes_back_in_steps() -> None:
    """All at once would be what made the source late."""
    array = Array(always(0.1))
    array.read_for(30)
    array.limits.clear()
    array.took = always(FAST_S)
    array.read_for(40)
    assert array.limits[-1] == 0
    rising = array.limits[:-1]
    assert all(low < high <= max(1.3 * low, low + MIB) for low, high in itertools.pairwise(rising))


def test_it_finds_what_the_source_has_to_spare() -> None:
    """In time up to 60 MiB a second, and late beyond."""
    array = Array(lambda rate: FAST_S if rate <= 60 * MIB else 0.03)
    array.read_for(60)
    assert 15 * MIB < array.read_for(120) < 90 * MIB


def test_between_calm_and_late_nothing_changes() -> None:
    array = Array(always(0.1))
    array.read_for(30)
    limit = array.guard.limit_bytes_per_s
    array.took = always(0.018)
    array.read_for(30)
    assert array.guard.limit_bytes_per_s == limit


def test_reads_that_were_under_way_say_nothing_of_a_decision() -> None:
    guard = BackOff(BOUND_US, 0.0)
    guard.taken(100 * MIB)
    assert guard.note(0.0, 1.5)
    halved = guard.limit_bytes_per_s
    for began in (0.5, 1.0, 1.4):
        assert not guard.note(began, 5.0)
    assert guard.limit_bytes_per_s == halved


class Ticking:
    """A clock that is a quarter of a second later whenever it is asked."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 0.25
        return self.now

    def now_us(self) -> int:
        return 0

    def sleep(self, seconds: float, until: threading.Event) -> bool:
        return until.is_set()


def test_the_controls_of_a_copy_take_it_from_the_reads_of_the_source() -> None:
    clock = Ticking()
    controls = Controls(clock, ChunkCredit(0), max_latency_us=BOUND_US)
    gauge = Gauge(clock, controls.source_answered)
    controls.throttle(64 * MIB)
    for _ in range(8):
        with gauge.io("read-back", 0):  # the target's
            pass
        with gauge.io("write", 0):
            pass
    assert (controls.read_latency_us, controls.slowed_bytes_per_s) == (0, 0)
    with gauge.io("read", 0):
        pass
    assert controls.read_latency_us == 250_000
    slowed = controls.slowed_bytes_per_s
    assert LEAST_BYTES_PER_S < slowed < 64 * MIB
    controls.throttle(8 * slowed)
    before = clock.now
    controls.throttle(MIB)
    assert clock.now - before > 4, "it waited for what was overdrawn"


def test_a_pause_says_nothing_of_the_source() -> None:
    clock = Ticking()
    controls = Controls(clock, ChunkCredit(0), max_latency_us=BOUND_US)
    controls.pause(True)
    controls.pause(False)
    controls.source_answered(0.0, clock.now + 60.0)
    assert controls.slowed_bytes_per_s == 0


@pytest.mark.parametrize(
    ("text", "time_us", "shown"),
    [
        ("20 ms", 20_000, "20 ms"),
        ("1.5s", 1_500_000, "1.5 s"),
        (" 800us ", 800, "800 us"),
        ("60 s", 60_000_000, "60 s"),
    ],
)
def test_a_latency_is_read_and_written(text: str, time_us: int, shown: str) -> None:
    assert parse_latency(text) == time_us
    assert format_latency(time_us) == shown


@pytest.mark.parametrize("text", ["20", "20 min", "fast", "", "1 us", "2000 s", "-5 ms"])
def test_what_is_no_latency_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no"):
        parse_latency(text)
