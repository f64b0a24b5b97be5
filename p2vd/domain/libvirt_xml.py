"""A definition as libvirt's domain XML, for QEMU and for Xen (libxl). Pure."""

import xml.etree.ElementTree as ET

from p2vd.domain.definition import (
    DefinedDisk,
    DefinedNic,
    Definition,
    DiskKind,
    NetworkKind,
)
from p2vd.model.domain import MachineType, Video
from p2vd.model.passport import ClockOffset
from p2vd.model.plan import DiskBus, Firmware

NAMESPACE = "urn:p2vd:domain:1"
"""Of the metadata element `machine`, whose `uuid` says which machine p2vd defined the domain for."""

ET.register_namespace("p2vd", NAMESPACE)

_MACHINE = {MachineType.Q35: "q35", MachineType.PC: "pc"}
_SCSI_DISKS = 7
"""So many libvirt puts on a controller by their names, sda to sdg (virDomainDiskDefAssignAddress)."""

_AGENT_CHANNEL = "org.qemu.guest_agent.0"
_SPINLOCK_RETRIES = "8191"
"""Of Windows's own guests on Hyper-V (0x1fff), as libvirt's documentation has it."""


def libvirt_xml(definition: Definition) -> str:
    """Return the domain. Disks are block devices and files by their path: there is no storage pool."""
    kind = "xen" if definition.hypervisor.is_xen else definition.virt_type.value
    domain = ET.Element("domain", type=kind)
    _text(domain, "name", definition.name)
    _text(domain, "uuid", definition.uuid)
    mark = f"{{{NAMESPACE}}}machine"
    ET.SubElement(ET.SubElement(domain, "metadata"), mark, uuid=definition.uuid)
    _text(domain, "memory", str(definition.memory_bytes // 1024), unit="KiB")
    _text(domain, "vcpu", str(definition.topology.count))
    _boot(domain, definition)
    _features(domain, definition)
    _cpu(domain, definition)
    _clock(domain, definition)
    devices = ET.SubElement(domain, "devices")
    if not definition.hypervisor.is_xen:
        _scsi_controllers(devices, definition)
    for disk in definition.disks:
        _disk(devices, definition, disk)
    for nic in definition.nics:
        _nic(devices, nic)
    _console(devices)
    if definition.guest_agent:
        channel = ET.SubElement(devices, "channel", type="unix")
        ET.SubElement(channel, "target", type="virtio", name=_AGENT_CHANNEL)
    if definition.video is not Video.NONE:
        _screen(devices, definition)
    if definition.rng:
        rng = ET.SubElement(devices, "rng", model="virtio")
        _text(rng, "backend", "/dev/urandom", model="random")
    ET.indent(domain)
    return ET.tostring(domain, encoding="unicode") + "\n"


def _boot(domain: ET.Element, definition: Definition) -> None:
    uefi = definition.firmware is Firmware.UEFI
    system = ET.SubElement(domain, "os", {"firmware": "efi"} if uefi else {})
    xen = definition.hypervisor.is_xen
    machine = "xenfv" if xen else _MACHINE[definition.machine_type]
    _text(system, "type", "hvm", arch="x86_64", machine=machine)
    if uefi and not xen:
        # Said in both cases: libvirt would else take the first firmware that it finds, which on Debian is the
        # one that starts signed systems only.
        enabled = "yes" if definition.secure_boot else "no"
        firmware = ET.SubElement(system, "firmware")
        for feature in ("enrolled-keys", "secure-boot"):
            ET.SubElement(firmware, "feature", enabled=enabled, name=feature)
        if definition.secure_boot:
            ET.SubElement(system, "loader", secure="yes")


def _features(domain: ET.Element, definition: Definition) -> None:
    features = ET.SubElement(domain, "features")
    ET.SubElement(features, "acpi")
    ET.SubElement(features, "apic")
    if definition.hypervisor.is_xen:
        ET.SubElement(features, "pae")
        if definition.hyperv:
            ET.SubElement(features, "viridian")
    elif definition.hyperv:
        hyperv = ET.SubElement(features, "hyperv", mode="custom")
        for name in ("relaxed", "vapic"):
            ET.SubElement(hyperv, name, state="on")
        ET.SubElement(hyperv, "spinlocks", state="on", retries=_SPINLOCK_RETRIES)
        for name in ("vpindex", "synic", "stimer"):
            ET.SubElement(hyperv, name, state="on")
    if definition.secure_boot:
        ET.SubElement(features, "smm", state="on")


def _cpu(domain: ET.Element, definition: Definition) -> None:
    cpu = ET.SubElement(domain, "cpu", mode=definition.cpu_mode.value)
    if definition.hypervisor.is_xen:
        return
    topology = definition.topology
    ET.SubElement(
        cpu,
        "topology",
        sockets=str(topology.sockets),
        cores=str(topology.cores),
        threads=str(topology.threads),
    )
    if definition.address_bits:
        ET.SubElement(cpu, "maxphysaddr", mode="emulate", bits=str(definition.address_bits))


def _clock(domain: ET.Element, definition: Definition) -> None:
    local = definition.clock is ClockOffset.LOCAL
    clock = ET.SubElement(domain, "clock", offset="localtime" if local else "utc")
    if definition.hypervisor.is_xen:
        return
    if definition.windows:
        # Windows counts clock ticks: what the host delays is to be made up for.
        ET.SubElement(clock, "timer", name="rtc", tickpolicy="catchup")
        ET.SubElement(clock, "timer", name="pit", tickpolicy="delay")
        ET.SubElement(clock, "timer", name="hpet", present="no")
    if definition.hyperv:
        ET.SubElement(clock, "timer", name="hypervclock", present="yes")


def _scsi_controllers(devices: ET.Element, definition: Definition) -> None:
    """Add those that the disks need. One that is missing libvirt adds by itself, as `lsilogic`.

    For that Windows and RHEL have no driver. Of SATA it adds `ahci` as needed, for six disks each, and of PCI
    Express the ports for virtio's disks, so that nothing needs to be said of these.
    """
    disks = sum(disk.bus is DiskBus.SCSI for disk in definition.disks)
    for index in range(-(-disks // _SCSI_DISKS)):
        ET.SubElement(devices, "controller", type="scsi", index=str(index), model="virtio-scsi")


def _disk(devices: ET.Element, definition: Definition, disk: DefinedDisk) -> None:
    block = disk.kind is DiskKind.BLOCK
    element = ET.SubElement(devices, "disk", type=disk.kind.value, device="disk")
    discard = {"discard": "unmap"} if disk.discard else {}
    if definition.hypervisor.is_xen:
        driver = {"name": "phy" if block else "qemu", "type": disk.format.value}
    else:
        driver = {"name": "qemu", "type": disk.format.value, "cache": "none", "io": "native"}
    ET.SubElement(element, "driver", driver | discard)
    ET.SubElement(element, "source", {"dev" if block else "file": disk.devnode})
    ET.SubElement(element, "target", dev=disk.target, bus=disk.bus.value)
    if disk.sector_size:
        size = str(disk.sector_size)
        ET.SubElement(element, "blockio", logical_block_size=size, physical_block_size=size)
    if not definition.hypervisor.is_xen:
        _text(element, "serial", disk.serial)
        ET.SubElement(element, "boot", order=str(disk.boot_order))


def _nic(devices: ET.Element, nic: DefinedNic) -> None:
    interface = ET.SubElement(devices, "interface", type=nic.kind.value)
    ET.SubElement(interface, "mac", address=nic.mac)
    where = "network" if nic.kind is NetworkKind.NETWORK else "bridge"
    ET.SubElement(interface, "source", {where: nic.network})
    ET.SubElement(interface, "model", type=nic.model.value)


def _console(devices: ET.Element) -> None:
    ET.SubElement(ET.SubElement(devices, "serial", type="pty"), "target", port="0")
    ET.SubElement(ET.SubElement(devices, "console", type="pty"), "target", type="serial", port="0")


def _screen(devices: ET.Element, definition: Definition) -> None:
    if not definition.hypervisor.is_xen:
        ET.SubElement(devices, "input", type="tablet", bus="usb")
    ET.SubElement(devices, "graphics", type="vnc", port="-1", autoport="yes", listen="127.0.0.1")
    ET.SubElement(ET.SubElement(devices, "video"), "model", type=definition.video.value)


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> None:
    ET.SubElement(parent, tag, attributes).text = text
