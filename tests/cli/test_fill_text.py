"""What p2vctl says of a pool after a plan."""

from typing import Any

from p2vd.cli.fill_text import pool_facts

GIB = 1 << 30
POOL: dict[str, Any] = {
    "VolumeGroup": "vg_san",
    "Pool": "pool0",
    "Active": True,
    "Size": 100 * GIB,
    "Used": 40 * GIB,
    "OtherJobs": 0,
    "WorstCaseUsed": 60 * GIB,
    "WorstCasePercent": 60.0,
}
EXPECTED: dict[str, Any] = {
    "ExpectedBytes": 5 * GIB,
    "ExpectedLeastBytes": 4 * GIB,
    "ExpectedMostBytes": 6 * GIB,
    "SampledBlocks": 1000,
    "SampledBlocksWithData": 250,
    "ExpectedUsed": 45 * GIB,
    "ExpectedPercent": 45.0,
    "ExpectedLeastPercent": 44.0,
    "ExpectedMostPercent": 46.0,
}


def told(*pools: dict[str, Any]) -> list[tuple[str, str]]:
    return list(pool_facts({"PoolFills": pools}))


def test_at_worst() -> None:
    assert told(POOL) == [
        ("Pool", "vg_san/pool0, 40.0 % used now, at most 60.0 % after it (60 GiB of 100 GiB)")
    ]
    ((_, text),) = told({**POOL, "OtherJobs": GIB})
    assert text.endswith("(60 GiB of 100 GiB; other jobs may take 1 GiB of that)")


def test_as_expected() -> None:
    assert told({**POOL, **EXPECTED})[1] == (
        "Expected",
        "45.0 % after it (44.0 to 46.0 %): its copies take 5 GiB, with 95 % confidence 4 GiB to 6 GiB; 250 "
        "of 1000 blocks were not zero",
    )


def test_where_all_was_read_there_is_no_range() -> None:
    exact = {"ExpectedLeastBytes": 5 * GIB, "ExpectedMostBytes": 5 * GIB}
    assert told({**POOL, **EXPECTED, **exact})[1][1] == (
        "45.0 % after it: its copies take 5 GiB; every block was looked at"
    )


def test_why_there_is_no_sample() -> None:
    found = dict(told({**POOL, "SampleProblem": "3600a: no answer in 45 s."}))
    assert found["Expected"] == "not known, for there is no sample of 3600a: no answer in 45 s."


def test_of_a_pool_that_is_not_active_only_what_is_known() -> None:
    found = dict(told({**POOL, **EXPECTED, "Active": False}))
    assert found["Pool"] == "vg_san/pool0 is not active here: how much of its 100 GiB is used is not known"
    assert found["Expected"].startswith("its copies take 5 GiB")


def test_an_older_p2vd_tells_nothing() -> None:
    assert list(pool_facts({})) == []
