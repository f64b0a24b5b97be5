"""How full pools will be after a plan, as the bus shows it."""

from p2vd.bus.wire import Variant
from p2vd.model.fill import Allocation, PoolFill


def expected(value: Allocation | None) -> dict[str, Variant]:
    """What a copy is expected to take; nothing where no sample was asked for."""
    if value is None:
        return {}
    if value.problem:
        return {"SampleProblem": Variant("s", value.problem)}
    return {
        "ExpectedBytes": Variant("t", value.expected_bytes),
        "ExpectedLeastBytes": Variant("t", value.least_bytes),
        "ExpectedMostBytes": Variant("t", value.most_bytes),
        "SampledBlocks": Variant("t", value.sampled),
        "SampledBlocksWithData": Variant("t", value.with_data),
    }


def pool_fill(value: PoolFill) -> dict[str, Variant]:
    """One pool of a plan's `PoolFills`."""
    told = {
        "VolumeGroup": Variant("s", value.vg_name),
        "VolumeGroupUuid": Variant("s", value.vg_uuid),
        "Pool": Variant("s", value.pool),
        "Active": Variant("b", value.active),
        "Size": Variant("t", value.size_bytes),
        "Used": Variant("t", value.used_bytes),
        "OtherJobs": Variant("t", value.others_bytes),
        **_after(value, "WorstCase", value.worst_case_bytes),
    }
    found = value.allocation
    told |= expected(found)
    if found is not None and not found.problem:
        told |= _after(value, "Expected", found.expected_bytes)
        told |= _after(value, "ExpectedLeast", found.least_bytes)
        told |= _after(value, "ExpectedMost", found.most_bytes)
    return told


def _after(value: PoolFill, name: str, taken_bytes: int) -> dict[str, Variant]:
    used = value.after(taken_bytes)
    return {
        f"{name}Used": Variant("t", used),
        f"{name}Percent": Variant("d", round(value.percent(used), 2)),
    }
