"""The libvirt XML of definitions, where the golden files do not show it."""

import xml.etree.ElementTree as ET

import pytest

from p2vd.domain.define import define
from p2vd.domain.definition import DiskKind, DomainDisk
from p2vd.domain.disks import disk_serial
from p2vd.domain.libvirt_xml import NAMESPACE, libvirt_xml
from p2vd.model.domain import Video
from p2vd.model.passport import GuestSystem, Passport
from p2vd.model.plan import DiskBus, DomainOptions, Firmware, VirtType
from p2vd.model.size import GIB

UUID = "6f0e1c1e-2a48-4b8a-9d3c-2f4f36a1f3a1"
DISK = DomainDisk("/dev/vg_san/web1", "36001405d2f5c1d3e4a64b8c9aaaabbbb", thin=True)
VIRTIO = DomainOptions(bus=DiskBus.VIRTIO)


def parsed(options: DomainOptions, *disks: DomainDisk, passport: Passport | None = None) -> ET.Element:
    """The definition as elements."""
    return ET.fromstring(libvirt_xml(define("web1", UUID, passport, disks or (DISK,), options)))


def attributes(domain: ET.Element, path: str) -> dict[str, str]:
    """Attributes of the one element at `path`."""
    (element,) = domain.findall(path)
    return element.attrib


def test_it_carries_p2vds_mark() -> None:
    domain = parsed(VIRTIO)
    assert (domain.findtext("name"), domain.findtext("uuid")) == ("web1", UUID)
    assert attributes(domain, f"metadata/{{{NAMESPACE}}}machine") == {"uuid": UUID}


def test_a_disk_is_a_block_device_of_no_pool() -> None:
    domain = parsed(VIRTIO)
    assert attributes(domain, "devices/disk") == {"type": "block", "device": "disk"}
    assert attributes(domain, "devices/disk/driver") == {
        "name": "qemu",
        "type": "raw",
        "cache": "none",
        "io": "native",
        "discard": "unmap",
    }
    assert attributes(domain, "devices/disk/source") == {"dev": "/dev/vg_san/web1"}
    assert attributes(domain, "devices/disk/target") == {"dev": "vda", "bus": "virtio"}
    assert domain.findtext("devices/disk/serial") == "1d3e4a64b8c9aaaabbbb"


def test_an_image_is_a_file() -> None:
    domain = parsed(VIRTIO, DomainDisk("/srv/web1.img", "x", kind=DiskKind.FILE))
    assert attributes(domain, "devices/disk") == {"type": "file", "device": "disk"}
    assert attributes(domain, "devices/disk/source") == {"file": "/srv/web1.img"}
    assert "discard" not in attributes(domain, "devices/disk/driver")


def test_an_emulated_uefi_machine_with_large_sectors() -> None:
    options = DomainOptions(
        "qemu:///system", 8 * GIB, 4, Firmware.UEFI, DiskBus.SCSI, "default", 4096, VirtType.QEMU
    )
    domain = parsed(options, DomainDisk("/dev/vg/a", "w"))
    assert domain.attrib == {"type": "qemu"}
    assert attributes(domain, "os") == {"firmware": "efi"}
    assert attributes(domain, "cpu") == {"mode": "maximum"}
    assert attributes(domain, "devices/controller")["model"] == "virtio-scsi"
    assert attributes(domain, "devices/disk/target") == {"dev": "sda", "bus": "scsi"}
    assert attributes(domain, "devices/disk/blockio") == {
        "logical_block_size": "4096",
        "physical_block_size": "4096",
    }
    assert attributes(domain, "devices/interface/source") == {"network": "default"}


def test_a_disks_own_sector_size_comes_first() -> None:
    disks = (DomainDisk("/dev/vg/a", "a", sector_size=4096), DomainDisk("/dev/vg/b", "b", sector_size=512))
    domain = parsed(DomainOptions(bus=DiskBus.VIRTIO, logical_block_size=4096), *disks)
    assert [disk.find("blockio") is not None for disk in domain.findall("devices/disk")] == [True, False]


def test_many_disks_have_letters_and_an_order() -> None:
    disks = [DomainDisk(f"/dev/vg/{n}", str(n)) for n in range(28)]
    domain = parsed(VIRTIO, *disks)
    names = [target.get("dev") for target in domain.findall("devices/disk/target")]
    assert names[:2] + names[25:] == ["vda", "vdb", "vdz", "vdaa", "vdab"]
    assert [boot.get("order") for boot in domain.findall("devices/disk/boot")][-1] == "28"


@pytest.mark.parametrize(("disks", "controllers"), [(1, 1), (7, 1), (8, 2), (14, 2), (15, 3)])
def test_scsi_disks_have_controllers_for_which_guests_have_a_driver(disks: int, controllers: int) -> None:
    """libvirt puts seven on a controller, and adds those that are missing as `lsilogic`."""
    domain = parsed(
        DomainOptions(bus=DiskBus.SCSI), *(DomainDisk(f"/dev/vg/{n}", str(n)) for n in range(disks))
    )
    found = [dict(one.attrib) for one in domain.findall("devices/controller")]
    assert found == [{"type": "scsi", "index": str(n), "model": "virtio-scsi"} for n in range(controllers)]


def test_names_are_escaped() -> None:
    domain = ET.fromstring(
        libvirt_xml(define("a<b&c", UUID, None, [DomainDisk('/dev/vg/a"b', "x")], DomainOptions()))
    )
    assert domain.findtext("name") == "a<b&c"
    assert attributes(domain, "devices/disk/source") == {"dev": '/dev/vg/a"b'}


def test_windows_on_an_emulated_processor_sees_no_hyper_v() -> None:
    windows = Passport("w", system=GuestSystem(id="windows", name="Windows Server 2022"))
    emulated = parsed(DomainOptions(virt_type=VirtType.QEMU), passport=windows)
    assert emulated.find("features/hyperv") is None
    assert [timer.get("name") for timer in emulated.findall("clock/timer")] == ["rtc", "pit", "hpet"]
    assert parsed(DomainOptions(), passport=windows).find("features/hyperv") is not None


def test_without_video_there_is_no_screen() -> None:
    domain = parsed(DomainOptions(video=Video.NONE))
    for path in ("devices/video", "devices/graphics", "devices/input"):
        assert domain.find(path) is None


@pytest.mark.parametrize(
    ("wwid", "serial"),
    [
        ("36001405d2f5c1d3e4a64b8c9aaaabbbb", "1d3e4a64b8c9aaaabbbb"),
        ("t10.ATA disk/1", "t10.ATA_disk_1"),
        ("a", "a"),
    ],
)
def test_serial_is_the_end_of_the_wwid(wwid: str, serial: str) -> None:
    assert disk_serial(wwid) == serial
