"""Credits: whatever happens in whatever order, copies never take a pool's reserve."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from p2vd.model.errors import Reason
from p2vd.model.size import GIB, KIB, MIB
from p2vd.planning.admission import (
    METADATA_BYTES_PER_CHUNK,
    WINDOW_BYTES,
    Credit,
    Demand,
    PoolNumbers,
    Shortage,
    admit,
    free_for_copies,
)

POOL = PoolNumbers(
    total_data_bytes=100 * GIB,
    used_data_bytes=20 * GIB,
    total_metadata_bytes=1 * GIB,
    used_metadata_bytes=16 * MIB,
    chunk_size_bytes=64 * KIB,
)
NAME = "vg_san/pool0"


def totals(pool: PoolNumbers, *demands: Demand, window: int = WINDOW_BYTES) -> list[int]:
    """The credits, in the demands' order."""
    return [credit.total_bytes for credit in admit(pool, NAME, demands, window).credits]


def test_a_roomy_pool_grants_a_window_at_a_time() -> None:
    assert totals(POOL, Demand("a", 10 * GIB)) == [GIB]
    assert totals(POOL, Demand("a", 10 * GIB, 300 * MIB, GIB)) == [GIB + 300 * MIB]


def test_no_more_than_a_copy_can_need() -> None:
    assert totals(POOL, Demand("a", 300 * MIB)) == [300 * MIB]


def test_a_copy_that_writes_again_does_not_starve() -> None:
    assert totals(POOL, Demand("a", 300 * MIB, 400 * MIB, 300 * MIB)) == [464 * MIB]
    assert totals(POOL, Demand("a", 3 * MIB, 3 * MIB, 3 * MIB)) == [6 * MIB]


def test_nobody_asks() -> None:
    admission = admit(POOL, NAME, [])
    assert (admission.credits, admission.free_bytes, admission.reason) == ((), 80 * GIB, None)


def test_what_is_scarce_is_shared_out_evenly() -> None:
    pool = replace(POOL, used_data_bytes=95 * GIB - 900 * MIB)
    admission = admit(pool, NAME, [Demand("a", 10 * GIB), Demand("b", 100 * MIB), Demand("c", 10 * GIB)])
    assert [(c.job, c.total_bytes, c.short) for c in admission.credits] == [
        ("a", 400 * MIB, True),
        ("b", 100 * MIB, False),
        ("c", 400 * MIB, True),
    ]
    assert admission.free_bytes == 900 * MIB
    assert admission.reason == Reason(
        "pool-short",
        "The data of the thin pool vg_san/pool0 lets copies take 900 MiB more before its reserve of 5 %. "
        "Extend it: lvextend -L +SIZE vg_san/pool0.",
    )


def test_a_credit_that_was_given_is_kept_while_it_can_be() -> None:
    pool = replace(POOL, used_data_bytes=94 * GIB)
    assert totals(pool, Demand("a", 9 * GIB, 0, GIB), Demand("b", 9 * GIB)) == [GIB, 0]


def test_credits_shrink_when_others_took_the_space() -> None:
    pool = replace(POOL, used_data_bytes=95 * GIB - 600 * MIB)
    admission = admit(pool, NAME, [Demand("a", 9 * GIB, GIB, 2 * GIB), Demand("b", 9 * GIB)])
    assert [credit.total_bytes for credit in admission.credits] == [GIB + 600 * MIB, 0]
    assert all(credit.short for credit in admission.credits)


def test_what_is_kept_for_other_writes_takes_the_reserve_first() -> None:
    pool = replace(POOL, used_data_bytes=94 * GIB)
    copy = Demand("a", 9 * GIB, 0, 512 * MIB)
    admission = admit(pool, NAME, [copy], held_bytes=4 * GIB)
    assert admission.credits == (Credit("a", GIB),)
    assert (admission.reason, admission.shortage) == (None, None)


def test_what_is_kept_beyond_the_reserve_keeps_copies_short() -> None:
    pool = replace(POOL, used_data_bytes=94 * GIB)
    admission = admit(pool, NAME, [Demand("a", 9 * GIB, 0, 512 * MIB)], held_bytes=5 * GIB + 768 * MIB)
    assert admission.credits == (Credit("a", 256 * MIB, short=True),)
    assert admission.shortage is Shortage.DATA
    assert admission.reason is not None
    assert "lets copies take 256 MiB more before the 5.75 GiB that are kept for" in admission.reason.text


def test_the_largest_reserve_counts() -> None:
    pool = replace(POOL, used_data_bytes=85 * GIB)
    assert totals(pool, Demand("a", 9 * GIB, reserve_percent=5)) == [GIB]
    assert totals(pool, Demand("a", 9 * GIB, reserve_percent=5), Demand("b", 0, reserve_percent=20)) == [0, 0]


