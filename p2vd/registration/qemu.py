"""QEMU's command line for a throw-away start: overlays, no network, sockets to watch it by. Pure."""

from dataclasses import dataclass

from p2vd.model.boot_test import BootDisk, BootMachine
from p2vd.model.domain import MachineType
from p2vd.model.plan import DiskBus, Firmware
from p2vd.registration.uefi import UefiFirmware

PROGRAM = "qemu-system-x86_64"

MONITOR, SERIAL, AGENT, FIRMWARE = "qmp", "serial", "agent", "firmware"
"""Names of the sockets in a test's directory."""

SCREEN = "screen.ppm"

_MIB = 1 << 20
_AHCI_PORTS = 6
_IDE_DISKS = 4
_PCI_FUNCTIONS = 8
_FIRST_SLOT = 4
"""Of virtio's disks, which are PCI devices, eight share a slot: with one each 28 disks would fill the bus."""
_BRIDGE_SLOTS = 31
_MANY = (DiskBus.VIRTIO, DiskBus.SCSI, DiskBus.SATA)
# SeaBIOS's own log, on which it says that it found nothing to boot (its src/output.c, port 0x402).
_SEABIOS_PORT = "0x402"


@dataclass(frozen=True)
class Means:
    """What of this host the guest is run by. `firmware` is given for a machine that boots by UEFI."""

    kvm: bool
    cpus: int
    firmware: UefiFirmware | None = None


def command(machine: BootMachine, means: Means, directory: str) -> list[str]:
    """Return the command; it starts stopped, and makes its sockets in `directory`.

    `snapshot=on` opens a disk read-only and puts all that is written into an overlay, a file without a
    name that ends with the process.
    """
    words = [PROGRAM, "-name", "guest=p2vd-boot-test", "-uuid", machine.uuid]
    words += ["-S", "-nodefaults", "-no-user-config", "-display", "none", "-nic", "none"]
    words += ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]
    chipset = "pc" if machine.machine_type is MachineType.PC else "q35"
    words += ["-machine", chipset, "-accel", "kvm" if means.kvm else "tcg,tb-size=256"]
    words += ["-cpu", "host" if means.kvm else "max", "-smp", str(max(1, min(machine.vcpus, means.cpus)))]
    words += ["-m", f"{machine.memory_bytes // _MIB}M", "-rtc", "base=utc"]
    # A guest that switches itself off stays to be looked at.
    words += ["-action", "reboot=reset,shutdown=pause"]
    words += _firmware(machine, means)
    words += _disks(machine)
    words += ["-device", "VGA"]
    words += ["-qmp", f"unix:{_value(directory)}/{MONITOR},server=on,wait=off"]
    for name in (SERIAL, AGENT, FIRMWARE):
        path = f"{_value(directory)}/{name}"
        words += ["-chardev", f"socket,id={name},path={path},server=on,wait=off"]
    words += ["-serial", f"chardev:{SERIAL}"]
    words += ["-device", "virtio-serial-pci"]
    words += ["-device", f"virtserialport,chardev={AGENT},name=org.qemu.guest_agent.0"]
    words += ["-device", f"isa-debugcon,iobase={_SEABIOS_PORT},chardev={FIRMWARE}"]
    return words


def _firmware(machine: BootMachine, means: Means) -> list[str]:
    if machine.firmware is not Firmware.UEFI or means.firmware is None:
        return []
    return [
        *("-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={_value(means.firmware.code)}"),
        *("-drive", f"if=pflash,unit=1,format=raw,snapshot=on,file={_value(means.firmware.variables)}"),
    ]


def _disks(machine: BootMachine) -> list[str]:
    words = []
    if machine.bus is DiskBus.SCSI:
        words += ["-device", "virtio-scsi-pci,id=scsi"]
    if machine.bus is DiskBus.SATA:
        words += _controllers(machine)
    shown = machine.disks if machine.bus in _MANY else machine.disks[:_IDE_DISKS]
    for index, disk in enumerate(shown):
        file = f"file={_value(disk.devnode)},format={disk.format},snapshot=on,cache=none"
        words += ["-drive", f"if=none,id=disk{index},{file}"]
        words += ["-device", _device(machine, disk, index)]
    return words


def _controllers(machine: BootMachine) -> list[str]:
    """Return those that a q35 does not have itself: its own has six ports.

    Behind bridges, as libvirt adds them: SeaBIOS starts what is on the first bus first, and its memory is at
    its end after about twenty disks (seen: 1.16 found no disk to boot from, the first one's own controller
    being the last of that bus).
    """
    words = []
    for number in range(-(-len(machine.disks) // _AHCI_PORTS)):
        if number > 0:
            bridge, slot = divmod(number - 1, _BRIDGE_SLOTS)
            if slot == 0:
                words += ["-device", f"pci-bridge,id=bridge{bridge},chassis_nr={bridge + 1}"]
            words += ["-device", f"ich9-ahci,id=ahci{number},bus=bridge{bridge},addr={slot + 1:x}"]
        elif machine.machine_type is MachineType.PC:
            words += ["-device", "ich9-ahci,id=ahci0"]
    return words


def _device(machine: BootMachine, disk: BootDisk, index: int) -> str:
    if machine.bus is DiskBus.VIRTIO:
        slot, function = divmod(index, _PCI_FUNCTIONS)
        driver = f"virtio-blk-pci,addr={_FIRST_SLOT + slot:x}.{function:x},multifunction=on"
    elif machine.bus is DiskBus.SCSI:
        driver = f"scsi-hd,bus=scsi.0,scsi-id={index}"
    elif machine.bus is DiskBus.SATA:
        controller, port = divmod(index, _AHCI_PORTS)
        own = controller == 0 and machine.machine_type is not MachineType.PC
        driver = f"ide-hd,bus={'ide' if own else f'ahci{controller}'}.{port}"
    else:  # IDE, and what Xen's firmware shows of its disks
        channel, unit = divmod(index, 2)
        driver = f"ide-hd,bus=ide.{channel},unit={unit}"
    sectors = f"logical_block_size={disk.sector_size},physical_block_size={max(disk.sector_size, 512)}"
    return f"{driver},drive=disk{index},serial={_value(disk.serial)},{sectors},bootindex={index + 1}"


def _value(text: str) -> str:
    """Return `text` as a value among QEMU's options, where a comma begins the next one."""
    return text.replace(",", ",,")
