"""A host with three disks, one volume group and, after Migrate, a job: what the fake engine knows."""

from p2vd.model.contents import BootStyle, Contents, Examination, Partition, Signature, Table
from p2vd.model.copying import Progress
from p2vd.model.disk import PathState, Portal, ScsiPath, Source, Transport
from p2vd.model.domain import DomainChoice
from p2vd.model.errors import Reason
from p2vd.model.fc import Hba, RemotePort
from p2vd.model.inventory import Inventory
from p2vd.model.job import Caller, Job, Machine
from p2vd.model.lvm import Lv, Pv, ThinPool, Vg
from p2vd.model.passport import ClockOffset, Cpu, GuestSystem, IpRoute, Nic, Passport, PassportDisk
from p2vd.model.plan import (
    CopyOptions,
    DiskPlan,
    DomainOptions,
    Firmware,
    LvTarget,
    Plan,
    Provisioning,
    SourceBinding,
)
from p2vd.model.portal import PortalRecord, PortalSession, PortalState, PortalView
from p2vd.model.rule import RuleView, Setting
from p2vd.model.size import GIB, MIB

WWID = "36001405a9e26254e651465c89ff715d5"
BUSY_WWID = "36001405b0000000000000000000000ff"
VG_UUID = "XcPoHv-J1gG-8Ssj-XvY3-8Lhq-Ncwf-s5WpLD"
PLAN_ID = "5d0f2c6e9a31"
JOB_UUID = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
MACHINE_UUID = "1b4e28ba-2fa1-41d2-883f-0016d3cca427"
LV_UUID = "mPpYcN-0Ww7-Jh4a-cGdE-RkLx-2vBn-AbCdEf"


def _path(device: str, portal: str, state: PathState = PathState.READY) -> ScsiPath:
    iqn = "iqn.2026-01.org.example.lab:t1"
    group = 1 if state is PathState.READY else 0
    where = Portal(portal, 3260)
    return ScsiPath(device, "3:0:0:1", WWID, state, 10 * GIB, where, iqn, priority=50 * group, group=group)


CONTENTS = Contents(
    table=Table.GPT,
    boot=BootStyle.UEFI,
    physical_sector_size=512,
    partitions=(
        Partition(
            1,
            MIB,
            512 * MIB,
            "c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
            "EFI System",
            Signature("vfat", "EFI", "087F-1962"),
        ),
        Partition(2, 513 * MIB, 9 * GIB, "0x8e", "", Signature("LVM2_member", volume_group="guestvg")),
    ),
)


SOURCE = Source(
    id=WWID,
    wwid=WWID,
    device="dm-0",
    name="mpatha",
    dm_uuid=f"mpath-{WWID}",
    size_bytes=10 * GIB,
    sector_size=512,
    transport=Transport.ISCSI,
    vendor="LIO-ORG",
    model="erp\0 system",  # an odd LUN: a NUL in INQUIRY must not break a reply
    serial="a9e26254",
    paths=(_path("sda", "10.98.1.1"), _path("sdb", "10.98.2.1", PathState.FAULTY)),
    examination=Examination.DONE,
    contents=CONTENTS,
)
BUSY_SOURCE = Source(
    id=BUSY_WWID,
    wwid=BUSY_WWID,
    device="dm-1",
    name="mpathb",
    dm_uuid=f"mpath-{BUSY_WWID}",
    size_bytes=300 * MIB,
    sector_size=4096,
    transport=Transport.ISCSI,
    reasons=(Reason("mounted", "/dev/mapper/mpathb is mounted on /mnt. Unmount it."),),
)
LOCAL_SOURCE = Source(
    id="virtio-root-1",
    wwid="",
    device="vdb",
    name="vdb",
    dm_uuid="",
    size_bytes=2 * GIB,
    sector_size=512,
    transport=Transport.VIRTIO,
    warnings=(Reason("some", "It is odd."),),
)
LV = Lv("lv-other", "other", GIB, frozenset({"p2vd.job=1", "a"}), "pool0", active=True)
VG = Vg(
    uuid=VG_UUID,
    name="vg_san",
    size_bytes=100 * GIB,
    free_bytes=40 * GIB,
    extent_size_bytes=4 * MIB,
    sector_size=512,
    pvs=(Pv("pv-uuid", "/dev/mapper/mpathz", 100 * GIB, 40 * GIB, source_id="36001405pv"),),
    lvs=(LV,),
    thin_pools=(ThinPool("pool-uuid", "pool0", 60 * GIB, 64 * 1024, True, 12.5, 3.25, 80 * GIB),),
)
FC_PATH = ScsiPath(
    "sdk",
    "7:0:0:2",
    "3600140500000000000000000000000fc",
    PathState.READY,
    GIB,
    hba_wwpn="20:00:02:fc:00:00:00:01",
    target_wwpn="20:00:02:fc:00:00:00:02",
    target_wwnn="10:00:02:fc:00:00:00:02",
    port_state="Online",
)
FC_SOURCE = Source(
    id=FC_PATH.wwid,
    wwid=FC_PATH.wwid,
    device="dm-4",
    name="mpathf",
    dm_uuid=f"mpath-{FC_PATH.wwid}",
    size_bytes=GIB,
    sector_size=512,
    transport=Transport.FC,
    paths=(FC_PATH,),
)
REMOTE_PORT = RemotePort(
    name="rport-7:0-0",
    wwpn=FC_PATH.target_wwpn,
    wwnn=FC_PATH.target_wwnn,
    port_id="0x00ace1",
    state="Online",
    roles=("FCP Target",),
    target="7:0:0",
)
HBA = Hba(
    host="host7",
    wwpn=FC_PATH.hba_wwpn,
    wwnn="10:00:02:fc:00:00:00:01",
    port_id="0x009b5c",
    state="Online",
    speed="10 Gbit",
    remote_ports=(REMOTE_PORT,),
)
INVENTORY = Inventory(
    sources=(SOURCE, BUSY_SOURCE, LOCAL_SOURCE),
    hbas=(HBA,),
    volume_groups=(VG,),
    exposures=(Reason("kpartx", "kpartx rules are in force. Install p2vd's rules."),),
)
LV_TARGET = LvTarget(VG_UUID, "vg_san", "erp1-disk0", Provisioning.THIN, 10 * GIB, 512, "pool-uuid", "pool0")
DISK_PLAN = DiskPlan(
    id=PLAN_ID,
    machine_name="erp1",
    source=SourceBinding(WWID, WWID, Transport.ISCSI, 10 * GIB, 512),
    target=LV_TARGET,
    copy=CopyOptions(),
    policy="lab",
    policy_file="/etc/p2vd/policy.d/50-lab.toml",
    source_offline=True,
    worst_case_bytes=10 * GIB,
    digest_parts=(("source", WWID),),
)
PLAN = Plan(
    id=PLAN_ID,
    machine_name="erp1",
    disks=(DISK_PLAN,),
    domain=DomainOptions(memory_bytes=2 * GIB, vcpus=2),
    digest_parts=(("source", WWID),),
    steps=("Create the thin volume vg_san/erp1-disk0.", "Copy 10 GiB and read it back."),
    warnings=("Only 1 of 2 paths answers.",),
    domain_choices=(DomainChoice("disk-bus", "sata", "Nothing is known of virtio drivers in the guest."),),
)

