"""QEMU's command line, and the firmware that it names."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from p2vd.domain.definition import Hypervisor
from p2vd.domain.limits import LIMITS
from p2vd.model.boot_test import BootDisk, BootMachine
from p2vd.model.domain import MachineType
from p2vd.model.plan import DiskBus, Firmware
from p2vd.model.size import GIB
from p2vd.registration import uefi
from p2vd.registration.qemu import Means, command
from p2vd.registration.uefi import UefiFirmware

UUID = "22222222-2222-4222-8222-222222222222"
FLASH = {
    "interface-types": ["uefi"],
    "mapping": {
        "device": "flash",
        "executable": {"filename": "/usr/share/OVMF/OVMF_CODE_4M.fd", "format": "raw"},
        "nvram-template": {"filename": "/usr/share/OVMF/OVMF_VARS_4M.fd", "format": "raw"},
    },
    "targets": [{"architecture": "x86_64", "machines": ["pc-i440fx-*", "pc-q35-*"]}],
    "features": ["acpi-s3"],
}
SECURE = {**FLASH, "features": ["secure-boot", "requires-smm"]}
OTHER = {**FLASH, "targets": [{"architecture": "aarch64", "machines": ["virt-*"]}]}


def machine(bus: DiskBus = DiskBus.VIRTIO, disks: int = 1, firmware: Firmware = Firmware.BIOS) -> BootMachine:
    shown = tuple(BootDisk(f"/dev/mapper/vg-d{n}", f"vg-d{n}", f"S{n}", 512) for n in range(disks))
    return BootMachine(UUID, "erp1", 2 * GIB, 4, firmware, bus, shown)


def devices(words: list[str], driver: str) -> list[str]:
    return [word for word in words if word.startswith(driver)]


def test_no_disk_is_opened_for_writing_and_no_network_is_there() -> None:
    words = command(machine(disks=2), Means(kvm=True, cpus=2), "/run/t")
    drives = [after for word, after in pairwise(words) if word == "-drive"]
    assert len(drives) == 2
    assert all("snapshot=on" in drive for drive in drives)
    assert words[words.index("-nic") + 1] == "none"
    assert "-nodefaults" in words


def test_processors_are_no_more_than_the_host_has() -> None:
    words = command(machine(), Means(kvm=False, cpus=2), "/run/t")
    assert words[words.index("-smp") + 1] == "2"
    assert words[words.index("-m") + 1] == "2048M"
    assert words[words.index("-accel") + 1].startswith("tcg")


def test_an_older_chipset_has_ide_and_its_ahci_is_a_controller_of_its_own() -> None:
    old = replace(machine(DiskBus.IDE, disks=6), machine_type=MachineType.PC)
    words = command(old, Means(False, 1), "/run/t")
    assert words[words.index("-machine") + 1] == "pc"
    places = [",".join(word.split(",")[1:3]) for word in devices(words, "ide-hd")]
    assert places == ["bus=ide.0,unit=0", "bus=ide.0,unit=1", "bus=ide.1,unit=0", "bus=ide.1,unit=1"]
    words = command(replace(old, bus=DiskBus.SATA), Means(False, 1), "/run/t")
    assert devices(words, "ich9-ahci") == ["ich9-ahci,id=ahci0"]
    assert devices(words, "ide-hd")[0].startswith("ide-hd,bus=ahci0.0,")


@pytest.mark.parametrize(
    ("bus", "expected"),
    [
        (DiskBus.VIRTIO, "virtio-blk-pci,addr=4.0,multifunction=on,drive=disk0,serial=S0,"),
        (DiskBus.SCSI, "scsi-hd,bus=scsi.0,scsi-id=0,drive=disk0,serial=S0,"),
        (DiskBus.SATA, "ide-hd,bus=ide.0,drive=disk0,serial=S0,"),
    ],
)
def test_disks_are_on_the_bus_of_the_definition(bus: DiskBus, expected: str) -> None:
    words = command(machine(bus), Means(False, 1), "/run/t")
    assert [word for word in words if word.startswith(expected)]


def test_more_disks_than_a_controller_has_ports_get_another() -> None:
    words = command(machine(DiskBus.SATA, disks=8), Means(False, 1), "/run/t")
    assert devices(words, "ich9-ahci") == ["ich9-ahci,id=ahci1,bus=bridge0,addr=1"]
    places = [word.split(",")[1] for word in devices(words, "ide-hd")]
    assert places == [*(f"bus=ide.{n}" for n in range(6)), "bus=ahci1.0", "bus=ahci1.1"]
    assert [word.rpartition("=")[2] for word in devices(words, "ide-hd")] == list("12345678")


@pytest.mark.parametrize("chipset", [MachineType.Q35, MachineType.PC])
def test_only_the_first_disks_controller_is_on_the_root_bus(chipset: MachineType) -> None:
    many = replace(machine(DiskBus.SATA, disks=200), machine_type=chipset)
    words = command(many, Means(False, 1), "/run/t")
    made = {word.split(",")[1]: word.split(",")[2:] for word in devices(words, "ich9-ahci")}
    root = [name for name, place in made.items() if not place]
    assert root == ([] if chipset is MachineType.Q35 else ["id=ahci0"])
    assert len(made) == 34 - (chipset is MachineType.Q35)
    assert len({tuple(place) for place in made.values() if place}) == 33
    bridges = [word.split(",")[1] for word in devices(words, "pci-bridge")]
    assert bridges == ["id=bridge0", "id=bridge1"]
    assert {place[0] for place in made.values() if place} == {"bus=bridge0", "bus=bridge1"}
    assert {word.split(",")[1] for word in devices(words, "ide-hd")} >= {"bus=ahci33.0", "bus=ahci33.1"}


@pytest.mark.parametrize("chipset", [MachineType.Q35, MachineType.PC])
def test_as_many_virtio_disks_as_a_definition_takes_find_a_place(chipset: MachineType) -> None:
    """QEMU gives each a slot of its own, and has no more than 28: a database server has more disks."""
    count = LIMITS[Hypervisor.QEMU].buses[DiskBus.VIRTIO]
    words = command(replace(machine(disks=count), machine_type=chipset), Means(False, 1), "/run/t")
    disks = [
        dict(pair.partition("=")[::2] for pair in word.split(",")) for word in devices(words, "virtio-blk")
    ]
    places = [tuple(int(part, 16) for part in disk["addr"].split(".")) for disk in disks]
    assert len(set(places)) == count
    # What else the machine has is before and, on a q35, behind.
    assert {slot for slot, _ in places} <= set(range(4, 0x1F))
    first = [disk for disk, (_, function) in zip(disks, places, strict=True) if function == 0]
    assert len(first) == len({slot for slot, _ in places})
    assert all(disk["multifunction"] == "on" for disk in first)


def test_the_guest_sees_the_sectors_of_its_source() -> None:
    disk = BootDisk("/dev/mapper/vg-d", "vg-d", "S", 4096)
    words = command(replace(machine(), disks=(disk,)), Means(False, 1), "/run/t")
    assert "logical_block_size=4096,physical_block_size=4096" in devices(words, "virtio-blk")[0]


def test_a_comma_in_a_value_begins_no_option() -> None:
    disk = BootDisk("/dev/mapper/a,b", "a,b", "x,readonly=off", 512)
    words = command(replace(machine(), disks=(disk,)), Means(False, 1), "/run/t")
    assert any("file=/dev/mapper/a,,b," in word for word in words)
    assert "serial=x,,readonly=off," in devices(words, "virtio-blk")[0]


def test_uefi_variables_are_thrown_away_too() -> None:
    means = Means(False, 1, UefiFirmware("/fw/code.fd", "/fw/vars.fd"))
    words = command(machine(firmware=Firmware.UEFI), means, "/run/t")
    assert "if=pflash,unit=0,format=raw,readonly=on,file=/fw/code.fd" in words
    assert "if=pflash,unit=1,format=raw,snapshot=on,file=/fw/vars.fd" in words
    assert not [word for word in command(machine(), means, "/run/t") if "pflash" in word]


def describe(directory: Path, **files: object) -> None:
    directory.mkdir(exist_ok=True)
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (directory / f"{name}.json").write_text(text)


def test_the_first_firmware_without_secure_boot_is_taken(tmp_path: Path) -> None:
    describe(tmp_path, a=SECURE, b=OTHER, c="{broken", d=FLASH)
    found = uefi.find((tmp_path / "absent", tmp_path))
    assert found == UefiFirmware("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd")


def test_an_empty_file_of_the_administrator_hides_a_firmware(tmp_path: Path) -> None:
    describe(tmp_path / "usr", d=FLASH)
    describe(tmp_path / "etc", d="")
    assert uefi.find((tmp_path / "etc", tmp_path / "usr")) is None
