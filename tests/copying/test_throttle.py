"""Bandwidth and credits."""

from p2vd.copying.layout import BLOCK
from p2vd.copying.throttle import ChunkCredit, TokenBucket
from p2vd.model.size import KIB


def test_without_a_limit_nothing_waits() -> None:
    bucket = TokenBucket(0, 0.0)
    bucket.take(1 << 40)
    assert bucket.delay(0.0) == 0


def test_a_rate_is_kept_over_time() -> None:
    bucket, now, moved = TokenBucket(10 * BLOCK, 0.0), 0.0, 0
    while now < 10:
        if (delay := bucket.delay(now)) > 0:
            now += delay
            continue
        bucket.take(BLOCK)
        moved += BLOCK
    assert abs(moved - 100 * BLOCK) <= 4 * BLOCK


def test_a_new_limit_counts_at_once() -> None:
    bucket = TokenBucket(BLOCK, 0.0)
    bucket.take(100 * BLOCK)
    bucket.set_rate(100 * BLOCK, 0.0)
    assert bucket.delay(0.0) == 1.0
    bucket.set_rate(0, 0.0)
    assert bucket.delay(0.0) == 0


def test_a_chunk_is_counted_once_and_whole() -> None:
    credit = ChunkCredit(64 * KIB, 128 * KIB)
    assert credit.missing(10, 1) == 0
    credit.take(10, 1)
    credit.take(20, 64 * KIB - 20)
    assert credit.allocated_bytes == 64 * KIB
    assert credit.missing(0, 128 * KIB) == 0
    assert credit.missing(0, 128 * KIB + 1) == 192 * KIB
    credit.limit_bytes = 192 * KIB
    assert credit.missing(0, 128 * KIB + 1) == 0


def test_what_is_allocated_already_needs_no_credit() -> None:
    credit = ChunkCredit(64 * KIB, 64 * KIB)
    credit.take(0, 64 * KIB)
    credit.limit_bytes = 0
    assert credit.missing(0, 64 * KIB) == 0


def test_chunks_that_are_no_power_of_two() -> None:
    credit = ChunkCredit(192 * KIB)
    for offset in range(0, 3 << 30, 192 * KIB):
        credit.take(offset, 192 * KIB)
    assert credit.allocated_bytes == 3 << 30


def test_a_target_that_is_not_thin_costs_nothing() -> None:
    credit = ChunkCredit(0, 0)
    credit.take(0, 1 << 30)
    assert credit.missing(0, 1 << 30) == 0
    assert credit.allocated_bytes == 0
