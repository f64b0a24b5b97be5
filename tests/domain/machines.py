"""Machines as they stand in data centres: passport, disks and policy of each, for the golden files."""

from dataclasses import dataclass, field, replace

from p2vd.domain.definition import DiskKind, DomainDisk
from p2vd.model.domain import NetworkRule
from p2vd.model.forms import TargetFormat
from p2vd.model.passport import (
    ClockOffset,
    Cpu,
    Dmi,
    GuestSystem,
    Nic,
    NicKind,
    Passport,
    PassportDisk,
)
from p2vd.model.plan import DiskBus, DomainOptions, Firmware
from p2vd.model.size import GIB, TIB

UUID = "6f0e1c1e-2a48-4b8a-9d3c-2f4f36a1f3a1"


@dataclass(frozen=True)
class Machine:
    """What `define` is given."""

    name: str
    passport: Passport | None
    disks: tuple[DomainDisk, ...]
    options: DomainOptions = field(default_factory=DomainOptions)


def wwid(number: int) -> str:
    """A WWID of an array, as multipath writes it."""
    return f"360014052d30a6508937515eb84cf{number:04x}"


def disk(
    name: str, number: int = 1, *, thin: bool = True, size: int = 64 * GIB, sector: int = 512
) -> DomainDisk:
    """The LV of a disk."""
    return DomainDisk(f"/dev/vg_san/{name}", wwid(number), thin, sector, size)


def record(name: str, number: int = 1, *, boots: bool = False, sector: int = 512) -> PassportDisk:
    """The old machine's word for a disk; sysfs writes the same WWID otherwise than multipath."""
    return PassportDisk(
        name, 64 * GIB, "naa." + wwid(number)[1:], transport="iscsi", sector_size=sector, boots=boots
    )


DEBIAN = GuestSystem(
    id="debian",
    name="Debian GNU/Linux 12 (bookworm)",
    version="12",
    kernel="6.1.0-25-amd64",
    drivers=("ahci", "ata_piix", "e1000", "e1000e", "virtio_blk", "virtio_net", "virtio_rng", "virtio_scsi"),
    boot_drivers=("ahci", "ata_piix", "virtio_blk", "virtio_scsi"),
    agents=("qemu-ga",),
)
WINDOWS_2019 = GuestSystem(id="windows", name="Windows Server 2019 Standard", version="10.0.17763")
CENTOS_5 = GuestSystem(
    id="centos",
    name="CentOS release 5.11 (Final)",
    version="5.11",
    kernel="2.6.18-398.el5",
    drivers=("ahci", "ata_piix", "e1000", "e1000e"),
    boot_drivers=("ata_piix",),
)
RHEL_9 = GuestSystem(
    id="rhel",
    name="Red Hat Enterprise Linux 9.4 (Plow)",
    version="9.4",
    kernel="5.14.0-427.el9.x86_64",
    drivers=("ahci", "ata_piix", "e1000e", "virtio_blk", "virtio_net", "virtio_scsi"),
)
XEON = Cpu("Intel(R) Xeon(R) Silver 4210", "GenuineIntel", 1, 4, 2, ("aes", "avx2", "vmx"))
ETH0 = Nic("eth0", mac="00:25:90:ab:cd:01", driver="igb", speed_mbps=1000, addresses=("10.1.2.3/24",))

