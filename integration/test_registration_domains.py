"""What p2vd.domain writes, in a real libvirtd: validated by its schema, defined, and read back."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from integration.lab.vm import Vm
from p2vd.domain.define import define
from p2vd.domain.definition import DomainDisk
from p2vd.domain.libvirt_xml import libvirt_xml
from p2vd.model.passport import Passport
from p2vd.model.plan import DiskBus, DomainOptions, Firmware, VirtType
from p2vd.model.size import MIB

pytestmark = pytest.mark.lab

GOLDEN = Path(__file__).parent.parent / "tests" / "domain" / "golden"
KEPT = (
    *("devices/disk/target", "devices/disk/boot", "devices/interface/mac", "cpu/topology", "os/type"),
    "devices/controller[@type='scsi']",
)
"""Of what libvirtd must not make anything else, nor add to it."""


def attributes(domain: ET.Element) -> dict[str, list[dict[str, str]]]:
    """What is compared; libvirtd names a machine type by its version."""
    found = {path: [dict(element.attrib) for element in domain.findall(path)] for path in KEPT}
    for kind in found["os/type"]:
        kind["machine"] = "q35" if "q35" in kind["machine"] else "pc"
    for topology in found["cpu/topology"]:
        topology.pop("dies", None)
    return found


def test_every_golden_definition_is_taken_by_libvirtd(vm: Vm) -> None:
    """The lab has no KVM, so each is defined as emulated; Xen's need a libvirtd on Xen."""
    vm.run("systemctl start libvirtd")
    defined = 0
    for path in sorted(GOLDEN.glob("*.xml")):
        text = path.read_text()
        vm.write("/tmp/golden.xml", text)
        vm.run("virt-xml-validate /tmp/golden.xml domain")
        if 'type="kvm"' not in text:
            continue
        text = text.replace('<domain xmlns:p2vd="urn:p2vd:domain:1" type="kvm">', '<domain type="qemu">')
        text = text.replace("<p2vd:machine", '<p2vd:machine xmlns:p2vd="urn:p2vd:domain:1"')
        # libvirt refuses more bits of address than the host has, and the lab's machine has 40.
        text = re.sub(
            r'<maxphysaddr mode="emulate" bits="\d+"', '<maxphysaddr mode="emulate" bits="40"', text
        )
        wanted = ET.fromstring(text)
        name = wanted.findtext("name")
        vm.write(f"/tmp/{path.name}", text)
        vm.run(f"virsh -q define --validate /tmp/{path.name}")
        read = ET.fromstring(vm.out(f"virsh dumpxml --inactive {name}"))
        assert attributes(read) == attributes(wanted), path.name
        mark = read.find("metadata/{urn:p2vd:domain:1}machine")
        assert mark is not None
        assert mark.get("uuid") == wanted.findtext("uuid")
        vm.run(f"virsh -q undefine --nvram {name}")
        defined += 1
    assert defined >= 12


def test_qemu_starts_with_its_disks_on_each_bus(vm: Vm) -> None:
    """QEMU opens each disk as the definition says, and shows it by its serial number."""
    vm.run("systemctl start libvirtd")
    for name in ("a", "b"):
        vm.run(f"lvcreate -q -y -Wy -L 4M -n {name} vg_san")
    disks = tuple(DomainDisk(f"/dev/vg_san/{name}", f"36001405{name * 24}") for name in ("a", "b"))
    uuid = "6f0e1c1e-2a48-4b8a-9d3c-2f4f36a1f3a2"
    for bus in (DiskBus.VIRTIO, DiskBus.SCSI, DiskBus.SATA, DiskBus.IDE):
        options = DomainOptions(memory_bytes=64 * MIB, vcpus=1, bus=bus, virt_type=VirtType.QEMU)
        vm.write("/tmp/started.xml", libvirt_xml(define("started", uuid, None, disks, options)))
        vm.run("virsh -q define --validate /tmp/started.xml && virsh -q start started")
        running = vm.out("tr '\\0' '\\n' < /proc/$(cat /run/libvirt/qemu/started.pid)/cmdline")
        for disk in disks:
            assert disk.devnode in running
            assert disk.serial[-20:] in running
        vm.run("virsh -q destroy started && virsh -q undefine started")


