"""What each hypervisor can give a guest."""

from dataclasses import dataclass

from p2vd.domain.definition import Hypervisor
from p2vd.model.domain import CpuMode, NicModel
from p2vd.model.plan import DiskBus
from p2vd.model.size import TIB

_MANY = 1000
_QEMU_PCI_DISKS = 200
"""virtio's disks are PCI devices, on q35 each at a port of its own, which libvirt adds. The root has 32 slots
of 8 functions for these, less what else the machine has."""

_QEMU_CPUS = 255
"""QEMU 7.2: from 256 on it wants an IOMMU with interrupt remapping, which old guests do not know (seen)."""

_QEMU_MEMORY = 32 * TIB
"""What fits into 46 bits of address, the width of common hosts, with QEMU's hole at 1 TiB."""


@dataclass(frozen=True)
class Limits:
    """`buses`: how many disks each takes. `large_sectors`: which of them can show sectors of 4096 bytes."""

    label: str
    max_vcpus: int
    max_memory_bytes: int
    buses: dict[DiskBus, int]
    nic_models: tuple[NicModel, ...]
    cpu_modes: tuple[CpuMode, ...]
    large_sectors: tuple[DiskBus, ...] = ()
    topology: bool = True
    serials: bool = True
    secure_boot: bool = True
    pc: bool = True
    local_clock: bool = True


_QEMU_NICS = (NicModel.VIRTIO, NicModel.E1000E, NicModel.E1000, NicModel.RTL8139)
_MODELS = (CpuMode.HOST_MODEL, CpuMode.HOST_PASSTHROUGH, CpuMode.MAXIMUM)
_LARGE = (DiskBus.VIRTIO, DiskBus.SCSI)


def _xen(label: str) -> Limits:
    return Limits(
        label=label,
        # Xen's SUPPORT.md, "Limits/Guest", x86 HVM.
        max_vcpus=128,
        max_memory_bytes=TIB,
        buses={DiskBus.IDE: 4, DiskBus.SCSI: 7, DiskBus.XEN: _MANY},
        nic_models=(NicModel.E1000, NicModel.RTL8139),
        cpu_modes=(CpuMode.HOST_PASSTHROUGH,),
        topology=False,
        serials=False,
        secure_boot=False,
    )


LIMITS: dict[Hypervisor, Limits] = {
    Hypervisor.QEMU: Limits(
        label="QEMU",
        max_vcpus=_QEMU_CPUS,
        max_memory_bytes=_QEMU_MEMORY,
        buses={DiskBus.VIRTIO: _QEMU_PCI_DISKS, DiskBus.SCSI: _MANY, DiskBus.SATA: _MANY, DiskBus.IDE: 4},
        nic_models=_QEMU_NICS,
        cpu_modes=_MODELS,
        large_sectors=_LARGE,
    ),
    Hypervisor.XEN: _xen("Xen"),
    Hypervisor.XL: _xen("Xen"),
    # qm.conf(5): ide0-3, sata0-5, scsi0-30, virtio0-15. Its memory devices end at 4 TiB.
    Hypervisor.PROXMOX: Limits(
        label="Proxmox VE",
        max_vcpus=_QEMU_CPUS,
        max_memory_bytes=4 * TIB,
        buses={DiskBus.VIRTIO: 16, DiskBus.SCSI: 31, DiskBus.SATA: 6, DiskBus.IDE: 4},
        nic_models=_QEMU_NICS,
        cpu_modes=(CpuMode.HOST_PASSTHROUGH, CpuMode.MAXIMUM),
    ),
    Hypervisor.KUBEVIRT: Limits(
        label="KubeVirt",
        max_vcpus=_QEMU_CPUS,
        max_memory_bytes=_QEMU_MEMORY,
        buses={DiskBus.VIRTIO: _MANY, DiskBus.SCSI: _MANY, DiskBus.SATA: _MANY},
        nic_models=_QEMU_NICS,
        cpu_modes=(CpuMode.HOST_MODEL, CpuMode.HOST_PASSTHROUGH),
        large_sectors=_LARGE,
        pc=False,
        local_clock=False,
    ),
}
