"""The boot test of a machine: what was started, and what it showed."""

import enum
from dataclasses import dataclass

from p2vd.model.domain import MachineType
from p2vd.model.plan import DiskBus, Firmware


class BootState(enum.Enum):
    """How a boot test stands. Durable."""

    RUNNING = "running"
    BOOTED = "booted"
    NOT_BOOTED = "not-booted"
    FAILED = "failed"
    """The test itself could not be carried out: it says nothing of the machine."""


class Sign(enum.Enum):
    """By what a guest shows that it lives; the value names it on the bus."""

    NONE = ""
    SERIAL = "serial"
    AGENT = "agent"
    SCREEN = "screen"


@dataclass(frozen=True)
class BootDisk:
    """A disk that the test shows to the guest: where it is read, and as what it is seen.

    `dm_name`: its device-mapper name, by which its writes are counted; empty for what is no such device.
    `format`: QEMU's word for how it holds the disk.
    """

    devnode: str
    dm_name: str
    serial: str
    sector_size: int = 512
    format: str = "raw"
    is_file: bool = False


@dataclass(frozen=True)
class BootMachine:
    """The virtual machine to start: as it is defined, without its network."""

    uuid: str
    name: str
    memory_bytes: int
    vcpus: int
    firmware: Firmware
    bus: DiskBus
    disks: tuple[BootDisk, ...]
    kvm: bool = True
    machine_type: MachineType = MachineType.Q35


@dataclass(frozen=True)
class BootRequest:
    """What is waited for: text that matches `expect` on the serial port, or any sign of life; how long."""

    machine: BootMachine
    expect: str = ""
    timeout_s: int = 300


@dataclass(frozen=True)
class BootReport:
    """What a test that was carried out saw. `screen` is a PNG picture, empty where there was none.

    `accelerator`: `kvm`, or `tcg` where the guest was emulated.
    """

    booted: bool
    sign: Sign
    seen: str
    serial: str = ""
    screen: bytes = b""
    accelerator: str = ""


@dataclass(frozen=True)
class BootTest:
    """A machine's latest boot test. Durable; `error` is the name of what kept a test from its end.

    `seen` is a sentence, `serial` the last text of the serial port, `screenshot` a path.
    """

    state: BootState
    started_us: int
    ended_us: int = 0
    sign: Sign = Sign.NONE
    seen: str = ""
    serial: str = ""
    screenshot: str = ""
    accelerator: str = ""
    error: str = ""
