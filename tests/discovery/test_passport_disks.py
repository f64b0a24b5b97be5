"""Disks by what names them, on kernels old and new, with and without multipath; and which of them boots."""

from pathlib import Path
from typing import Any

import pytest

from p2vd.discovery.passport.disks import boot_devices, disks
from tests.discovery.machine_tree import Machine

ISCSI = "platform/host{0}/session{0}/target{0}:0:0/{0}:0:0:0"
NAA = "naa.60014052d30a6508937515eb84cfdeac"
WWID = "360014052d30a6508937515eb84cfdeac"
PG80 = b"\x00\x80\x00\x08S3Z1NX0K"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def found(machine: Machine, *boots: str) -> tuple[list[dict[str, Any]], list[str]]:
    host = machine.host()
    return disks(host, set(boots)), host.problems


def test_a_scsi_disk(machine: Machine) -> None:
    machine.disk(
        "sda",
        "pci0000:00/host0/port-0:0/end_device-0:0/target0:0:0/0:0:0:0",
        device__vendor="SEAGATE ",
        device__model="ST600MM0088     ",
        device__wwid="naa.5000c500a1b2c3d4\n",
        device__vpd_pg80=PG80,
        dev="8:0",
    )
    machine.write("/run/udev/data/b8:0", "S:disk/by-id/x\nE:ID_PART_TABLE_TYPE=dos\nE:ID_BUS=scsi\n")
    assert found(machine, "sda") == (
        [
            {
                "name": "sda",
                "size_bytes": 1 << 30,
                "wwid": "35000c500a1b2c3d4",
                "serial": "S3Z1NX0K",
                "model": "SEAGATE ST600MM0088",
                "transport": "sas",
                "sector_size": 512,
                "partition_table": "mbr",
                "boots": True,
            }
        ],
        [],
    )


@pytest.mark.parametrize(
    ("name", "where", "transport"),
    [
        ("sda", "pci/ata1/host0/target0:0:0/0:0:0:0", "sata"),
        ("sda", ISCSI.format(3), "iscsi"),
        ("sda", "pci/host1/rport-1:0-2/target1:0:0/1:0:0:0", "fc"),
        ("sda", "pci/usb1/1-1/host9/target9:0:0/9:0:0:0", "usb"),
        ("sda", "pci/host0/target0:2:0/0:2:0:0", "scsi"),
        ("vda", "pci/virtio2", "virtio"),
        ("sda", "pci/virtio2/host0/target0:0:0/0:0:0:0", "virtio"),
        ("nvme0n1", "pci/nvme/nvme0", "nvme"),
        ("xvda", "vbd-51712", "xen"),
        ("mmcblk0", "pci/mmc_host/mmc0/mmc0:0001", "mmc"),
        ("hda", "pci/ide0/0.0", ""),
    ],
)
def test_how_a_disk_is_attached(machine: Machine, name: str, where: str, transport: str) -> None:
    machine.disk(name, where, serial="X")
    ((disk,), _) = found(machine)
    assert disk["transport"] == transport


def test_an_nvme_disk(machine: Machine) -> None:
    machine.disk(
        "nvme0n1",
        "pci/nvme/nvme0",
        wwid="eui.0025385b71b0a1c2\n",
        device__model="Samsung  ",
        device__serial="S4 ",
    )
    machine.disk("nvme0c0n1", "pci/nvme/nvme0/x", hidden="1")
    ((disk,), problems) = found(machine)
    assert (disk["wwid"], disk["model"], disk["serial"]) == ("eui.0025385b71b0a1c2", "Samsung", "S4")
    assert problems == []


def lun(machine: Machine, name: str, host: int) -> None:
    machine.disk(name, ISCSI.format(host), device__wwid=NAA, device__vendor="LIO-ORG", device__model="boot1")


