"""Values that the tests of jobs share."""

from p2vd.model.disk import PathState, Portal, ScsiPath, Source, Transport
from p2vd.model.job import Job, Machine
from p2vd.model.plan import (
    CopyOptions,
    DiskBus,
    DiskPlan,
    DomainOptions,
    LvTarget,
    Plan,
    Provisioning,
    SourceBinding,
)
from p2vd.model.size import GIB

WWID = "36001405a9e26254e651465c89ff715d5"
IQN = "iqn.2026-01.org.example.lab:t1"


def lv_target(disk: DiskPlan) -> LvTarget:
    """The volume that a disk becomes, where it becomes one."""
    assert isinstance(disk.target, LvTarget)
    return disk.target


def scsi_path(device: str, state: PathState = PathState.READY, size_bytes: int = GIB) -> ScsiPath:
    return ScsiPath(
        device, "3:0:0:1", WWID, state, size_bytes, Portal("10.98.1.1", 3260), IQN, priority=50, group=1
    )


def source(size_bytes: int = GIB, state: PathState = PathState.READY) -> Source:
    return Source(
        id=WWID,
        wwid=WWID,
        device="dm-0",
        name="mpatha",
        dm_uuid=f"mpath-{WWID}",
        size_bytes=size_bytes,
        sector_size=512,
        transport=Transport.ISCSI,
        paths=(scsi_path("sda", state, size_bytes), scsi_path("sdb", state, size_bytes)),
    )


def disk_plan(plan_id: str = "0123456789abcdef") -> DiskPlan:
    return DiskPlan(
        id=plan_id,
        machine_name="erp1",
        source=SourceBinding(WWID, WWID, Transport.ISCSI, GIB, 512),
        target=LvTarget("vg-uuid", "vg_san", "erp1", Provisioning.THIN, GIB, 512, "pool-uuid", "pool0"),
        copy=CopyOptions(),
        policy="lab",
        policy_file="/etc/p2vd/policy.d/lab.toml",
        source_offline=True,
        worst_case_bytes=GIB,
        digest_parts=(("source", WWID),),
    )


def plan(plan_id: str = "0123456789abcdef") -> Plan:
    disk = disk_plan(plan_id)
    domain = DomainOptions(memory_bytes=2 * GIB, vcpus=2, bus=DiskBus.VIRTIO)
    return Plan(plan_id, "erp1", (disk,), domain, disk.digest_parts)


def machine_and_job() -> tuple[Machine, Job]:
    job = Job("11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222", disk_plan())
    return Machine(job.machine_uuid, "erp1", jobs=(job.uuid,), plan_id=job.plan.id), job
