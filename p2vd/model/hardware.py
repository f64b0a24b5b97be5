"""What this host has to give to guests."""

from dataclasses import dataclass


@dataclass(frozen=True)
class HostHardware:
    """Its processors that are online, its memory, and how wide its physical addresses are. 0: not known.

    `kvm`: whether the kernel offers KVM now; None: not known.
    """

    cpus: int = 0
    memory_bytes: int = 0
    address_bits: int = 0
    kvm: bool | None = None
