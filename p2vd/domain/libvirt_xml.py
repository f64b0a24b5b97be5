"""A libvirt domain for QEMU from a machine's options and disks. Pure."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass

from p2vd.model.plan import DiskBus, DomainOptions, Firmware, VirtType

NAMESPACE = "urn:p2vd:domain:1"
"""Of the metadata element `machine`, whose `uuid` says which machine p2vd defined the domain for."""

ET.register_namespace("p2vd", NAMESPACE)

SERIAL_LENGTH = 20
"""A virtio disk's serial number has 20 bytes (VIRTIO_BLK_ID_BYTES)."""

_DEFAULT_BLOCK_SIZE = 512
_NOT_IN_SERIAL = re.compile(r"[^A-Za-z0-9_.+-]")
_DISK_PREFIX = {DiskBus.VIRTIO: "vd", DiskBus.SATA: "sd", DiskBus.SCSI: "sd"}
_CPU_MODE = {VirtType.KVM: "host-model", VirtType.QEMU: "maximum"}
"""QEMU's own default, qemu64, is too old for present systems; TCG has no host to model."""


@dataclass(frozen=True)
class DomainDisk:
    """A disk of the domain: the LV's node, the source's WWID, from which the serial comes.

    `sector_size`: what the guest sees; 0: as the options say.
    """

    devnode: str
    serial: str
    thin: bool = False
    sector_size: int = 0


def domain_xml(name: str, uuid: str, options: DomainOptions, disks: Sequence[DomainDisk]) -> str:
    """Return the definition of the domain `name`. `uuid` is the machine's and the domain's."""
    domain = ET.Element("domain", type=options.virt_type.value)
    _text(domain, "name", name)
    _text(domain, "uuid", uuid)
    ET.SubElement(ET.SubElement(domain, "metadata"), f"{{{NAMESPACE}}}machine", uuid=uuid)
    _text(domain, "memory", str(options.memory_bytes // 1024), unit="KiB")
    _text(domain, "vcpu", str(options.vcpus))
    _boot(domain, options)
    features = ET.SubElement(domain, "features")
    ET.SubElement(features, "acpi")
    ET.SubElement(features, "apic")
    ET.SubElement(domain, "cpu", mode=_CPU_MODE[options.virt_type])
    ET.SubElement(domain, "clock", offset="utc")
    devices = ET.SubElement(domain, "devices")
    if options.bus is DiskBus.SCSI:
        ET.SubElement(devices, "controller", type="scsi", index="0", model="virtio-scsi")
    for index, disk in enumerate(disks):
        _disk(devices, options, disk, index)
    if options.network:
        interface = ET.SubElement(devices, "interface", type="network")
        ET.SubElement(interface, "source", network=options.network)
        ET.SubElement(interface, "model", type="virtio")
    _console(devices)
    ET.indent(domain)
    return ET.tostring(domain, encoding="unicode") + "\n"


def disk_serial(wwid: str) -> str:
    """Return the serial number by which the guest knows the disk: the end of its WWID."""
    return _NOT_IN_SERIAL.sub("_", wwid)[-SERIAL_LENGTH:]


def _boot(domain: ET.Element, options: DomainOptions) -> None:
    firmware = {"firmware": "efi"} if options.firmware is Firmware.UEFI else {}
    system = ET.SubElement(domain, "os", firmware)
    _text(system, "type", "hvm", arch="x86_64", machine="q35")


def _disk(devices: ET.Element, options: DomainOptions, disk: DomainDisk, index: int) -> None:
    element = ET.SubElement(devices, "disk", type="block", device="disk")
    discard = {"discard": "unmap"} if disk.thin else {}
    ET.SubElement(
        element, "driver", {"name": "qemu", "type": "raw", "cache": "none", "io": "native", **discard}
    )
    ET.SubElement(element, "source", dev=disk.devnode)
    ET.SubElement(element, "target", dev=_device(options.bus, index), bus=options.bus.value)
    size = disk.sector_size or options.logical_block_size
    if size and size != _DEFAULT_BLOCK_SIZE:
        ET.SubElement(element, "blockio", logical_block_size=str(size), physical_block_size=str(size))
    ET.SubElement(element, "serial").text = disk_serial(disk.serial)
    ET.SubElement(element, "boot", order=str(index + 1))


def _device(bus: DiskBus, index: int) -> str:
    """`vda` ... `vdz`, `vdaa`, as the kernel counts."""
    letters = ""
    index += 1
    while index:
        index, digit = divmod(index - 1, 26)
        letters = chr(ord("a") + digit) + letters
    return _DISK_PREFIX[bus] + letters


def _console(devices: ET.Element) -> None:
    ET.SubElement(ET.SubElement(devices, "serial", type="pty"), "target", port="0")
    ET.SubElement(ET.SubElement(devices, "console", type="pty"), "target", type="serial", port="0")


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> None:
    ET.SubElement(parent, tag, attributes).text = text
