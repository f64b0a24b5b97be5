"""How a disk is divided."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2vd.copying.layout import (
    BLOCK,
    REGION_BLOCKS,
    SUB_BLOCK,
    Extent,
    Layout,
    bits,
    data_runs,
    gaps,
    merge_ranges,
    runs,
    split,
)


@given(st.sets(st.integers(0, 200)))
def test_runs_name_each_set_bit_once(numbers: set[int]) -> None:
    mask = sum(1 << number for number in numbers)
    found = [bit for first, count in runs(mask) for bit in range(first, first + count)]
    assert found == sorted(numbers)


@given(st.integers(0, 100), st.integers(0, 100), st.integers(1, 20))
def test_split_keeps_all_and_crosses_no_step(first: int, count: int, step: int) -> None:
    pieces = list(split(first, count, step))
    assert [n for at, c in pieces for n in range(at, at + c)] == list(range(first, first + count))
    assert all(at // step == (at + c - 1) // step for at, c in pieces)


def test_a_target_may_not_be_smaller() -> None:
    with pytest.raises(ValueError, match="a target of 9"):
        Layout(10, 9)


@pytest.mark.parametrize("size", [0, 1, 512, BLOCK - 1, BLOCK, BLOCK + 1, REGION_BLOCKS * BLOCK + 512])
def test_blocks_add_up_to_the_size(size: int) -> None:
    layout = Layout(size, size)
    assert sum(layout.source_length(block) for block in range(layout.blocks)) == size
    assert sum(layout.blocks_of(region) for region in range(layout.regions)) == layout.blocks
    assert layout.source_bytes_in(0, layout.blocks) == size


def test_the_tail_beyond_the_source_is_zero() -> None:
    layout = Layout(BLOCK + 5, 4 * BLOCK)
    assert layout.zero_blocks(0, [Extent(0, BLOCK + 5, zero=False)]) == bits(2, 2)
    assert layout.source_length(1) == 5
    assert layout.target_length(1) == BLOCK


def test_a_hole_counts_only_where_it_fills_a_block() -> None:
    layout = Layout(4 * BLOCK, 4 * BLOCK)
    extents = [Extent(0, 5, False), Extent(5, 2 * BLOCK, True), Extent(2 * BLOCK + 5, 2 * BLOCK - 5, False)]
    assert layout.zero_blocks(0, extents) == bits(1, 1)


def test_a_hole_up_to_an_odd_end_fills_its_block() -> None:
    layout = Layout(BLOCK + 5, BLOCK + 5)
    assert layout.zero_blocks(0, [Extent(0, BLOCK + 5, zero=True)]) == bits(0, 2)


@given(st.lists(st.booleans(), min_size=1, max_size=16), st.integers(1, SUB_BLOCK), st.integers(1, 16))
def test_data_runs_hold_all_data_and_leave_long_zeros(flags: list[bool], last: int, least: int) -> None:
    length = (len(flags) - 1) * SUB_BLOCK + last
    found = data_runs(flags, length, least * SUB_BLOCK)
    covered = {at // SUB_BLOCK for start, count in found for at in range(start, start + count, SUB_BLOCK)}
    assert {index for index, zero in enumerate(flags) if not zero} <= covered
    assert all(count >= least * SUB_BLOCK or not found for _, count in gaps(found, length))
    assert sum(c for _, c in found) + sum(c for _, c in gaps(found, length)) == length


def test_ranges_that_adjoin_become_one() -> None:
    assert merge_ranges([(8, 2), (0, 4), (4, 4), (20, 1)]) == [(0, 10), (20, 1)]
