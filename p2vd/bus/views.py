"""What model values look like on the bus: plain property values by name.

Types are in the interface XML; a test holds these names to it.
"""

from collections.abc import Mapping

from p2vd.bus.names import JOB, MACHINE, SOURCE, object_path
from p2vd.bus.wire import Variant
from p2vd.model.boot_test import BootTest
from p2vd.model.contents import Findings, Partition, Signature
from p2vd.model.copying import Verify
from p2vd.model.disk import ScsiPath, Source
from p2vd.model.doctor import Finding
from p2vd.model.job import Activity, Job, JobError, Machine, Stage
from p2vd.model.limits import Waiting
from p2vd.model.lvm import Lv, Pv, ThinPool, Vg
from p2vd.model.plan import DiskPlan, Plan
from p2vd.model.portal import PortalSession, PortalView, RescanReport

Properties = dict[str, object]

OPERATION = "p2v-copy"
_SECOND_US = 1_000_000


def source(disk: Source, policy: str, findings: Findings) -> Properties:
    """Properties of org.p2vd1.Source."""
    return {
        "Id": disk.id,
        "Wwid": disk.wwid,
        "Name": disk.name,
        "Device": disk.devnode,
        "Size": disk.size_bytes,
        "SectorSize": disk.sector_size,
        "Transport": disk.transport.value,
        "Vendor": disk.vendor,
        "Model": disk.model,
        "Serial": disk.serial,
        "PathsTotal": len(disk.paths),
        "PathsReady": disk.paths_ready,
        "Usable": not findings.reasons,
        "Reasons": tuple(reason.text for reason in findings.reasons),
        "Warnings": tuple(warning.text for warning in findings.warnings),
        "MatchedPolicy": policy,
        "Contents": _contents(disk),
    }


def _contents(disk: Source) -> dict[str, Variant]:
    values = {
        "State": Variant("s", disk.examination.value),
        "Problem": Variant("s", disk.examination_problem),
    }
    contents = disk.contents
    if contents is None:
        return values
    held = contents.reservation
    return {
        **values,
        "Table": Variant("s", contents.table.value),
        "Boot": Variant("s", contents.boot.value),
        "PhysicalSectorSize": Variant("u", contents.physical_sector_size),
        "Reservation": Variant("s", f"{held.key} ({held.type})" if held else ""),
        "RegisteredKeys": Variant("u", contents.registered_keys),
        "Problems": Variant("as", contents.problems),
        **_signature(contents.signature),
        "Partitions": Variant("aa{sv}", tuple(_partition(one) for one in contents.partitions)),
    }


def _partition(partition: Partition) -> dict[str, Variant]:
    return {
        "Number": Variant("u", partition.number),
        "Start": Variant("t", partition.start_bytes),
        "Size": Variant("t", partition.size_bytes),
        "Type": Variant("s", partition.type),
        "Name": Variant("s", partition.name),
        **_signature(partition.signature),
    }


def _signature(signature: Signature) -> dict[str, Variant]:
    return {
        "Holds": Variant("s", signature.type),
        "Label": Variant("s", signature.label),
        "Uuid": Variant("s", signature.uuid),
        "VolumeGroup": Variant("s", signature.volume_group),
        "Dirty": Variant("b", signature.dirty),
        "Hibernated": Variant("b", signature.hibernated),
    }


def scsi_path(path: ScsiPath) -> dict[str, Variant]:
    """One element of what Source.GetPaths returns."""
    return {
        "Device": Variant("s", path.device),
        "Hctl": Variant("s", path.hctl),
        "Wwid": Variant("s", path.wwid),
        "State": Variant("s", path.state.value),
        "Size": Variant("t", path.size_bytes),
        "Portal": Variant("s", str(path.portal) if path.portal else ""),
        "TargetIqn": Variant("s", path.target_iqn),
        "HbaWwpn": Variant("s", path.hba_wwpn),
        "TargetWwpn": Variant("s", path.target_wwpn),
        "TargetWwnn": Variant("s", path.target_wwnn),
        "PortState": Variant("s", path.port_state),
        "Host": Variant("s", path.host),
        "Priority": Variant("i", path.priority),
        "Group": Variant("u", path.group),
    }


