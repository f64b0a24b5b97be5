"""To what size a thin pool that is short may be extended, or why it may not. Pure.

The sizes are absolute: whether an extension was done already, before a crash, is seen by the pool's size.
"""

from dataclasses import dataclass

from p2vd.model.errors import Reason
from p2vd.model.lvm import ThinPool, Vg
from p2vd.model.plan import PoolExtension
from p2vd.model.size import GIB, format_size
from p2vd.planning.admission import Shortage

MAX_METADATA_BYTES = 15 * GIB
"""dm-thin uses no more than 15.81 GiB of metadata (lvmthin(7))."""

_METADATA_COPIES = 2
"""LVM keeps a spare (`pmspare`) as large as the largest metadata of the volume group."""


@dataclass(frozen=True)
class PoolGrowth:
    """The size that a pool's data or metadata is to have."""

    shortage: Shortage
    size_bytes: int


def growth(policy: PoolExtension, vg: Vg, pool: ThinPool, shortage: Shortage) -> PoolGrowth | Reason:
    """Return to what size `pool` is to grow next, in whole extents: by a step, or by what there is of one.

    Holds: never beyond the policy's bound, and the volume group keeps what the policy wants free.
    """
    name = f"{vg.name}/{pool.name}"
    spare = max(0, vg.free_bytes - policy.vg_free_bytes)
    if shortage is Shortage.DATA:
        now, step, bound, room = pool.size_bytes, policy.step_bytes, policy.max_bytes, spare
    else:
        now, step, bound = pool.metadata_size_bytes, policy.metadata_step_bytes, MAX_METADATA_BYTES
        room = spare // _METADATA_COPIES
    what = shortage.name.lower()
    if not now:
        return Reason(
            "pool-size-unknown", f"LVM does not report the size of the {what} of the thin pool {name}."
        )
    extent = vg.extent_size_bytes
    if bound - now < extent:
        return Reason(
            "pool-at-bound",
            f"The policy lets p2vd extend the {what} of the thin pool {name} to {format_size(bound)}, and "
            f"that it has. Extend it by hand (lvextend {shortage.value} +SIZE {name}), or raise "
            "pool.extend.max for new plans.",
        )
    more = min(step, bound - now, room) // extent * extent
    if more <= 0:
        return Reason(
            "vg-too-small-for-pool",
            f"The thin pool {name} cannot be extended: the volume group {vg.name} has "
            f"{format_size(vg.free_bytes)} free, of which {format_size(policy.vg_free_bytes)} stay free by "
            f"the policy. Add a PV: vgextend {vg.name} DEVICE.",
        )
    return PoolGrowth(shortage, now + more)
