"""Sources, volume groups and policies to plan with."""

from dataclasses import replace
from typing import Any

from p2vd.model.disk import PathState, Portal, ScsiPath, Source, Transport
from p2vd.model.inventory import Inventory
from p2vd.model.lvm import Lv, Pv, ThinPool, Vg
from p2vd.model.plan import DiskPlan, LvTarget
from p2vd.model.size import GIB, KIB, MIB
from p2vd.policy.model import PolicySet, PolicyText
from p2vd.policy.parse import load

WWID = "36001405d2f5c1d3e4a64b8c9aaaabbbb"
IQN = "iqn.2026-01.org.example:t1"

PATHS = (
    ScsiPath("sda", "2:0:0:0", WWID, PathState.READY, 10 * GIB, Portal("10.98.1.1", 3260), IQN),
    ScsiPath("sdb", "3:0:0:0", WWID, PathState.READY, 10 * GIB, Portal("10.98.2.1", 3260), IQN),
)
SOURCE = Source(
    id=WWID,
    wwid=WWID,
    device="dm-3",
    name="mpatha",
    dm_uuid=f"mpath-{WWID}",
    size_bytes=10 * GIB,
    sector_size=512,
    transport=Transport.ISCSI,
    vendor="LIO-ORG",
    model="i0",
    serial="d2f5c1d3",
    paths=PATHS,
)
POOL = ThinPool(
    uuid="pool-uuid",
    name="pool0",
    size_bytes=100 * GIB,
    chunk_size_bytes=64 * KIB,
    zeroes=True,
    data_percent=20.0,
    metadata_percent=10.0,
    virtual_size_bytes=30 * GIB,
)
VG = Vg(
    uuid="vg-uuid",
    name="vg_san",
    size_bytes=200 * GIB,
    free_bytes=50 * GIB,
    extent_size_bytes=4 * MIB,
    sector_size=512,
    lock_type="sanlock",
    tags=frozenset({"p2vd"}),
    pvs=(Pv("pv-uuid", "/dev/mapper/mpathv", 200 * GIB, 50 * GIB),),
    lvs=(Lv("lv-uuid", "other", GIB),),
    thin_pools=(POOL,),
)
THIN = """
[[rule]]
name = "thin"
[rule.match]
wwid = "*"
[rule.target]
volume_groups = "vg_san"
provisioning = "thin"
thin_pool = "pool0"
"""
THICK = THIN.replace('thin_pool = "pool0"\n', "").replace('"thin"', '"thick"')


def lv_target(disk: DiskPlan) -> LvTarget:
    """The volume that a disk becomes, where it becomes one."""
    assert isinstance(disk.target, LvTarget)
    return disk.target


def make_source(**changes: Any) -> Source:
    """The usual iSCSI LUN, with `changes`; a given WWID is also the id."""
    if "wwid" in changes:
        changes.setdefault("id", changes["wwid"])
    return replace(SOURCE, **changes)


def make_policies(*texts: str) -> PolicySet:
    """The rules in `texts`, which must have no errors."""
    policies = load([PolicyText(f"/etc/p2vd/policy.d/{n}.toml", text) for n, text in enumerate(texts)])
    assert not policies.errors
    return policies


def make_inventory(source: Source = SOURCE, *groups: Vg, **changes: Any) -> Inventory:
    """One source and the usual volume group, or those given."""
    return replace(Inventory((source,), groups or (VG,)), **changes)


def with_pool(**changes: Any) -> Vg:
    """The volume group with another pool."""
    return replace(VG, thin_pools=(replace(POOL, **changes),))


def thin_with(text: str) -> str:
    """The thin rule with more said of its target."""
    return THIN + text
