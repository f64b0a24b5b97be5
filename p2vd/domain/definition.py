"""A virtual machine with every choice made: what the renderers turn into a hypervisor's own words."""

import enum
from dataclasses import dataclass
from typing import Generic, TypeVar

from p2vd.model.domain import CpuMode, DomainChoice, MachineType, NicModel, Video
from p2vd.model.forms import TargetFormat
from p2vd.model.passport import ClockOffset
from p2vd.model.plan import DiskBus, Firmware, VirtType

T = TypeVar("T")


class Hypervisor(enum.Enum):
    """Who takes the machine: libvirt's QEMU or Xen by its binding, the others by files."""

    QEMU = "qemu"
    XEN = "xen"
    XL = "xl"
    PROXMOX = "proxmox"
    KUBEVIRT = "kubevirt"

    @property
    def is_xen(self) -> bool:
        """Whether Xen runs the guest, by whatever tool."""
        return self in (Hypervisor.XEN, Hypervisor.XL)


class DiskKind(enum.Enum):
    """What a disk of the domain lies in."""

    BLOCK = "block"
    FILE = "file"


@dataclass(frozen=True)
class DomainDisk:
    """A disk to define: the LV's node (or a file's path), the source's WWID, from which the serial comes.

    `sector_size`: what the guest sees; 0: as the options say. `size_bytes` 0: not known; KubeVirt needs it.
    `format`: how a file holds it.
    """

    devnode: str
    serial: str
    thin: bool = False
    sector_size: int = 0
    size_bytes: int = 0
    kind: DiskKind = DiskKind.BLOCK
    format: TargetFormat = TargetFormat.RAW


@dataclass(frozen=True)
class Chosen(Generic[T]):
    """A value, and what the plan's page says of it."""

    value: T
    choice: DomainChoice


def chosen(key: str, value: T, why: str, shown: str | None = None) -> Chosen[T]:
    """Return `value` with its reason; `shown` is how the page writes it."""
    if shown is None:
        shown = str(value.value) if isinstance(value, enum.Enum) else str(value)
    return Chosen(value, DomainChoice(key, shown, why))


@dataclass(frozen=True)
class DefinedDisk:
    """A disk of the machine. `target` is its name at the hypervisor (`vda`); `boot_order` counts from 1.

    `sector_size` 0: the hypervisor's default, 512.
    """

    devnode: str
    kind: DiskKind
    bus: DiskBus
    target: str
    serial: str
    discard: bool
    sector_size: int
    size_bytes: int
    boot_order: int
    format: TargetFormat = TargetFormat.RAW


class NetworkKind(enum.Enum):
    """What a NIC is plugged into."""

    NETWORK = "network"
    BRIDGE = "bridge"


@dataclass(frozen=True)
class DefinedNic:
    """A NIC of the machine. `old`: the name of the one it stands for, empty where there was none."""

    mac: str
    model: NicModel
    kind: NetworkKind
    network: str
    old: str = ""


@dataclass(frozen=True)
class Topology:
    """The processors as the guest sees them."""

    sockets: int
    cores: int
    threads: int

    @property
    def count(self) -> int:
        """How many in all."""
        return self.sockets * self.cores * self.threads

    def __str__(self) -> str:
        return f"{self.sockets} x {self.cores} x {self.threads}"


@dataclass(frozen=True)
class Definition:
    """The machine. `address_bits` 0: the hypervisor's own width of physical addresses.

    `warnings`: what does not forbid it, but may keep it from running as the old one did.
    """

    name: str
    uuid: str
    hypervisor: Hypervisor
    virt_type: VirtType
    machine_type: MachineType
    cpu_mode: CpuMode
    topology: Topology
    address_bits: int
    memory_bytes: int
    firmware: Firmware
    secure_boot: bool
    windows: bool
    windows_version: tuple[int, int] | None
    disks: tuple[DefinedDisk, ...]
    nics: tuple[DefinedNic, ...]
    video: Video
    clock: ClockOffset
    hyperv: bool
    rng: bool
    guest_agent: bool
    start: bool
    nodes: tuple[str, ...] = ()
    namespace: str = "default"
    choices: tuple[DomainChoice, ...] = ()
    warnings: tuple[str, ...] = ()
