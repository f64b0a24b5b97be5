"""The kernel's count of writes to a volume: by it a use shows that nobody told p2vd of."""

from pathlib import Path

from p2vd.model.job import Job
from p2vd.model.lvm import lv_dm_uuid
from p2vd.model.plan import LvTarget
from p2vd.model.verification import WriteCount
from p2vd.system import block
from p2vd.system.clock import boot_id


def write_count(sysfs: Path, job: Job) -> WriteCount | None:
    """Return how often the job's volume was written to since it was activated; None: that is not known."""
    if not isinstance(job.plan.target, LvTarget):
        return None
    dm_uuid = lv_dm_uuid(job.plan.target.vg_uuid, job.lv_uuid)
    try:
        for path in (sysfs / "class/block").glob("dm-*/dm/uuid"):
            if path.read_text().strip() == dm_uuid:
                return _count(path.parent.parent)
    except (OSError, ValueError, IndexError):  # it went while we looked, or the kernel counts otherwise
        return None
    return None


def _count(device: Path) -> WriteCount:
    writes = block.completed_writes((device / "stat").read_bytes())
    # Since Linux 5.15; an older kernel's activations cannot be told apart within a boot.
    sequence = device / "diskseq"
    return WriteCount(boot_id(), sequence.read_text().strip() if sequence.exists() else "", writes)