def finding(value: Finding) -> dict[str, Variant]:
    """One element of what Manager.Doctor returns."""
    return {
        "Severity": Variant("s", value.severity.value),
        "Code": Variant("s", value.reason.code),
        "Text": Variant("s", value.reason.text),
    }


def volume_group(vg: Vg, reserved: Mapping[str, int], system_id: str) -> Properties:
    """Properties of org.p2vd1.VolumeGroup; `reserved` bytes by pool name."""
    return {
        "Name": vg.name,
        "Uuid": vg.uuid,
        "Size": vg.size_bytes,
        "Free": vg.free_bytes,
        "ExtentSize": vg.extent_size_bytes,
        "SectorSize": vg.sector_size,
        "ThinPools": tuple(_thin_pool(pool, reserved.get(pool.name, 0)) for pool in vg.thin_pools),
        "PhysicalVolumes": tuple(pv.device for pv in vg.pvs),
        "Devices": tuple(_physical_volume(pv) for pv in vg.pvs),
        "FreeExtents": vg.free_bytes // vg.extent_size_bytes if vg.extent_size_bytes else 0,
        "LockType": vg.lock_type,
        "SystemId": vg.system_id,
        "Tags": tuple(sorted(vg.tags)),
        "Volumes": len(vg.lvs),
        "Reasons": tuple(reason.text for reason in vg.refusals(system_id)),
    }


def _physical_volume(pv: Pv) -> dict[str, Variant]:
    return {
        "Uuid": Variant("s", pv.uuid),
        "Device": Variant("s", pv.device),
        "Source": Variant("s", pv.source_id),
        "Size": Variant("t", pv.size_bytes),
        "Free": Variant("t", pv.free_bytes),
        "Missing": Variant("b", pv.missing),
        "Duplicate": Variant("b", pv.duplicate),
    }


def volume(lv: Lv) -> dict[str, Variant]:
    """One element of what VolumeGroup.GetVolumes returns."""
    return {
        "Uuid": Variant("s", lv.uuid),
        "Name": Variant("s", lv.name),
        "Size": Variant("t", lv.size_bytes),
        "Pool": Variant("s", lv.pool),
        "Tags": Variant("as", tuple(sorted(lv.tags))),
        "Active": Variant("b", lv.active),
        "Autoactivation": Variant("b", lv.autoactivation),
    }


def _thin_pool(pool: ThinPool, reserved_bytes: int) -> dict[str, Variant]:
    return {
        "Name": Variant("s", pool.name),
        "Uuid": Variant("s", pool.uuid),
        "Size": Variant("t", pool.size_bytes),
        "ChunkSize": Variant("t", pool.chunk_size_bytes),
        "DataPercent": Variant("d", pool.data_percent),
        "MetadataPercent": Variant("d", pool.metadata_percent),
        "VirtualSize": Variant("t", pool.virtual_size_bytes),
        "Reserved": Variant("t", reserved_bytes),
        "Zeroes": Variant("b", pool.zeroes),
        "Health": Variant("s", pool.health),
        "Active": Variant("b", pool.active),
        "AutoextendThreshold": Variant("u", pool.autoextend_threshold_percent),
        "AutoextendPercent": Variant("u", pool.autoextend_percent),
    }


def machine(value: Machine) -> Properties:
    """Properties of org.p2vd1.Machine."""
    return {
        "Uuid": value.uuid,
        "Name": value.name,
        "State": value.state.value,
        "Jobs": tuple(object_path(JOB, uuid) for uuid in value.jobs),
        "Plan": value.plan_id,
        "Domain": value.domain_uuid,
        "CutoverMode": value.cutover.value,
        "Unmap": value.unmap,
        "Error": _error(value.error),
        "BootTest": _boot_test(value.boot_test),
    }


