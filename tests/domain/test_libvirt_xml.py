"""Definitions that libvirt takes."""

import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from p2vd.domain.libvirt_xml import NAMESPACE, DomainDisk, disk_serial, domain_xml
from p2vd.model.plan import DiskBus, DomainOptions, Firmware, VirtType

UUID = "6f0e1c1e-2a48-4b8a-9d3c-2f4f36a1f3a1"
DISK = DomainDisk("/dev/vg_san/web1", "36001405d2f5c1d3e4a64b8c9aaaabbbb", thin=True)
SCHEMA = Path("/usr/share/libvirt/schemas/domain.rng")

OPTIONS = {
    "defaults": DomainOptions(),
    "all of it": DomainOptions(
        "qemu:///system", 8 << 30, 4, Firmware.UEFI, DiskBus.SCSI, "default", 4096, VirtType.QEMU
    ),
    "sata": DomainOptions(bus=DiskBus.SATA, logical_block_size=512),
}


def parsed(options: DomainOptions, *disks: DomainDisk) -> ET.Element:
    """The definition as elements."""
    return ET.fromstring(domain_xml("web1", UUID, options, disks or (DISK,)))


def text(domain: ET.Element, path: str) -> str:
    """Text at `path`."""
    return domain.findtext(path) or ""


def attributes(domain: ET.Element, path: str) -> dict[str, str]:
    """Attributes of the one element at `path`."""
    (element,) = domain.findall(path)
    return element.attrib


def test_a_plain_machine() -> None:
    domain = parsed(DomainOptions())
    assert domain.attrib == {"type": "kvm"}
    assert (text(domain, "name"), text(domain, "uuid")) == ("web1", UUID)
    assert (text(domain, "memory"), attributes(domain, "memory")) == ("2097152", {"unit": "KiB"})
    assert text(domain, "vcpu") == "2"
    assert attributes(domain, "os") == {}
    assert attributes(domain, "os/type") == {"arch": "x86_64", "machine": "q35"}
    assert attributes(domain, "cpu") == {"mode": "host-model"}
    assert attributes(domain, "clock") == {"offset": "utc"}
    assert attributes(domain, f"metadata/{{{NAMESPACE}}}machine") == {"uuid": UUID}
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
    assert text(domain, "devices/disk/serial") == "1d3e4a64b8c9aaaabbbb"
    for absent in ("devices/disk/blockio", "devices/interface", "devices/controller", "devices/graphics"):
        assert domain.find(absent) is None


def test_an_emulated_uefi_machine_with_large_sectors() -> None:
    domain = parsed(OPTIONS["all of it"], DomainDisk("/dev/vg/a", "w"))
    assert domain.attrib == {"type": "qemu"}
    assert attributes(domain, "os") == {"firmware": "efi"}
    assert attributes(domain, "cpu") == {"mode": "maximum"}
    assert attributes(domain, "devices/controller")["model"] == "virtio-scsi"
    assert attributes(domain, "devices/disk/target") == {"dev": "sda", "bus": "scsi"}
    assert "discard" not in attributes(domain, "devices/disk/driver")
    assert attributes(domain, "devices/disk/blockio") == {
        "logical_block_size": "4096",
        "physical_block_size": "4096",
    }
    assert attributes(domain, "devices/interface/source") == {"network": "default"}


def test_a_disks_own_sector_size_comes_first() -> None:
    disks = (DomainDisk("/dev/vg/a", "a", sector_size=4096), DomainDisk("/dev/vg/b", "b", sector_size=512))
    domain = parsed(DomainOptions(logical_block_size=4096), *disks)
    assert [disk.find("blockio") is not None for disk in domain.findall("devices/disk")] == [True, False]


def test_many_disks_have_letters_and_an_order() -> None:
    disks = [DomainDisk(f"/dev/vg/{n}", str(n)) for n in range(28)]
    domain = parsed(DomainOptions(), *disks)
    names = [target.get("dev") for target in domain.findall("devices/disk/target")]
    assert names[:2] + names[25:] == ["vda", "vdb", "vdz", "vdaa", "vdab"]
    assert [boot.get("order") for boot in domain.findall("devices/disk/boot")][-1] == "28"


def test_names_are_escaped() -> None:
    domain = ET.fromstring(domain_xml("a<b&c", UUID, DomainOptions(), [DomainDisk('/dev/vg/a"b', "x")]))
    assert text(domain, "name") == "a<b&c"
    assert attributes(domain, "devices/disk/source") == {"dev": '/dev/vg/a"b'}


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


@pytest.mark.skipif(
    not (SCHEMA.exists() and shutil.which("xmllint")), reason="needs libvirt's schemas and xmllint"
)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_libvirts_schema_accepts_it(options: DomainOptions, tmp_path: Path) -> None:
    path = tmp_path / "domain.xml"
    path.write_text(domain_xml("web1", UUID, options, [DISK, DomainDisk("/dev/vg_san/web2", "t10.x")]))
    found = subprocess.run(
        ["xmllint", "--noout", "--relaxng", str(SCHEMA), str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