def controllers(domain: ET.Element, kind: str) -> list[str]:
    """The models of a domain's controllers of that kind."""
    return [one.get("model", "") for one in domain.findall(f"devices/controller[@type='{kind}']")]


def test_more_disks_than_a_controller_takes_have_more_of_the_same(vm: Vm) -> None:
    """libvirtd adds what is missing: of SATA more ahci, of PCI Express ports; of SCSI it must not."""
    vm.run("systemctl start libvirtd")
    names = [f"d{number}" for number in range(9)]
    vm.run(f"for name in {' '.join(names)}; do lvcreate -q -y -Wy -L 4M -n $name vg_san; done")
    few = tuple(DomainDisk(f"/dev/vg_san/{name}", name) for name in names)
    many = tuple(DomainDisk(f"/dev/vg_san/none{number}", str(number)) for number in range(200))
    uuid = "6f0e1c1e-2a48-4b8a-9d3c-2f4f36a1f3a4"

    def defined(bus: DiskBus, disks: tuple[DomainDisk, ...]) -> ET.Element:
        options = DomainOptions(memory_bytes=64 * MIB, vcpus=1, bus=bus, virt_type=VirtType.QEMU)
        vm.write("/tmp/started.xml", libvirt_xml(define("started", uuid, None, disks, options)))
        vm.run("virsh -q define --validate /tmp/started.xml")
        return ET.fromstring(vm.out("virsh dumpxml --inactive started"))

    for bus, kind, count in ((DiskBus.SCSI, "scsi", 2), (DiskBus.SATA, "sata", 2)):
        assert len(controllers(defined(bus, few), kind)) == count
        vm.run("virsh -q start started")
        running = vm.out("tr '\\0' '\\n' < /proc/$(cat /run/libvirt/qemu/started.pid)/cmdline")
        assert "lsi53c895a" not in running
        assert all(disk.devnode in running for disk in few)
        vm.run("virsh -q destroy started && virsh -q undefine started")
    assert set(controllers(defined(DiskBus.SCSI, many), "scsi")) == {"virtio-scsi"}
    vm.run("virsh -q undefine started")
    assert controllers(defined(DiskBus.VIRTIO, many), "pci").count("pcie-root-port") >= len(many)
    vm.run("virsh -q undefine started")


@pytest.mark.parametrize("secure", [False, True], ids=["as it was", "secure boot"])
def test_libvirt_finds_the_firmware_that_is_meant(vm: Vm, secure: bool) -> None:
    """Without Secure Boot never the firmware that starts signed systems only, which Debian lists first."""
    vm.run("systemctl start libvirtd && lvcreate -q -y -Wy -L 4M -n a vg_san")
    passport = Passport("started", firmware=Firmware.UEFI, secure_boot=secure)
    options = DomainOptions(memory_bytes=128 * MIB, vcpus=1, firmware=Firmware.UEFI, virt_type=VirtType.QEMU)
    uuid = "6f0e1c1e-2a48-4b8a-9d3c-2f4f36a1f3a3"
    disks = (DomainDisk("/dev/vg_san/a", "36001405a"),)
    vm.write("/tmp/started.xml", libvirt_xml(define("started", uuid, passport, disks, options)))
    vm.run("virsh -q define --validate /tmp/started.xml && virsh -q start started")
    loader = ET.fromstring(vm.out("virsh dumpxml started")).findtext("os/loader") or ""
    assert loader.startswith("/usr/share/OVMF/OVMF_CODE")
    assert (".ms." in loader or ".secboot." in loader) is secure, loader
    vm.run("virsh -q destroy started && virsh -q undefine --nvram started")
