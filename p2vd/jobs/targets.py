"""The two devices of a job, found again by identity each time they are used."""

from dataclasses import replace

from p2vd.jobs.control import LvVanished, MustWait, TargetChanged, TryAgain
from p2vd.jobs.image_look import SILENT, UNREAD, UNSIZED
from p2vd.jobs.job_target import JobFile, JobLun, JobLv, JobTarget
from p2vd.jobs.services import Services
from p2vd.model.disk import Source
from p2vd.model.errors import IdentityChanged, NotFound, Refused
from p2vd.model.forms import TargetFormat
from p2vd.model.inventory import Inventory
from p2vd.model.job import Hold, Job
from p2vd.model.lvm import GENERATION_TAG, Vg
from p2vd.model.plan import FileTarget, LunTarget, LvTarget, SourceBinding
from p2vd.model.size import format_size
from p2vd.provisioning.errors import FileStepFailed
from p2vd.system.command import CommandTimedOut

# Reasons against a new plan that end by themselves or by dmsetup resume: a job sits them out, stalled.
_PASSING = frozenset({"suspended"})


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
    if not source.is_plain:
        source = _readable(source, binding)
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


def _readable(source: Source, binding: SourceBinding) -> Source:
    """Return the image or the export of a job, with a size. Raises IdentityChanged, Refused, TryAgain.

    Where nothing but reading all of it tells the size, it is that which the job knows: the copy proves it,
    and a restart of the daemon does not cost another reading.
    """
    if binding.file_id and source.file_id and binding.file_id != source.file_id:
        what = "its file" if source.export is None else "the digest of its first and last MiB"
        raise IdentityChanged(str(source), what, binding.file_id, source.file_id)
    if unclear := [reason.text for reason in source.reasons if reason.code in (UNREAD, SILENT)]:
        raise TryAgain(" ".join(unclear))
    others = tuple(reason for reason in source.reasons if reason.code != UNSIZED)
    if len(others) < len(source.reasons):
        source = replace(source, size_bytes=binding.size_bytes, reasons=others)
    if others:
        raise Refused(f"Source {source}", others)
    return source


def devices_of(inventory: Inventory, job: Job) -> frozenset[str] | None:
    """Return the names of the devices under the job's source and target, as they were seen last.

    None where one of them was not seen: it may be anywhere.
    """
    source = inventory.by_id.get(job.plan.source.id)
    # An image has no device, but a scan finds it. An export has none either, and no scan tells of it.
    if source is None or not (source.device or source.export):
        return None
    match job.plan.target:
        case LvTarget() as target:
            groups = (vg for vg in inventory.volume_groups if vg.uuid == target.vg_uuid)
            pvs = {pv.device for vg in groups for pv in vg.pvs}
            names = {name for pv in pvs if (name := _device_name(inventory, pv))}
            if not pvs or len(names) < len(pvs):
                return None
        case LunTarget() as target:
            lun = inventory.by_id.get(target.id)
            if lun is None:
                return None
            names = {lun.device, *(path.device for path in lun.paths)}
        case FileTarget():
            names = set()
    own = {source.device} if source.device else set()
    return frozenset(names | own | {path.device for path in source.paths})


def _device_name(inventory: Inventory, devnode: str) -> str:
    """Return the kernel's name of a device of the inventory; "" where it has none of that node."""
    if not devnode.startswith("/dev/mapper/"):
        return devnode.removeprefix("/dev/")
    mapped = (source for source in inventory.sources if f"/dev/mapper/{source.name}" == devnode)
    return next((source.device for source in mapped), "")


def read_vg(services: Services, target: LvTarget) -> Vg:
    """Return the target's VG as LVM reports it now. Raises MustWait, TryAgain."""
    try:
        return services.host.volume_group(target.vg_uuid)
    except NotFound:
        raise MustWait(
            Hold.TARGET_ABSENT, f"volume group {target.vg_name} ({target.vg_uuid}) is not attached"
        ) from None
    except CommandTimedOut as error:
        raise TryAgain(str(error)) from error


def find_target(services: Services, job: Job) -> JobTarget:
    """Return what the job copies to, as it is now. Raises MustWait, TryAgain, LvVanished, TargetChanged."""
    match job.plan.target:
        case LvTarget() as target:
            return _find_lv(services, job, target)
        case LunTarget() as target:
            return find_lun(services.inventory.scanned_once(), target)
        case FileTarget() as target:
            return _find_file(services, job, target)


def may_have_written(services: Services, job: Job) -> bool:
    """Whether a worker of the job may have written to its target.

    That there is a checkpoint is noted in the job when its worker tells so: the power may go in between.
    """
    return job.checkpoint_begun or (services.job_directory(job) / "checkpoint").exists()


def find_lun(inventory: Inventory, target: LunTarget) -> JobLun:
    """Return the LUN of a target. Raises MustWait, TargetChanged."""
    lun = inventory.by_id.get(target.id)
    if lun is None:
        raise MustWait(Hold.TARGET_ABSENT, f"the target, LUN {target.wwid}, is not attached")
    if lun.paths and lun.paths_ready == 0:
        raise MustWait(Hold.TARGET_ABSENT, f"no path to the target {lun} answers")
    for what, found, chosen in (
        ("size", lun.size_bytes, target.size_bytes),
        ("logical sector size", lun.sector_size, target.sector_size),
    ):
        if found != chosen:
            told = f"its {what} is {format_size(found)}, it was chosen with {format_size(chosen)}"
            raise TargetChanged(str(lun), told)
    return JobLun(lun, target)


def _find_lv(services: Services, job: Job, target: LvTarget) -> JobLv:
    vg = read_vg(services, target)
    lv = vg.lv(job.lv_uuid)
    if lv is None or f"p2vd.job={job.uuid}" not in lv.tags:
        raise LvVanished(vg.name, job.lv_uuid, job.uuid)
    bound = {tag for tag in lv.tags if tag.startswith(GENERATION_TAG)}
    if bound - {f"{GENERATION_TAG}{job.generation}"}:
        # Of a later pass, or of another store's: what this job's checkpoint says of it is out of date (§8).
        told = (
            f"it has the tag {', '.join(sorted(bound))}, the job's checkpoint has generation {job.generation}"
        )
        raise TargetChanged(f"{vg.name}/{lv.name}", told)
    if lv.size_bytes != target.size_bytes:
        raise TargetChanged(
            f"{vg.name}/{lv.name}",
            f"its size is {format_size(lv.size_bytes)}, it was made with {format_size(target.size_bytes)}",
        )
    return JobLv(vg, lv)


def _find_file(services: Services, job: Job, target: FileTarget) -> JobFile:
    """An absent file is no proof that it is gone: its filesystem may not be mounted."""
    try:
        found = services.image_files.locate(job.uuid, target, job.target_file_id)
    except CommandTimedOut as error:
        raise TryAgain(str(error)) from error
    except FileStepFailed as error:  # a file server that is away says so in many ways
        raise MustWait(Hold.TARGET_ABSENT, str(error)) from error
    if found is None:
        why = (
            f"the job's file (file id {job.target_file_id}) is not in {target.directory}: is its filesystem "
            "mounted? If the file was removed, cancel the job"
        )
        raise MustWait(Hold.TARGET_ABSENT, why)
    path, seen = found
    if target.format is TargetFormat.RAW and seen.size_bytes != target.size_bytes:
        what = (
            f"its size is {format_size(seen.size_bytes)}, it was made with {format_size(target.size_bytes)}"
        )
        raise TargetChanged(path, what)
    return JobFile(target, path, seen.file_id)
