"""The SAN of a machine, from outside: its LUNs, their contents as the array holds them, its faults."""

import json
from dataclasses import dataclass
from typing import Self

from integration.lab.vm import Vm

PORTALS = ("10.98.1.1", "10.98.2.1")
IQN = "iqn.2026-01.org.example.lab:array"


@dataclass(frozen=True)
class Lun:
    """A LUN: `device` is its multipath map in the guest, `backing` the file in which the array keeps it."""

    name: str
    wwid: str
    device: str
    size_bytes: int
    sector_size: int
    backing: str


class San:
    """The SAN inside a machine of layer `san` or above."""

    def __init__(self, vm: Vm, luns: dict[str, Lun]) -> None:
        self.vm = vm
        self.luns = luns

    @classmethod
    def of(cls, vm: Vm) -> Self:
        """Return the SAN as it is now."""
        return cls(vm, _luns(vm.out("lab-san show")))

    def __getitem__(self, name: str) -> Lun:
        return self.luns[name]

    def add(self, name: str, size: str, sector_size: int = 512) -> Lun:
        """Add a LUN (`size` like "256M") and return it when multipath has both its paths."""
        self.luns = _luns(self.vm.out(f"lab-san up {name}:{size}:{sector_size}"))
        return self.luns[name]

    def remove(self, name: str) -> None:
        """Take a LUN away from the initiator and drop its contents."""
        self.vm.run(f"lab-san remove {name}")
        del self.luns[name]

    def digest(self, name: str) -> str:
        """Return the SHA-256 of a LUN as the array holds it, past every cache of the initiator."""
        return self.vm.out(f"sha256sum < {self.luns[name].backing}").split()[0]

    def write_elsewhere(self, name: str, offset_bytes: int, text: str) -> None:
        """Write to a LUN as another initiator would: this host sees no event, only other bytes."""
        self.vm.run(
            f"dd of={self.luns[name].backing} bs=64K oflag=seek_bytes seek={offset_bytes} conv=notrunc",
            stdin=text,
        )

    def paths(self, name: str) -> list[str]:
        """Return the names (sdX) of a LUN's paths."""
        device = self.luns[name].device
        return self.vm.out(f"ls /sys/block/$(basename $(readlink -f {device}))/slaves").split()

    def path_state(self, path: str, state: str) -> None:
        """Set one path `offline` or `running`."""
        self.vm.run(f"echo {state} > /sys/block/{path}/device/state")

    def enabled(self, enabled: bool) -> None:
        """Switch the whole target on or off: all paths of all LUNs."""
        self.vm.run(f"echo {int(enabled)} > /sys/kernel/config/target/iscsi/{IQN}/tpgt_1/enable")


def _luns(text: str) -> dict[str, Lun]:
    return {entry["name"]: Lun(**entry) for entry in json.loads(text)}
