"""To what size a pool may grow."""

from dataclasses import replace

from p2vd.model.errors import Reason
from p2vd.model.lvm import ThinPool
from p2vd.model.plan import PoolExtension
from p2vd.model.size import GIB, MIB
from p2vd.planning.admission import Shortage
from p2vd.planning.extension import MAX_METADATA_BYTES, PoolGrowth, growth
from tests.planning.builders import POOL, VG

POLICY = PoolExtension(10 * GIB, 150 * GIB, vg_free_bytes=20 * GIB)
KNOWN = replace(POOL, metadata_size_bytes=64 * MIB)


def test_data_grows_by_a_step_and_in_whole_extents() -> None:
    assert growth(POLICY, VG, POOL, Shortage.DATA) == PoolGrowth(Shortage.DATA, 110 * GIB)
    odd = replace(POLICY, step_bytes=10 * MIB)
    assert growth(odd, VG, POOL, Shortage.DATA) == PoolGrowth(Shortage.DATA, 100 * GIB + 8 * MIB)


def test_what_the_bound_or_the_volume_group_leaves_of_a_step() -> None:
    near = replace(POLICY, max_bytes=103 * GIB)
    assert growth(near, VG, POOL, Shortage.DATA) == PoolGrowth(Shortage.DATA, 103 * GIB)
    tight = replace(VG, free_bytes=21 * GIB)
    assert growth(POLICY, tight, POOL, Shortage.DATA) == PoolGrowth(Shortage.DATA, 101 * GIB)


def test_metadata_leaves_room_for_the_spare() -> None:
    assert growth(POLICY, VG, KNOWN, Shortage.METADATA) == PoolGrowth(Shortage.METADATA, 192 * MIB)
    tight = replace(VG, free_bytes=20 * GIB + 64 * MIB)
    assert growth(POLICY, tight, KNOWN, Shortage.METADATA) == PoolGrowth(Shortage.METADATA, 96 * MIB)


def test_why_it_does_not_grow() -> None:
    def code(
        policy: PoolExtension = POLICY,
        free: int = VG.free_bytes,
        pool: ThinPool = KNOWN,
        shortage: Shortage = Shortage.DATA,
    ) -> str:
        found = growth(policy, replace(VG, free_bytes=free), pool, shortage)
        assert isinstance(found, Reason)
        return found.code

    assert code(replace(POLICY, max_bytes=100 * GIB)) == "pool-at-bound"
    assert code(free=20 * GIB) == "vg-too-small-for-pool"
    assert code(pool=POOL, shortage=Shortage.METADATA) == "pool-size-unknown"
    full = replace(KNOWN, metadata_size_bytes=MAX_METADATA_BYTES)
    assert code(pool=full, shortage=Shortage.METADATA) == "pool-at-bound"
