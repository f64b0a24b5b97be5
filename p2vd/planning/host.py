"""Whether this host can run the virtual machine that a plan makes for it. Pure."""

from collections.abc import Iterator

from p2vd.domain.definition import Definition
from p2vd.model.errors import Reason
from p2vd.model.hardware import HostHardware
from p2vd.model.plan import DomainOptions, VirtType
from p2vd.model.size import GIB, format_size

_LOCAL = "qemu:///system"
"""The one hypervisor that runs its machines on this host."""

_HOLE = 2 * GIB
"""What QEMU's q35 leaves free below 4 GiB, and lets begin anew above (hw/i386/pc_q35.c)."""


def host_reasons(options: DomainOptions, definition: Definition, host: HostHardware) -> Iterator[Reason]:
    """Yield why libvirt would refuse the machine on this host, after hours of copying."""
    if options.uri != _LOCAL:
        return
    if definition.virt_type is VirtType.KVM and host.kvm is False:
        yield Reason(
            "host-kvm",
            f"This host has no KVM, and the virtual machine {definition.name} is for it: libvirt refuses it. "
            "Load the module (modprobe kvm_intel or kvm_amd; in this host's firmware virtualization may be "
            'off), then p2vctl rescan. Or have its processor emulated: domain.type = "qemu" in its policy.',
        )
    if 0 < host.address_bits < (bits := _bits(definition)):
        yield Reason(
            "host-address-bits",
            f"The virtual machine {definition.name} has {format_size(definition.memory_bytes)} of memory, "
            f"which takes {bits} bits of physical address, and this host's processors have "
            f"{host.address_bits}: libvirt refuses it, or it cannot use all of it. Write a smaller "
            "domain.memory in its policy.",
        )


def host_warnings(options: DomainOptions, definition: Definition, host: HostHardware) -> Iterator[str]:
    """Yield what of the machine is more than this host has."""
    if options.uri != _LOCAL:
        return
    if 0 < host.memory_bytes < definition.memory_bytes:
        yield (
            f"The virtual machine has {format_size(definition.memory_bytes)} of memory, this host "
            f"{format_size(host.memory_bytes)}: it will not start, or not run for long. Write a smaller "
            "domain.memory in its policy."
        )
    if 0 < host.cpus < definition.topology.count:
        yield (
            f"The virtual machine has {definition.topology.count} CPUs, this host {host.cpus}: they wait for "
            "each other. Write a smaller domain.vcpus in its policy."
        )


def _bits(definition: Definition) -> int:
    """Return how wide the host's physical addresses must be."""
    if definition.address_bits or definition.virt_type is not VirtType.KVM:
        return definition.address_bits
    return (definition.memory_bytes + _HOLE - 1).bit_length()
