"""What may be chosen for a virtual machine, and why something was."""

import enum
from dataclasses import dataclass


class MachineType(enum.Enum):
    """The chipset: PCI Express (`q35`), or the older PCI (`pc`, i440FX)."""

    AUTO = "auto"
    Q35 = "q35"
    PC = "pc"


class CpuMode(enum.Enum):
    """Which processor the guest sees, in libvirt's words."""

    AUTO = "auto"
    HOST_MODEL = "host-model"
    HOST_PASSTHROUGH = "host-passthrough"
    MAXIMUM = "maximum"


class NicModel(enum.Enum):
    """Which network card the guest sees."""

    AUTO = "auto"
    VIRTIO = "virtio"
    E1000E = "e1000e"
    E1000 = "e1000"
    RTL8139 = "rtl8139"


class MacChoice(enum.Enum):
    """Whether the virtual NICs have the old machine's addresses."""

    KEEP = "keep"
    NEW = "new"


class Video(enum.Enum):
    """The graphics card; `none`: the serial console alone."""

    AUTO = "auto"
    VGA = "vga"
    VIRTIO = "virtio"
    NONE = "none"


class Conversion(enum.Enum):
    """What makes the guest fit for its new hardware, before it starts there."""

    NONE = "none"
    VIRT_V2V = "virt-v2v-in-place"


@dataclass(frozen=True)
class NetworkRule:
    """To which network a NIC of the old machine goes. All criteria must hold that are set ("" and 0 are not).

    `nic` and `mac` are globs (`mac` in lower case); `prefix` is a network with its length that holds one of
    the NIC's addresses; `vlan` one that the NIC carries. `network` as in DomainOptions.
    """

    network: str
    nic: str = ""
    mac: str = ""
    prefix: str = ""
    vlan: int = 0


@dataclass(frozen=True)
class DomainChoice:
    """One decision about the virtual machine: `why` is a sentence for the plan's page."""

    key: str
    value: str
    why: str
