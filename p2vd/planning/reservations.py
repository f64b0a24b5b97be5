"""What jobs will still take of pools and volume groups, as if it were taken already. Pure.

A plan that is made or started finds the host as it will be when every job before it has ended: so no two
jobs are ever placed beyond what a pool or a volume group can hold, in whatever order they start and end.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from p2vd.model.inventory import Inventory
from p2vd.model.job import Job, Stage
from p2vd.model.lvm import JOB_TAG, Lv, ThinPool, Vg
from p2vd.model.plan import LvTarget

_ENDED = frozenset({Stage.PROVEN, Stage.CANCELLED, Stage.CANCELLING})


@dataclass(frozen=True)
class Reservation:
    """A job's volume, made or not, and what its copy may still take of its pool at most."""

    job: str
    target: LvTarget
    rest_bytes: int


def reservations(jobs: Iterable[Job]) -> tuple[Reservation, ...]:
    """Return what `jobs` still need of volume groups; one that failed may be retried, and keeps its place.

    LUNs are claimed and files admitted in their own ways. What lies before the last checkpoint of a copy is
    in its volume already.
    """
    return tuple(
        Reservation(job.uuid, target, max(0, job.plan.worst_case_bytes - job.progress.committed_bytes))
        for job in jobs
        if isinstance(target := job.plan.target, LvTarget) and job.stage not in _ENDED and not job.removed_us
    )


def with_reservations(inventory: Inventory, reserved: Iterable[Reservation]) -> Inventory:
    """Return the inventory as the next disk shall find it: with all these volumes made, and full."""
    by_group: dict[str, list[Reservation]] = {}
    for one in reserved:
        by_group.setdefault(one.target.vg_uuid, []).append(one)
    groups = tuple(_with_all(vg, by_group.get(vg.uuid, ())) for vg in inventory.volume_groups)
    return replace(inventory, volume_groups=groups)


def _with_all(vg: Vg, reserved: Sequence[Reservation]) -> Vg:
    made = {tag for lv in vg.lvs for tag in lv.tags} if reserved else set()
    pools = {pool.uuid: pool for pool in vg.thin_pools}
    planned = []
    free_bytes = vg.free_bytes
    for one in reserved:
        target, tag = one.target, f"{JOB_TAG}{one.job}"
        pool = pools.get(target.pool_uuid)
        if target.pool_uuid and pool is None:
            continue  # its pool is gone: the job says so itself
        new_bytes = 0 if tag in made else target.size_bytes
        if new_bytes:
            name = pool.name if pool else ""
            planned.append(Lv("", target.lv_name, target.size_bytes, frozenset({tag}), pool=name))
        if pool is None:
            free_bytes -= new_bytes
        else:
            pools[pool.uuid] = _with_taken(pool, new_bytes, one.rest_bytes)
    thin_pools = tuple(pools[pool.uuid] for pool in vg.thin_pools)
    return replace(vg, lvs=(*vg.lvs, *planned), thin_pools=thin_pools, free_bytes=max(0, free_bytes))


def with_volume(vg: Vg, planned: Lv, pool: ThinPool | None, worst_case_bytes: int) -> Vg:
    """Return `vg` with a volume that is only planned (it has no UUID yet), made and full."""
    vg = replace(vg, lvs=(*vg.lvs, planned))
    if pool is None:
        return replace(vg, free_bytes=max(0, vg.free_bytes - planned.size_bytes))
    fuller = _with_taken(pool, planned.size_bytes, worst_case_bytes)
    return replace(vg, thin_pools=tuple(fuller if one.uuid == pool.uuid else one for one in vg.thin_pools))


def _with_taken(pool: ThinPool, virtual_bytes: int, more_bytes: int) -> ThinPool:
    return replace(
        pool,
        virtual_size_bytes=pool.virtual_size_bytes + virtual_bytes,
        data_percent=pool.data_percent + (more_bytes * 100 / pool.size_bytes if pool.size_bytes else 0.0),
        reserved_bytes=pool.reserved_bytes + (more_bytes if pool.size_bytes else 0),
    )