def _boot_test(test: BootTest | None) -> dict[str, Variant]:
    if test is None:
        return {}
    return {
        "State": Variant("s", test.state.value),
        "Sign": Variant("s", test.sign.value),
        "Seen": Variant("s", test.seen),
        "Serial": Variant("s", test.serial),
        "Screenshot": Variant("s", test.screenshot),
        "Accelerator": Variant("s", test.accelerator),
        "StartTime": Variant("t", test.started_us),
        "EndTime": Variant("t", test.ended_us),
        "Error": Variant("s", test.error),
    }


def job(
    value: Job, activity: Activity, stalled: str, now_us: int, waiting: Waiting | None = None
) -> Properties:
    """Properties of org.p2vd1.Job at the moment `now_us`; `waiting`: what for, where it does."""
    progress, plan = value.progress, value.plan
    running = activity is Activity.RUNNING
    return {
        "Uuid": value.uuid,
        "Operation": OPERATION,
        "Stage": value.stage.value,
        "FailedStage": value.failed_stage.value if value.failed_stage else "",
        "Holds": tuple(sorted(hold.value for hold in value.holds)),
        "Activity": activity.value,
        "Stalled": stalled,
        "Waiting": waiting.reason if waiting else "",
        "QueuePlace": waiting.place if waiting else 0,
        "Machine": object_path(MACHINE, value.machine_uuid),
        "Source": object_path(SOURCE, plan.source.id),
        "SourceId": plan.source.id,
        "Disk": plan.number,
        "Target": f"/dev/{plan.target.vg_name}/{plan.target.lv_name}",
        "TargetUuid": value.lv_uuid,
        "Progress": round(fraction_done(value), 4),
        "Bytes": plan.source.size_bytes,
        "Rate": progress.rate_bytes_per_s if running else 0,
        "StartTime": value.start_time_us,
        "ExpectedEndTime": _expected_end_us(value, now_us) if running else 0,
        "EndTime": value.end_time_us,
        "StartedByUID": value.started_by.uid,
        "BytesCopied": progress.bytes_copied,
        "BytesZero": progress.bytes_zero,
        "BytesVerified": progress.bytes_verified,
        "BytesCommitted": progress.committed_bytes,
        "ResumedFrom": progress.resumed_from_bytes,
        "BadBytes": progress.bad_bytes,
        "LastCheckpoint": progress.last_checkpoint_us,
        "Digest": value.digest,
        "SourceStable": value.source_stable,
        "Error": _error(value.error),
    }


def portal(value: PortalView) -> Properties:
    """Properties of org.p2vd1.Portal."""
    record = value.record
    return {
        "Id": record.id,
        "Address": record.portal.address,
        "Port": record.portal.port,
        "Interface": record.interface,
        "Targets": record.targets,
        "Chap": record.chap,
        "State": value.state.value,
        "Error": (value.error_name, value.error),
        "Sessions": tuple(_session(session) for session in value.sessions),
        "Luns": value.luns,
        "Nic": value.nic,
        "SourceAddress": value.source_address,
        "Gateway": value.gateway,
        "Mtu": value.mtu_bytes,
        "Rescanning": value.rescanning,
        "LastRescan": _rescan_report(value.rescan),
    }


def _session(session: PortalSession) -> dict[str, Variant]:
    return {
        "Target": Variant("s", session.target_iqn),
        "Number": Variant("i", session.number),
        "State": Variant("s", session.state),
        "Ours": Variant("b", session.ours),
    }


