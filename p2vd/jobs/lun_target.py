"""The life of a whole LUN as a target: claimed by its WWID in the job store, and released (design: §4.1).

The claim is the job itself, which names the WWID and is durable before anything is written. That the LUN is
empty is seen by the helper that opens it, through the very descriptor that the worker gets: between the look
and the first write nobody else can have it open exclusively.
"""

import logging

from p2vd.jobs.control import MustWait, TargetChanged
from p2vd.jobs.services import Services
from p2vd.jobs.targets import find_lun, may_have_written
from p2vd.model.inventory import Inventory
from p2vd.model.job import Job
from p2vd.model.plan import LunTarget

log = logging.getLogger(__name__)


def claim(services: Services, job: Job, target: LunTarget, inventory: Inventory) -> None:
    """Keep the host's hands off the LUN; it is written to by nobody yet. Raises MustWait, TargetChanged."""
    services.quarantine.add_source(find_lun(inventory, target).lun)
    log.info("job %s: has claimed the LUN %s", job.uuid, target.wwid)


def release(services: Services, job: Job, target: LunTarget) -> None:
    """Give the LUN up as it is: what was written to it stays, and it is named.

    Nothing is zeroed. A job that is cancelled is no reason to write to a disk once more; and as long as the
    bytes are there, no plan takes the LUN for an empty one. It stays in quarantine, too: they may be
    half of a guest's disk, which nothing on this host shall take hold of.
    """
    if may_have_written(services, job):
        log.warning(
            "job %s: the LUN %s is released with what was copied to it; zero it (blkdiscard -z %s) before it "
            "is used again",
            job.uuid,
            target.wwid,
            target.path,
        )
        return
    try:
        services.quarantine.remove_source(find_lun(services.inventory.current(), target).lun)
    except (MustWait, TargetChanged):  # it is not there, or not itself: its marker does no harm
        log.info("job %s: the LUN %s stays in quarantine", job.uuid, target.wwid)