def test_the_paths_of_a_map_are_one_disk(machine: Machine) -> None:
    lun(machine, "sda", 3)
    lun(machine, "sdb", 4)
    machine.disk("dm-0", "virtual", dm__uuid=f"mpath-{WWID}", dm__name="mpatha")
    for path in ("sda", "sdb"):
        machine.write(f"/sys/devices/virtual/block/dm-0/slaves/{path}")
    machine.write("/sys/devices/virtual/block/dm-0/dev", "254:0")
    machine.write("/run/udev/data/b254:0", "E:ID_PART_TABLE_TYPE=gpt\n")
    ((disk,), _) = found(machine, "dm-0")
    assert disk["partition_table"] == "gpt"
    assert (disk["name"], disk["wwid"], disk["transport"], disk["boots"]) == ("mpatha", WWID, "iscsi", True)


@pytest.mark.parametrize("mounted", ["sda", "sdb"])
def test_the_paths_of_a_lun_without_a_map_are_one_disk(machine: Machine, mounted: str) -> None:
    lun(machine, "sda", 3)
    lun(machine, "sdb", 4)
    ((disk,), _) = found(machine, mounted)
    assert (disk["name"], disk["wwid"], disk["boots"]) == ("sda", WWID, True)


@pytest.mark.parametrize(
    ("links", "wwid"),
    [
        (["wwn-0x60014052d30a6508937515eb84cfdeac", f"scsi-{WWID}"], WWID),
        (["wwn-0x5000c500a1b2c3d4", "ata-ST1000_Z1"], "35000c500a1b2c3d4"),
        (["ata-ST1000_Z1", "scsi-SATA_ST1000_Z1"], ""),
    ],
)
def test_on_an_old_kernel_udev_tells_the_wwid(machine: Machine, links: list[str], wwid: str) -> None:
    machine.disk("sda", "pci/host0/target0:0:0/0:0:0:0", dev="8:0")
    machine.write("/run/udev/data/b8:0", "E:ID_SCSI_SERIAL=Z1\n")
    for link in links:
        machine.link(f"/dev/disk/by-id/{link}", "../../sda")
    ((disk,), _) = found(machine)
    assert (disk["wwid"], disk["serial"]) == (wwid, "Z1")


def test_disks_are_in_the_kernels_order(machine: Machine) -> None:
    for name in ("sdaa", "sdb", "sdz", "vdb", "nvme10n1", "nvme2n1"):
        machine.disk(name, f"pci/{name}", serial=name)
    assert [disk["name"] for disk in found(machine)[0]] == [
        "nvme2n1",
        "nvme10n1",
        "sdb",
        "sdz",
        "sdaa",
        "vdb",
    ]


def test_what_is_no_disk_of_the_machine_is_left_out(machine: Machine) -> None:
    machine.disk("sda", "pci/usb1/host9", removable="1")
    machine.disk("sdb", "pci/host1", size="0")  # a card reader
    for name in ("loop0", "ram0", "sr0", "zram0", "md0", "dm-1", "nbd0"):
        machine.disk(name, f"virtual/{name}")
    assert found(machine) == ([], ["sda is left out: a removable medium.", "There are no disks."])


def test_a_disk_without_a_name_is_said(machine: Machine) -> None:
    machine.disk("vda", "pci/virtio1", device__vendor="0x1af4")
    ((disk,), problems) = found(machine)
    assert disk["model"] == ""
    assert problems == ["vda has neither a WWID nor a serial number: nothing tells it from another disk."]


# ---- which of them boots ----


def partition(machine: Machine, disk: str, name: str, numbers: str, where: str) -> None:
    machine.write(f"/sys/devices/{where}/block/{disk}/{name}/partition", "1")
    machine.write(f"/sys/devices/{where}/block/{disk}/{name}/dev", numbers)
    machine.link(f"/sys/class/block/{name}", f"../../devices/{where}/block/{disk}/{name}")
    machine.link(f"/sys/dev/block/{numbers}", f"../../devices/{where}/block/{disk}/{name}")


def stacked(machine: Machine, name: str, numbers: str, *below: str, **attributes: str) -> None:
    machine.disk(name, "virtual", dev=numbers, **attributes)
    for slave in below:
        machine.write(f"/sys/devices/virtual/block/{name}/slaves/{slave}")
    machine.link(f"/sys/dev/block/{numbers}", f"../../devices/virtual/block/{name}")


def mounts(*lines: tuple[str, str, str, str]) -> str:
    return "".join(
        f"{number} 1 {numbers} / {place} rw,relatime shared:1 - {kind} {source} rw\n"
        for number, (numbers, place, kind, source) in enumerate(lines, 22)
    )