def _rescan_report(report: RescanReport) -> dict[str, Variant]:
    return {
        "Time": Variant("t", report.time_us),
        "New": Variant("as", report.new),
        "Grown": Variant("as", report.grown),
        "Vanished": Variant("as", report.vanished),
        "Replaced": Variant("as", report.replaced),
        "LeftAlone": Variant("as", report.left_alone),
    }


# What changes all the time, and is announced at most twice a second an object.
COUNTERS = frozenset(
    {
        "Progress",
        "Rate",
        "ExpectedEndTime",
        "BytesCopied",
        "BytesZero",
        "BytesVerified",
        "BytesCommitted",
        "BadBytes",
        "LastCheckpoint",
        "ThinPools",
        "Free",
        "FreeExtents",
    }
)


def plan_page(plan: Plan) -> dict[str, Variant]:
    """What Manager.Plan returns beside the id; what is said of a disk is the first one's, `Disks` has all."""
    return {
        "Id": Variant("s", plan.id),
        "MachineName": Variant("s", plan.machine_name),
        "Record": Variant("s", plan.passport),
        **_disk_plan(plan.disks[0]),
        "Disks": Variant("aa{sv}", tuple(_disk_plan(disk) for disk in plan.disks)),
        "Hypervisor": Variant("s", plan.domain.uri),
        "Firmware": Variant("s", plan.domain.firmware.value),
        "Memory": Variant("t", plan.domain.memory_bytes),
        "Cpus": Variant("u", plan.domain.vcpus),
        "Cutover": Variant("s", plan.cutover.value),
        "Steps": Variant("as", plan.steps),
        "Warnings": Variant("as", plan.warnings),
        "DomainChoices": Variant(
            "a(sss)", tuple((one.key, one.value, one.why) for one in plan.domain_choices)
        ),
    }


def _disk_plan(disk: DiskPlan) -> dict[str, Variant]:
    return {
        "SourceId": Variant("s", disk.source.id),
        "SourceSize": Variant("t", disk.source.size_bytes),
        "SourceSectorSize": Variant("u", disk.source.sector_size),
        "Transport": Variant("s", disk.source.transport.value),
        "VolumeGroup": Variant("s", disk.target.vg_name),
        "VolumeGroupUuid": Variant("s", disk.target.vg_uuid),
        "LogicalVolume": Variant("s", disk.target.lv_name),
        "Provisioning": Variant("s", disk.target.provisioning.value),
        "Pool": Variant("s", disk.target.pool_name),
        "TargetSize": Variant("t", disk.target.size_bytes),
        "WorstCaseBytes": Variant("t", disk.worst_case_bytes),
        "Policy": Variant("s", disk.policy),
        "PolicyFile": Variant("s", disk.policy_file),
        "Verify": Variant("s", disk.copy.verify.value),
        "Bandwidth": Variant("t", disk.copy.bandwidth_bytes_per_s),
        "SourceOffline": Variant("b", disk.source_offline),
    }


def fraction_done(value: Job) -> float:
    """How much of the work is done, 0 to 1; reading back is work too, and only `proven` is all of it."""
    if value.stage is Stage.PROVEN:
        return 1.0
    done, total = _work_bytes(value)
    return min(done / total, 0.9999) if total else 0.0


def _work_bytes(value: Job) -> tuple[int, int]:
    size = value.plan.source.size_bytes
    done = min(value.progress.bytes_copied + value.progress.bytes_zero, size)
    if value.plan.copy.verify is Verify.NONE:
        return done, size
    return done + min(value.progress.bytes_verified, size), 2 * size


def _expected_end_us(value: Job, now_us: int) -> int:
    done, total = _work_bytes(value)
    rate = value.progress.rate_bytes_per_s
    if rate <= 0 or value.stage not in (Stage.COPYING, Stage.VERIFYING):
        return 0
    end_us = now_us + (total - done) * _SECOND_US // rate
    return end_us - end_us % _SECOND_US


def _error(error: JobError | None) -> tuple[str, str]:
    return (error.name, error.message) if error else ("", "")