WEB = Passport(
    "web1",
    cpu=XEON,
    memory_bytes=16 * GIB,
    firmware=Firmware.BIOS,
    dmi=Dmi("Supermicro", "SYS-5019P"),
    disks=(record("sda", boots=True),),
    nics=(ETH0,),
    clock=ClockOffset.UTC,
    system=DEBIAN,
)
WINDOWS = replace(
    WEB,
    name="files1",
    firmware=Firmware.UEFI,
    nics=(replace(ETH0, name="Ethernet 1"),),
    clock=ClockOffset.LOCAL,
    system=WINDOWS_2019,
)
BONDED = replace(
    WEB,
    name="db1",
    nics=(
        Nic("eth0", mac="00:25:90:ab:cd:01", driver="ixgbe", speed_mbps=10000),
        Nic("eth1", mac="00:25:90:ab:cd:02", driver="ixgbe", speed_mbps=10000),
        Nic("eth2", mac="00:25:90:ab:cd:03", driver="igb", addresses=("192.168.7.9/24",), speed_mbps=1000),
        Nic("eth3", mac="00:25:90:ab:cd:04", driver="igb"),
        Nic(
            "bond0",
            NicKind.BOND,
            "00:25:90:ab:cd:01",
            members=("eth0", "eth1"),
            bond_mode="802.3ad",
        ),
        Nic(
            "bond0.10",
            NicKind.VLAN,
            "00:25:90:ab:cd:01",
            parent="bond0",
            vlan_id=10,
            addresses=("10.10.0.5/16",),
        ),
        Nic("bond0.20", NicKind.VLAN, "00:25:90:ab:cd:01", parent="bond0", vlan_id=20),
        Nic("bond0.30", NicKind.VLAN, "00:25:90:ab:cd:01", parent="bond0", vlan_id=30),
        Nic("br20", NicKind.BRIDGE, "00:25:90:ab:cd:01", members=("bond0.20",), addresses=("10.20.0.5/16",)),
    ),
)
BIG = replace(
    WEB,
    name="hana1",
    cpu=Cpu("Intel(R) Xeon(R) Platinum 8280", "GenuineIntel", 4, 28, 2),
    memory_bytes=2 * TIB,
    firmware=Firmware.UEFI,
)
ODD = (3, 7, 1, 8, 2, 6, 4, 5)
LAN = DomainOptions(network="default")
UEFI_LAN = replace(LAN, firmware=Firmware.UEFI)