@pytest.fixture
def server(machine: Machine) -> Machine:
    """Root on LVM on md RAID 1 of sda and sdb, /boot/efi on nvme0n1, data on sdc."""
    for disk, minor in (("sda", 0), ("sdb", 16), ("sdc", 32)):
        machine.disk(disk, f"pci/{disk}", dev=f"8:{minor}", serial=disk)
        partition(machine, disk, f"{disk}1", f"8:{minor + 1}", f"pci/{disk}")
    machine.disk("nvme0n1", "pci/nvme0", dev="259:0", serial="n")
    partition(machine, "nvme0n1", "nvme0n1p1", "259:1", "pci/nvme0")
    stacked(machine, "md127", "9:127", "sda1", "sdb1")
    stacked(machine, "dm-0", "254:0", "md127", dm__uuid="LVM-abc", dm__name="system-root")
    machine.link("/dev/mapper/system-root", "../dm-0")
    return machine


def test_what_root_and_boot_lie_on_boots(server: Machine) -> None:
    server.write(
        "/proc/self/mountinfo",
        mounts(
            ("254:0", "/", "ext4", "/dev/mapper/system-root"),
            ("0:22", "/boot/efi", "autofs", "systemd-1"),
            ("259:1", "/boot/efi", "vfat", "/dev/nvme0n1p1"),
            ("8:33", "/srv", "xfs", "/dev/sdc1"),
        ),
    )
    host = server.host()
    assert boot_devices(host, live=False) == {"sda", "sdb", "nvme0n1"}
    assert host.problems == []


@pytest.mark.parametrize("source", ["/dev/mapper/system-root", "/dev/dm-0"])
def test_btrfs_is_found_by_what_it_is_mounted_from(server: Machine, source: str) -> None:
    server.write("/proc/self/mountinfo", mounts(("0:25", "/", "btrfs", source)))
    assert boot_devices(server.host(), live=False) == {"sda", "sdb"}


def test_a_filesystem_without_a_disk_is_said(server: Machine) -> None:
    server.write("/proc/self/mountinfo", mounts(("0:25", "/", "zfs", "rpool/ROOT/debian")))
    host = server.host()
    assert boot_devices(host, live=False) == set()
    assert host.problems == [
        "The disk under / is not known: it is on rpool/ROOT/debian.",
        "The disk that the machine boots from is not known.",
    ]


def test_a_map_is_not_followed_to_its_paths(server: Machine) -> None:
    stacked(server, "dm-1", "254:1", "sda", "sdb", dm__uuid=f"mpath-{WWID}")
    stacked(server, "dm-2", "254:2", "dm-1", dm__uuid=f"part1-mpath-{WWID}")
    server.write("/proc/self/mountinfo", mounts(("254:2", "/", "xfs", "/dev/mapper/mpatha1")))
    assert boot_devices(server.host(), live=False) == {"dm-1"}


def test_in_a_rescue_system_what_is_mounted_below_the_root_counts(server: Machine) -> None:
    server.write(
        "/proc/self/mountinfo",
        mounts(
            ("0:20", "/", "overlay", "overlay"),
            ("8:33", "/mnt", "xfs", "/dev/sdc1"),
            ("259:1", "/mnt/boot/efi", "vfat", "/dev/nvme0n1p1"),
        ),
    )
    assert boot_devices(server.host("/mnt"), live=False) == {"sdc", "nvme0n1"}


def test_with_nothing_mounted_partition_tables_tell(server: Machine) -> None:
    server.write("/run/udev/data/b8:1", "E:ID_PART_ENTRY_FLAGS=0x80\nE:ID_PART_ENTRY_TYPE=0x83\n")
    server.write("/run/udev/data/b8:33", "E:ID_PART_ENTRY_TYPE=0fc63daf-8483-4772-8e79-3d69d8477de4\n")
    server.write("/run/udev/data/b259:1", "E:ID_PART_ENTRY_TYPE=c12a7328-f81f-11d2-ba4b-00a0c93ec93b\n")
    assert boot_devices(server.host(), live=True) == {"sda", "nvme0n1"}
