"""How full a plan's thin pools will be, in sentences. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from p2vd.model.size import format_size


def pool_facts(page: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield names and values for a plan's page; none from an older p2vd."""
    for pool in page.get("PoolFills", ()):
        yield "Pool", _worst(pool)
        if "ExpectedUsed" in pool:
            yield "Expected", _expected(pool)
        elif "SampleProblem" in pool:
            yield "Expected", f"not known, for there is no sample of {pool['SampleProblem']}"


def _worst(pool: Mapping[str, Any]) -> str:
    name, size = f"{pool['VolumeGroup']}/{pool['Pool']}", format_size(pool["Size"])
    if not pool["Active"]:
        return f"{name} is not active here: how much of its {size} is used is not known"
    used = pool["Used"] * 100 / pool["Size"] if pool["Size"] else 0.0
    others = f"; other jobs may take {format_size(pool['OtherJobs'])} of that" if pool["OtherJobs"] else ""
    return (
        f"{name}, {used:.1f} % used now, at most {pool['WorstCasePercent']:.1f} % after it "
        f"({format_size(pool['WorstCaseUsed'])} of {size}{others})"
    )


def _expected(pool: Mapping[str, Any]) -> str:
    sampled = f"{pool['SampledBlocksWithData']} of {pool['SampledBlocks']} blocks were not zero"
    if pool["ExpectedLeastBytes"] == pool["ExpectedMostBytes"]:
        sizes = f"its copies take {format_size(pool['ExpectedBytes'])}; every block was looked at"
        return f"{pool['ExpectedPercent']:.1f} % after it: {sizes}" if pool["Active"] else sizes
    sizes = (
        f"its copies take {format_size(pool['ExpectedBytes'])}, with 95 % confidence "
        f"{format_size(pool['ExpectedLeastBytes'])} to {format_size(pool['ExpectedMostBytes'])}; {sampled}"
    )
    if not pool["Active"]:
        return sizes
    return (
        f"{pool['ExpectedPercent']:.1f} % after it ({pool['ExpectedLeastPercent']:.1f} to "
        f"{pool['ExpectedMostPercent']:.1f} %): {sizes}"
    )