PORTAL = PortalView(
    PortalRecord(Portal("10.98.1.1", 3260), chap=True, settled=True),
    PortalState.CONNECTED,
    sessions=(PortalSession("iqn.2026-01.org.example.lab:t1", 1, "LOGGED_IN", ours=True),),
    luns=1,
    nic="ens4",
    source_address="10.98.1.9",
    mtu_bytes=9000,
)


PASSPORT = Passport(
    "erp1",
    collected_us=1_700_000_000_000_000,
    cpu=Cpu(
        "Intel(R) Xeon(R) Gold 6130", "GenuineIntel", sockets=2, cores=16, threads=2, flags=("avx2", "vmx")
    ),
    memory_bytes=256 * GIB,
    firmware=Firmware.UEFI,
    disks=(
        PassportDisk("mpatha", 10 * GIB, WWID, "d2f5c1d3", "LIO-ORG i0", "iscsi", boots=True),
        PassportDisk("sdc", 2000 * GIB, "35000c500a1b2c3d4", "ZC1234", "SEAGATE ST2000", "sas", 4096),
    ),
    nics=(Nic("ens1f0", mac="3c:fd:fe:00:00:01", driver="i40e", addresses=("10.1.2.3/24",)),),
    routes=(IpRoute("default", "ens1f0", "10.1.2.1"),),
    dns=("10.1.0.53",),
    clock=ClockOffset.UTC,
    system=GuestSystem("debian", "Debian GNU/Linux 12 (bookworm)", "12", "6.1.0-18-amd64"),
)


def job(uuid: str = JOB_UUID, machine_uuid: str = MACHINE_UUID, caller: Caller | None = None) -> Job:
    return Job(
        uuid,
        machine_uuid,
        DISK_PLAN,
        started_by=caller or Caller(),
        start_time_us=1_700_000_000_000_000,
        lv_uuid=LV_UUID,
        progress=Progress(),
    )


def machine(uuid: str = MACHINE_UUID, jobs: tuple[str, ...] = (JOB_UUID,)) -> Machine:
    return Machine(uuid, "erp1", jobs=jobs, plan_id=PLAN_ID)


RULES = (
    RuleView(
        "lab",
        "/etc/p2vd/policy.d/50-lab.toml",
        1,
        (
            Setting("match", "wwid", "3600*", is_default=False),
            Setting("target", "name", "{machine}", is_default=True),
        ),
    ),
    RuleView("fc", "/etc/p2vd/policy.d/50-lab.toml", 9, (Setting("match", "transport", "fc", False),)),
)