def test_metadata_can_be_what_is_short() -> None:
    spare = 1000 * METADATA_BYTES_PER_CHUNK
    used = POOL.total_metadata_bytes - 52 * MIB - spare  # 5 % of 1 GiB is 51.2 MiB
    pool = replace(POOL, used_metadata_bytes=used)
    admission = admit(pool, NAME, [Demand("a", 10 * GIB)])
    assert admission.free_bytes < 80 * GIB
    full = admit(replace(pool, used_metadata_bytes=POOL.total_metadata_bytes), NAME, [Demand("a", GIB)])
    assert full.credits[0].total_bytes == 0
    assert full.reason is not None
    assert full.reason.code == "pool-metadata-short"
    assert "lvextend --poolmetadatasize +SIZE vg_san/pool0" in full.reason.text


@pytest.mark.parametrize(("total", "reserve"), [(8 * MIB, 2 * MIB), (64 * MIB, 4 * MIB), (1 * GIB, 54 * MIB)])
def test_metadata_keeps_what_the_kernel_calls_low(total: int, reserve: int) -> None:
    pool = replace(POOL, total_metadata_bytes=total, used_metadata_bytes=total - reserve)
    assert (
        free_for_copies(pool, 5) <= (54 * MIB - 51 * MIB) // METADATA_BYTES_PER_CHUNK * POOL.chunk_size_bytes
    )
    assert (free_for_copies(pool, 5) == 0) is (total < GIB)


def test_a_sick_pool_grants_nothing_and_says_why() -> None:
    reason = Reason("pool-unhealthy", "The pool failed.")
    admission = admit(replace(POOL, reason=reason), NAME, [Demand("a", GIB, 5 * MIB, 9 * MIB)])
    assert [credit.total_bytes for credit in admission.credits] == [5 * MIB]
    assert admission.reason is reason


AMOUNT = st.integers(0, 4 * GIB)


@given(
    st.builds(replace, st.just(POOL), used_data_bytes=st.integers(70 * GIB, 101 * GIB)),
    st.lists(st.builds(Demand, st.just("j"), AMOUNT, AMOUNT, AMOUNT, st.integers(0, 20)), max_size=6),
)
def test_what_is_ahead_never_exceeds_what_is_free(pool: PoolNumbers, demands: list[Demand]) -> None:
    admission = admit(pool, NAME, demands)
    ahead = [c.total_bytes - d.used_bytes for c, d in zip(admission.credits, demands, strict=True)]
    assert all(bytes_ahead >= 0 for bytes_ahead in ahead)
    assert sum(ahead) <= admission.free_bytes
    outstanding = [max(0, d.granted_bytes - d.used_bytes) for d in demands]
    if sum(outstanding) > admission.free_bytes:
        assert all(now <= before for now, before in zip(ahead, outstanding, strict=True))
    else:
        assert all(now >= before for now, before in zip(ahead, outstanding, strict=True))
    assert (admission.reason is None) is not any(credit.short for credit in admission.credits)


class PoolMachine(RuleBasedStateMachine):
    """Copies that start, write up to their credit, report late and end; a pool that is extended."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 4 * GIB
        self.written: dict[str, int] = {}
        self.past = 0
        self.demands: dict[str, Demand] = {}
        self.number = 0

    @property
    def used(self) -> int:
        return self.past + sum(self.written.values())

    def admit(self) -> None:
        pool = replace(POOL, total_data_bytes=self.total, used_data_bytes=self.used)
        for credit in admit(pool, NAME, list(self.demands.values())).credits:
            self.demands[credit.job] = replace(self.demands[credit.job], granted_bytes=credit.total_bytes)

    @rule(worst=st.integers(1, 3 * GIB))
    def start(self, worst: int) -> None:
        self.number += 1
        job = str(self.number)
        self.written[job] = 0
        self.demands[job] = Demand(job, worst)

    @precondition(lambda self: self.demands)
    @rule(data=st.data(), part=st.floats(0, 1), reports=st.booleans())
    def write(self, data: st.DataObject, part: float, reports: bool) -> None:
        job = data.draw(st.sampled_from(sorted(self.demands)))
        demand = self.demands[job]
        limit = min(demand.granted_bytes, demand.worst_case_bytes)
        self.written[job] = max(self.written[job], round(limit * part))
        if reports:
            self.demands[job] = replace(demand, used_bytes=self.written[job])

    @precondition(lambda self: self.demands)
    @rule(data=st.data(), removes=st.booleans())
    def end(self, data: st.DataObject, removes: bool) -> None:
        job = data.draw(st.sampled_from(sorted(self.demands)))
        del self.demands[job]
        written = self.written.pop(job)
        self.past += 0 if removes else written

    @rule()
    def extend(self) -> None:
        self.total += GIB

    @rule()
    def look(self) -> None:
        self.admit()

    @invariant()
    def reserve_is_whole(self) -> None:
        assert self.used <= self.total - self.total * 5 // 100


TestPoolMachine = PoolMachine.TestCase
