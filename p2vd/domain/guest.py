"""What is known of the guest's system: its family, its age, and which virtual hardware it can use."""

import enum
import re
from dataclasses import dataclass

from p2vd.model.passport import Passport

_WINDOWS_BY_NAME = (
    (r"2000", (5, 0)),
    (r"\bxp\b", (5, 1)),
    (r"2003", (5, 2)),
    (r"2008 r2|\b7\b", (6, 1)),
    (r"vista|2008", (6, 0)),
    (r"2012 r2|8\.1", (6, 3)),
    (r"2012|\b8\b", (6, 2)),
    (r"2016|2019|20[2-9]\d|\b1[01]\b", (10, 0)),
)
"""Windows's own version numbers, by which its drivers go; the first that fits."""

_SAME_DRIVER = {
    "viostor": "virtio_blk",
    "vioscsi": "virtio_scsi",
    "netkvm": "virtio_net",
    "viorng": "virtio_rng",
    "storahci": "ahci",
    "msahci": "ahci",
    "intelide": "ata_piix",
    "atapi": "ata_piix",
    "piix": "ata_piix",
    "8139too": "rtl8139",
    "8139cp": "rtl8139",
}
"""Windows's drivers, and Linux's other ones, by the name of Linux's for the same hardware."""

_AGENTS = frozenset({"qemu-ga", "qemu-guest-agent"})


class Family(enum.Enum):
    """Which rules the guest follows."""

    LINUX = "linux"
    WINDOWS = "windows"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Guest:
    """The guest's system. `version`: of its kernel, the first two numbers; None: not known.

    Drivers by Linux's names. `boot_known`: it is known which of them it has when it looks for its root.
    """

    family: Family = Family.UNKNOWN
    label: str = "the guest's system"
    version: tuple[int, int] | None = None
    drivers: frozenset[str] = frozenset()
    boot_drivers: frozenset[str] = frozenset()
    boot_known: bool = False
    agent: str = ""

    @property
    def windows(self) -> bool:
        """Whether it is Windows."""
        return self.family is Family.WINDOWS

    def older_than(self, major: int, minor: int) -> bool:
        """Whether its kernel is known to be older."""
        return self.version is not None and self.version < (major, minor)


def guest_of(passport: Passport | None) -> Guest:
    """Return what the passport tells of the guest."""
    if passport is None:
        return Guest()
    system = passport.system
    text = f"{system.id} {system.name}".lower()
    if "windows" in text:
        family, version = Family.WINDOWS, _numbers(system.version) or _by_name(system.name.lower())
    elif system.id or system.kernel:
        family, version = Family.LINUX, _numbers(system.kernel)
    else:
        family, version = Family.UNKNOWN, None
    return Guest(
        family=family,
        label=system.name or system.id or Guest.label,
        version=version,
        drivers=_drivers(system.drivers) | _drivers(system.boot_drivers),
        boot_drivers=_drivers(system.boot_drivers),
        boot_known=system.boot_drivers_known or bool(system.boot_drivers),
        agent=next((agent for agent in system.agents if agent in _AGENTS), ""),
    )


def _drivers(names: tuple[str, ...]) -> frozenset[str]:
    plain = (name.lower().replace("-", "_") for name in names)
    return frozenset(_SAME_DRIVER.get(name, name) for name in plain)


def _numbers(version: str) -> tuple[int, int] | None:
    match = re.match(r"(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else None


def _by_name(name: str) -> tuple[int, int] | None:
    return next((version for pattern, version in _WINDOWS_BY_NAME if re.search(pattern, name)), None)
