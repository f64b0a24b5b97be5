"""Room in a thin pool for what is written over an undo point: kept from the copies until the point is gone.

A pool that fills up stops every guest in it, so a conversion begins only beside what copies were granted, and
they get nothing of what it may still write.
"""

from p2vd.jobs.job_target import JobLv
from p2vd.jobs.services import Services
from p2vd.model.job import Job
from p2vd.model.size import format_size
from p2vd.model.undo import thin_undo_bytes
from p2vd.provisioning.errors import PoolShort


def hold(services: Services, job: Job, target: JobLv) -> None:
    """Before the undo point of an active volume is made. Idempotent.

    Raises PoolShort, also of a pool that LVM calls anything but well, and then nothing is kept; PoolBroken,
    CommandFailed, CommandTimedOut.
    """
    pool, wanted = target.pool, thin_undo_bytes(target.lv.size_bytes)
    if pool is None:
        return
    room = services.pools.hold(target.vg, pool, _holder(job), wanted)
    if room < wanted or pool.health:
        free(services, job)
        name = f"{target.vg.name}/{pool.name}"
        health = pool.health or "well"
        raise PoolShort(name, target.lv.name, format_size(room), format_size(wanted), health)


def keep(services: Services, job: Job, target: JobLv) -> None:
    """Of an undo point that an earlier daemon left, over which may still be written."""
    if (pool := target.pool) is not None:
        services.pools.keep(target.vg, pool, _holder(job), thin_undo_bytes(target.lv.size_bytes))


def free(services: Services, job: Job) -> None:
    """The undo point is gone, or was never made. Idempotent."""
    services.pools.forget(_holder(job))


def _holder(job: Job) -> str:
    return f"undo point of {job.uuid}"
