"""What disks, volume groups and portals look like on the bus: plain property values by name.

Types are in the interface XML; a test holds these names to it. What p2vd does is in views_work.
"""

from collections.abc import Mapping

from p2vd.bus.wire import Variant
from p2vd.model.contents import Findings, Partition, Signature
from p2vd.model.disk import ScsiPath, Source
from p2vd.model.doctor import Finding
from p2vd.model.lvm import Lv, PoolUse, Pv, ThinPool, Vg
from p2vd.model.portal import PortalSession, PortalView, RescanReport

Properties = dict[str, object]


def source(disk: Source, policy: str, findings: Findings, auto: str = "") -> Properties:
    """Properties of org.p2vd1.Source; `auto`: what p2vd does with it by itself, or why not."""
    return {
        "Id": disk.id,
        "Wwid": disk.wwid,
        "Name": disk.name,
        "Device": disk.devnode,
        "Size": disk.size_bytes,
        "SectorSize": disk.sector_size,
        "Transport": disk.transport.value,
        "Format": disk.format.value,
        "Vendor": disk.vendor,
        "Model": disk.model,
        "Serial": disk.serial,
        "PathsTotal": len(disk.paths),
        "PathsReady": disk.paths_ready,
        "Usable": not findings.reasons,
        "Reasons": tuple(reason.text for reason in findings.reasons),
        "Warnings": tuple(warning.text for warning in findings.warnings),
        "MatchedPolicy": policy,
        "Auto": auto,
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


def volume_group(vg: Vg, use: Mapping[str, PoolUse], system_id: str) -> Properties:
    """Properties of org.p2vd1.VolumeGroup; `use` by pool name."""
    return {
        "Name": vg.name,
        "Uuid": vg.uuid,
        "Size": vg.size_bytes,
        "Free": vg.free_bytes,
        "ExtentSize": vg.extent_size_bytes,
        "SectorSize": vg.sector_size,
        "ThinPools": tuple(_thin_pool(pool, use.get(pool.name, PoolUse())) for pool in vg.thin_pools),
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


def _thin_pool(pool: ThinPool, use: PoolUse) -> dict[str, Variant]:
    return {
        "Name": Variant("s", pool.name),
        "Uuid": Variant("s", pool.uuid),
        "Size": Variant("t", pool.size_bytes),
        "ChunkSize": Variant("t", pool.chunk_size_bytes),
        "DataPercent": Variant("d", pool.data_percent),
        "MetadataPercent": Variant("d", pool.metadata_percent),
        "VirtualSize": Variant("t", pool.virtual_size_bytes),
        "Reserved": Variant("t", use.reserved_bytes),
        "TakenByOthers": Variant("t", use.others_bytes),
        "MetadataSize": Variant("t", pool.metadata_size_bytes),
        "Zeroes": Variant("b", pool.zeroes),
        "Health": Variant("s", pool.health),
        "Active": Variant("b", pool.active),
        "AutoextendThreshold": Variant("u", pool.autoextend_threshold_percent),
        "AutoextendPercent": Variant("u", pool.autoextend_percent),
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
