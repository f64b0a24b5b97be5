"""The target of a copy: ready before it, ours alone and unchanged while it lasts, with room to grow."""

from dataclasses import dataclass

from p2vd.discovery import luns
from p2vd.discovery.dm import dm_info
from p2vd.discovery.luns import Found
from p2vd.jobs.control import TargetChanged, TargetInUse
from p2vd.jobs.job_target import JobFile, JobLun, JobLv, JobTarget
from p2vd.jobs.services import Services
from p2vd.jobs.signals import Signals
from p2vd.model.forms import PACKED_TARGETS
from p2vd.model.job import Job
from p2vd.planning.admission import Credit
from p2vd.planning.directory_admission import Space

GLANCES = 3
"""So often in a row somebody else may have the target open: udev's probes, `pvs` and os-prober do."""

GLANCE_S = 1.0


@dataclass
class Glances:
    """Tells somebody who looked at the target from somebody who keeps it open. `latest`: as it was seen."""

    count: int = 0
    last_s: float = 0.0
    latest: TargetInUse | None = None

    def are_over(self, seen: TargetInUse, now_s: float) -> bool:
        """Note that somebody has it open; return whether he has had time enough to close it again."""
        self.latest = seen
        if not self.count or now_s - self.last_s >= GLANCE_S:
            self.count += 1
            self.last_s = now_s
        return self.count > GLANCES


def make_ready(services: Services, signals: Signals, job: Job, target: JobTarget) -> None:
    """Before the target is opened: its device is there, and this host's own rules are kept off it.

    Raises PoolBroken, and what LVM refuses.
    """
    match target:
        case JobLv():
            if not target.lv.active:
                late = signals.late(services.board, job.uuid)
                services.volumes.activate(target.lv, target.vg, job.uuid, late)
            if (pool := target.pool) is not None:
                services.pools.status(target.vg, pool)
            services.quarantine.add_lv(target.vg, target.lv)
        case JobLun():
            services.quarantine.add_source(target.lun)


def table_of(services: Services, target: JobTarget) -> str:
    """Return the target's device-mapper table, which must not change; "" where it has none that is to stay.

    A multipath map gets a new one whenever a path comes or goes.
    """
    return dm_info(services.commands, target.dm_name).table if isinstance(target, JobLv) else ""


def expect_ours(services: Services, target: JobTarget, table: str, opens: int) -> None:
    """See that the target is the same, and open at most as often as we opened it.

    Raises TargetChanged, TargetInUse, CommandTimedOut.
    """
    if isinstance(target, JobFile):
        if services.image_files.file_id(target.path) != target.file_id:
            raise TargetChanged(target.path, "another file has its name, or none")
        return
    if not target.dm_name:
        return  # a disk without a map: the exclusive open is all that there is to hold, and it holds
    # The administrator may give a multipath map another name.
    info = dm_info(services.commands, target.dm_name, target.dm_uuid if isinstance(target, JobLun) else "")
    if info.uuid != target.dm_uuid or (table and info.table != table):
        raise TargetChanged(target.devnode, f"its device-mapper table is now {info.table.strip()!r}")
    if info.open_count > opens:
        raise TargetInUse(target.devnode, info.open_count)


def expect_same_lun(services: Services, target: JobTarget) -> None:
    """Ask every path of a whole LUN once more who it is. Raises TargetChanged."""
    if not isinstance(target, JobLun):
        return
    for device in [path.device for path in target.lun.paths] or [target.lun.device]:
        answer = luns.ask(services.commands, device, target.lun.wwid)
        if answer.found is Found.OTHER:
            raise TargetChanged(target.devnode, f"its path {device} leads to {answer.wwid} by now")


def waits_for_credit(target: JobTarget) -> bool:
    """Whether the worker itself stops where its credit ends; else it is paused.

    What compressed bytes take is not known before they are written.
    """
    return not (isinstance(target, JobFile) and target.target.format in PACKED_TARGETS)


def credit_of(services: Services, job: Job, target: JobTarget) -> tuple[Credit, str] | None:
    """Return what the copy may take in all, and where it is short why; None: it takes nothing of anything.

    Raises PoolBroken, CommandTimedOut, FileStepFailed.
    """
    match target:
        case JobLv():
            pool = target.pool
            return None if pool is None else services.pools.credit(target.vg, pool, job)
        case JobFile():
            directory = target.target.directory
            fsid, total, free = services.image_files.space(directory)
            return services.directories.credit(Space(fsid, total, free), directory, job)
        case JobLun():
            return None