MACHINES: dict[str, Machine] = {
    "bios-linux": Machine("web1", WEB, (disk("web1"),), LAN),
    "uefi-windows-2019": Machine("files1", WINDOWS, (disk("files1"),), UEFI_LAN),
    "uefi-windows-2019-virtio": Machine(
        "files1",
        replace(
            WINDOWS,
            system=replace(
                WINDOWS_2019,
                drivers=("viostor", "vioscsi", "netkvm", "viorng"),
                boot_drivers=("viostor", "storahci"),
                agents=("qemu-ga",),
            ),
        ),
        (disk("files1"),),
        UEFI_LAN,
    ),
    "eight-disks-odd-order": Machine(
        "store1",
        replace(WEB, name="store1", disks=tuple(record(f"sd{n}", n, boots=n == 2) for n in ODD)),
        tuple(disk(f"store1-{n}", n, thin=n % 2 == 0) for n in range(1, 9)),
        LAN,
    ),
    # A stock Debian: its loader is found by the old firmware's boot entry alone.
    "uefi-linux-no-fallback": Machine(
        "web2",
        replace(WEB, name="web2", firmware=Firmware.UEFI, fallback_loader=False),
        (disk("web2"),),
        UEFI_LAN,
    ),
    "4kn": Machine(
        "log1",
        replace(WEB, name="log1", firmware=Firmware.UEFI, disks=(record("sda", boots=True, sector=4096),)),
        (disk("log1", sector=4096, thin=False),),
        UEFI_LAN,
    ),
    "bond-with-vlans": Machine(
        "db1",
        BONDED,
        (disk("db1"),),
        DomainOptions(
            networks=(
                NetworkRule("bridge:br-trunk", vlan=10),
                NetworkRule("mgmt", prefix="192.168.7.0/24"),
            )
        ),
    ),
    "2-tib-4-sockets": Machine("hana1", BIG, (disk("hana1"),), UEFI_LAN),
    "centos-5": Machine("old1", replace(WEB, name="old1", system=CENTOS_5), (disk("old1"),), LAN),
    "no-passport": Machine("p2v-a1b2c3", None, (disk("p2v-a1b2c3"),), LAN),
    "uefi-secure-boot": Machine(
        "safe1",
        replace(WEB, name="safe1", firmware=Firmware.UEFI, secure_boot=True),
        (disk("safe1"),),
        UEFI_LAN,
    ),
    "xen": Machine(
        "dom1",
        replace(WEB, name="dom1", disks=tuple(record(f"sd{n}", n, boots=n == 1) for n in range(1, 6))),
        tuple(disk(f"dom1-{n}", n) for n in range(1, 6)),
        DomainOptions("xen:///system", network="bridge:xenbr0"),
    ),
    "xen-windows": Machine(
        "dom2",
        replace(WINDOWS, name="dom2"),
        (disk("dom2"),),
        DomainOptions("xen:///system", firmware=Firmware.UEFI, network="bridge:xenbr0"),
    ),
    "local-clock": Machine(
        "till1", replace(WEB, name="till1", clock=ClockOffset.LOCAL), (disk("till1"),), LAN
    ),
    # Collected from a rescue system: what its disks tell, and that it is Windows.
    "windows-guessed": Machine(
        "files1", replace(WINDOWS, clock=None, system=GuestSystem(id="windows")), (disk("files1"),), UEFI_LAN
    ),
    # Its initramfs is made for its HBA alone.
    "rhel-hba-only": Machine(
        "san1",
        replace(WEB, name="san1", system=replace(RHEL_9, boot_drivers_known=True)),
        (disk("san1"),),
        LAN,
    ),
    "windows-2003": Machine(
        "fax1",
        replace(
            WINDOWS,
            name="fax1",
            firmware=Firmware.BIOS,
            system=GuestSystem(id="windows", name="Windows Server 2003", version="5.2.3790"),
        ),
        (disk("fax1"),),
        LAN,
    ),
    "xl": Machine(
        "dom1",
        replace(WEB, name="dom1", disks=tuple(record(f"sd{n}", n, boots=n == 1) for n in range(1, 6))),
        tuple(disk(f"dom1-{n}", n, thin=n < 3) for n in range(1, 6)),
        DomainOptions("xl", directory="/etc/xen", network="xenbr0"),
    ),
    "xl-windows": Machine(
        "dom2",
        replace(WINDOWS, name="dom2"),
        (disk("dom2"),),
        DomainOptions("xl", directory="/etc/xen", firmware=Firmware.UEFI, network="xenbr0"),
    ),
    "proxmox": Machine(
        "web_1",
        WEB,
        (disk("web_1"), disk("web_1-2", 2, thin=False)),
        DomainOptions("proxmox", directory="/srv/p2vd", network="vmbr0", bus=DiskBus.SCSI),
    ),
    "proxmox-windows": Machine(
        "files1",
        WINDOWS,
        (disk("files1"),),
        DomainOptions("proxmox", firmware=Firmware.UEFI, network="vmbr0"),
    ),
    "kubevirt": Machine(
        "Web.1",
        WEB,
        (disk("Web.1"), disk("Web.1-2", 2)),
        DomainOptions("kubevirt", network="pod", nodes=("node1", "node2.example.org"), namespace="erp"),
    ),
    "kubevirt-windows": Machine(
        "files1",
        replace(WINDOWS, secure_boot=True),
        (disk("files1"),),
        DomainOptions(
            "kubevirt", firmware=Firmware.UEFI, network="default/lan", nodes=("node1",), start=True
        ),
    ),
    "kubevirt-4kn": Machine(
        "log1",
        replace(WEB, name="log1", firmware=Firmware.UEFI, disks=(record("sda", boots=True, sector=4096),)),
        (disk("log1", sector=4096),),
        DomainOptions("kubevirt", firmware=Firmware.UEFI, nodes=("node1",)),
    ),
    "files-and-luns": Machine(
        "web1",
        WEB,
        (
            replace(disk("web1"), devnode="/srv/images/web1.raw", kind=DiskKind.FILE),
            replace(
                disk("web1", 2),
                devnode="/srv/images/web1-2.qcow2",
                kind=DiskKind.FILE,
                format=TargetFormat.QCOW2,
            ),
            replace(disk("web1", 3, thin=False), devnode=f"/dev/disk/by-id/dm-uuid-mpath-{wwid(9)}"),
        ),
        LAN,
    ),
    "xl-files": Machine(
        "dom3",
        replace(WEB, name="dom3"),
        (
            replace(
                disk("dom3"), devnode="/srv/images/dom3.qcow2", kind=DiskKind.FILE, format=TargetFormat.QCOW2
            ),
        ),
        DomainOptions("xl", directory="/etc/xen", network="xenbr0"),
    ),
    "scsi-sixteen-disks": Machine(
        "nas1",
        replace(
            WEB,
            name="nas1",
            disks=tuple(record(f"sd{chr(ord('a') + n)}", n, boots=n == 0) for n in range(16)),
        ),
        tuple(disk(f"nas1-{n + 1}", n) for n in range(16)),
        replace(LAN, bus=DiskBus.SCSI),
    ),
    "scsi-by-policy": Machine("web1", WEB, (disk("web1"), disk("web1-2", 2)), replace(LAN, bus=DiskBus.SCSI)),
}
"""By the name of the golden file."""
