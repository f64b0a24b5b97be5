"""A physical machine as it was: its hardware passport, as `p2vctl machine collect` writes it. Facts only."""

import enum
from dataclasses import dataclass, field

from p2vd.model.plan import Firmware

FORMAT = 1
"""Of the record; a newer one is refused by its number."""


class NicKind(enum.Enum):
    """What a network interface is."""

    PHYSICAL = "physical"
    BOND = "bond"
    VLAN = "vlan"
    BRIDGE = "bridge"
    OTHER = "other"


class ClockOffset(enum.Enum):
    """In which time the machine's hardware clock runs."""

    UTC = "utc"
    LOCAL = "local"


@dataclass(frozen=True)
class Cpu:
    """The processors. `cores` a socket, `threads` a core; `flags` as /proc/cpuinfo names them, sorted."""

    model: str = ""
    vendor: str = ""
    sockets: int = 1
    cores: int = 1
    threads: int = 1
    flags: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many processors the machine's system sees."""
        return self.sockets * self.cores * self.threads


@dataclass(frozen=True)
class Dmi:
    """Who made the machine, in SMBIOS's words."""

    vendor: str = ""
    product: str = ""
    serial: str = ""
    uuid: str = ""
    board: str = ""
    bios_version: str = ""


@dataclass(frozen=True)
class PassportDisk:
    """A disk. `name` is the machine's own of that moment (`sda`); the WWID tells which LUN it is.

    `boots`: the machine's /boot, ESP or root lies on it. `partition_table`: in the words of
    model.contents.Table (`gpt`, `mbr`), "" for not known.
    """

    name: str
    size_bytes: int
    wwid: str = ""
    serial: str = ""
    model: str = ""
    transport: str = ""
    sector_size: int = 512
    boots: bool = False
    partition_table: str = ""

    @property
    def identity(self) -> str:
        """What tells it from the machine's other disks, as far as is known."""
        return self.wwid or self.serial or self.name


@dataclass(frozen=True)
class Nic:
    """A network interface. `addresses` with prefix length; `members` of a bond or bridge; a VLAN's `parent`.

    `mac` is the card's own, where a bond has given it another. `speed_mbps` 0: not known.
    """

    name: str
    kind: NicKind = NicKind.PHYSICAL
    mac: str = ""
    driver: str = ""
    speed_mbps: int = 0
    mtu: int = 1500
    addresses: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    bond_mode: str = ""
    parent: str = ""
    vlan_id: int = 0


@dataclass(frozen=True)
class IpRoute:
    """A route of the machine. `destination` is `default` or a network with its prefix length."""

    destination: str
    nic: str
    gateway: str = ""


@dataclass(frozen=True)
class GuestSystem:
    """The machine's operating system, in the words of os-release(5) (`debian`, `rhel`, `windows`).

    `drivers`: of those that a virtual machine offers (`virtio_blk`, `virtio_scsi`, `virtio_net`, `ahci`,
    `e1000`, ...), which its kernel has; `boot_drivers`: which of them at the moment it looks for its root.
    `boot_drivers_known`: that is all of them; without it, an empty list says nothing.
    `agents`: guest agents installed (`qemu-ga`, `open-vm-tools`, ...).
    """

    id: str = ""
    name: str = ""
    version: str = ""
    kernel: str = ""
    drivers: tuple[str, ...] = ()
    boot_drivers: tuple[str, ...] = ()
    boot_drivers_known: bool = False
    agents: tuple[str, ...] = ()


@dataclass(frozen=True)
class Passport:
    """The record. Disks and NICs in the machine's own order. An unknown value is empty or zero.

    `firmware`, `clock` and `fallback_loader` None: not known. `fallback_loader`: the EFI system partition has
    \\EFI\\BOOT\\BOOTX64.EFI, by which firmware starts that has no boot entries.
    `written_by_hand`: no machine was asked.
    """

    name: str
    format: int = FORMAT
    collected_us: int = 0
    written_by_hand: bool = False
    cpu: Cpu = field(default_factory=Cpu)
    memory_bytes: int = 0
    firmware: Firmware | None = None
    secure_boot: bool = False
    fallback_loader: bool | None = None
    dmi: Dmi = field(default_factory=Dmi)
    disks: tuple[PassportDisk, ...] = ()
    nics: tuple[Nic, ...] = ()
    routes: tuple[IpRoute, ...] = ()
    dns: tuple[str, ...] = ()
    clock: ClockOffset | None = None
    system: GuestSystem = field(default_factory=GuestSystem)


@dataclass(frozen=True)
class Guess:
    """A record as far as the machine's disks tell; in `notes` what they do not, a sentence each."""

    passport: Passport
    notes: tuple[str, ...]
