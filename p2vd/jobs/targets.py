"""The two devices of a job, found again by identity each time they are used."""

from dataclasses import dataclass

from p2vd.jobs.control import LvVanished, MustWait, TargetChanged, TryAgain
from p2vd.jobs.services import Services
from p2vd.model.disk import Source
from p2vd.model.errors import IdentityChanged, NotFound, Refused
from p2vd.model.inventory import Inventory
from p2vd.model.job import Hold, Job
from p2vd.model.lvm import Lv, Vg
from p2vd.model.size import format_size
from p2vd.system.command import CommandTimedOut

# Reasons against a new plan that end by themselves or by dmsetup resume: a job sits them out, stalled.
_PASSING = frozenset({"suspended"})


@dataclass(frozen=True)
class JobTarget:
    """The LV of a job and the VG that it is in, as LVM reported them just now."""

    vg: Vg
    lv: Lv

    @property
    def dm_name(self) -> str:
        """The LV's device-mapper name."""
        return self.vg.dm_name(self.lv)

    @property
    def dm_uuid(self) -> str:
        """The LV's device-mapper UUID: what proves a descriptor."""
        return self.vg.dm_uuid(self.lv)

    @property
    def devnode(self) -> str:
        """Where the LV is opened."""
        return f"/dev/mapper/{self.dm_name}"


def find_source(inventory: Inventory, job: Job) -> Source:
    """Return the job's source as it is attached now.

    Raises MustWait where it is absent or no path answers, IdentityChanged where its size, sector size
    or file is another, Refused where somebody uses it, TryAgain where that is not known.
    """
    binding = job.plan.source
    try:
        source = next(source for source in inventory.sources if source.id == binding.id)
    except StopIteration:
        raise MustWait(Hold.SOURCE_ABSENT, f"source {binding.id} is not attached") from None
    if source.paths and source.paths_ready == 0:
        raise MustWait(Hold.SOURCE_ABSENT, f"no path to source {source} answers")
    for field, expected, found in (
        ("its size", binding.size_bytes, source.size_bytes),
        ("its logical sector size", binding.sector_size, source.sector_size),
    ):
        if expected != found:
            raise IdentityChanged(str(source), field, format_size(expected), format_size(found))
    # A file that cannot be looked at now has the reason for that.
    if binding.file_id and source.file_id and binding.file_id != source.file_id:
        raise IdentityChanged(str(source), "its file", binding.file_id, source.file_id)
    if unclear := [reason.text for reason in source.reasons if reason.code == "unknown-use"]:
        raise TryAgain(" ".join(unclear))
    if reasons := tuple(reason for reason in source.reasons if reason.code not in _PASSING):
        raise Refused(f"Source {source}", reasons)
    return source


def devices_of(inventory: Inventory, job: Job) -> frozenset[str] | None:
    """Return the names of the devices under the job's source and volume group, as they were seen last.

    None where one of them was not seen: it may be anywhere.
    """
    source = inventory.by_id.get(job.plan.source.id)
    pvs = {pv.device for vg in inventory.volume_groups if vg.uuid == job.plan.target.vg_uuid for pv in vg.pvs}
    names = {name for pv in pvs if (name := _device_name(inventory, pv))}
    # An image has no device: a scan finds it.
    if source is None or not source.device or not pvs or len(names) < len(pvs):
        return None
    return frozenset(names | {source.device} | {path.device for path in source.paths})


def _device_name(inventory: Inventory, devnode: str) -> str:
    """Return the kernel's name of a device of the inventory; "" where it has none of that node."""
    if not devnode.startswith("/dev/mapper/"):
        return devnode.removeprefix("/dev/")
    mapped = (source for source in inventory.sources if f"/dev/mapper/{source.name}" == devnode)
    return next((source.device for source in mapped), "")


def read_vg(services: Services, job: Job) -> Vg:
    """Return the job's VG as LVM reports it now. Raises MustWait, TryAgain."""
    target = job.plan.target
    try:
        return services.host.volume_group(target.vg_uuid)
    except NotFound:
        raise MustWait(
            Hold.TARGET_ABSENT, f"volume group {target.vg_name} ({target.vg_uuid}) is not attached"
        ) from None
    except CommandTimedOut as error:
        raise TryAgain(str(error)) from error


def find_target(services: Services, job: Job) -> JobTarget:
    """Return the job's LV. Raises MustWait, TryAgain, LvVanished, TargetChanged."""
    vg = read_vg(services, job)
    lv = vg.lv(job.lv_uuid)
    if lv is None or f"p2vd.job={job.uuid}" not in lv.tags:
        raise LvVanished(vg.name, job.lv_uuid, job.uuid)
    if lv.size_bytes != job.plan.target.size_bytes:
        raise TargetChanged(
            f"{vg.name}/{lv.name}",
            f"its size is {format_size(lv.size_bytes)}, it was made with "
            f"{format_size(job.plan.target.size_bytes)}",
        )
    return JobTarget(vg, lv)
