"""How full thin pools will be after a plan: at worst, and as a sample of the disks lets expect. Pure."""

from collections.abc import Sequence
from math import ceil, sqrt

from p2vd.model.errors import NotFound
from p2vd.model.fill import Allocation, PoolFill, ZeroSample
from p2vd.model.inventory import Inventory
from p2vd.model.lvm import ThinPool
from p2vd.model.plan import DiskPlan, LvTarget

_Z = 1.959964
"""Of the normal distribution, for 95 %."""

SAMPLE_BLOCKS = 1000
"""So many make the interval at most 6.2 % of the disk wide."""

_SAMPLE_BYTES = 1 << 30
_LEAST_BLOCKS = 30


def sample_blocks(block_bytes: int) -> int:
    """How many blocks to read: fewer of large ones, for a block of zeros is read to its end."""
    return max(_LEAST_BLOCKS, min(SAMPLE_BLOCKS, _SAMPLE_BYTES // block_bytes))


def wilson(hits: int, tried: int) -> tuple[float, float]:
    """Return between what shares the true one is, with 95 %, when `hits` of `tried` were found.

    Wilson's score interval (1927): unlike the normal one it holds where none or all were found.
    """
    if not tried:
        return 0.0, 1.0
    share, square = hits / tried, _Z * _Z
    middle = share + square / (2 * tried)
    half = _Z * sqrt(share * (1 - share) / tried + square / (4 * tried * tried))
    scale = 1 + square / tried
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def allocation(sample: ZeroSample, worst_case_bytes: int) -> Allocation:
    """Return what a copy of the disk takes of a pool whose chunks are as large as the sample's blocks.

    Every chunk that holds anything but zeros is allocated whole. What was read is known; where all was read,
    the range is one number.
    """
    unknown = sample.blocks - sample.hole_blocks
    share = sample.with_data / sample.sampled if sample.sampled else 0.0
    low, high = wilson(sample.with_data, sample.sampled)
    zeros = sample.sampled - sample.with_data

    def size(blocks: float) -> int:
        known = min(max(ceil(blocks - 1e-9), sample.with_data), unknown - zeros)
        return min(known * sample.block_bytes, worst_case_bytes)

    return Allocation(
        expected_bytes=size(share * unknown),
        least_bytes=size(low * unknown),
        most_bytes=size(high * unknown),
        sampled=sample.sampled,
        with_data=sample.with_data,
    )


def pool_fills(disks: Sequence[DiskPlan], seen: Inventory, reserved: Inventory) -> tuple[PoolFill, ...]:
    """Return how full each pool of the plan will be, in the disks' order.

    `seen`: the host as it is; `reserved`: with all that other jobs may still take.
    """
    by_pool: dict[tuple[str, str], list[DiskPlan]] = {}
    for disk in disks:
        if isinstance(disk.target, LvTarget) and disk.target.pool_uuid:
            by_pool.setdefault((disk.target.vg_uuid, disk.target.pool_uuid), []).append(disk)
    fills = []
    for (vg_uuid, pool_uuid), theirs in by_pool.items():
        target = theirs[0].target
        now, later = pool_of(seen, vg_uuid, pool_uuid), pool_of(reserved, vg_uuid, pool_uuid)
        if now is None or later is None or not isinstance(target, LvTarget):
            continue  # gone since the plan was made: its start says so
        fills.append(
            PoolFill(
                vg_uuid=vg_uuid,
                vg_name=target.vg_name,
                pool=target.pool_name,
                size_bytes=now.size_bytes,
                used_bytes=now.used_bytes,
                others_bytes=max(0, later.used_bytes - now.used_bytes),
                worst_case_bytes=sum(disk.worst_case_bytes for disk in theirs),
                active=now.active,
                allocation=_together([disk.expected for disk in theirs]),
            )
        )
    return tuple(fills)


def pool_of(inventory: Inventory, vg_uuid: str, pool_uuid: str) -> ThinPool | None:
    """Return a pool by its UUID, None where it is not seen."""
    try:
        pools = inventory.volume_group(vg_uuid).thin_pools
    except NotFound:
        return None
    return next((pool for pool in pools if pool.uuid == pool_uuid), None)


def _together(each: Sequence[Allocation | None]) -> Allocation | None:
    """Return the sum: the ends of the ranges too, which makes it wider than it must be, never narrower."""
    known = [one for one in each if one is not None]
    if len(known) < len(each):
        return None
    for one in known:
        if one.problem:
            return Allocation(problem=one.problem)
    return Allocation(
        expected_bytes=sum(one.expected_bytes for one in known),
        least_bytes=sum(one.least_bytes for one in known),
        most_bytes=sum(one.most_bytes for one in known),
        sampled=sum(one.sampled for one in known),
        with_data=sum(one.with_data for one in known),
    )
