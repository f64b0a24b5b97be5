"""Disks of a machine beside its iSCSI SAN: Fibre Channel, NVMe. Made while it runs: no layer holds them."""

import hashlib
from pathlib import Path

from integration.lab.vm import Vm

_TOOL = "lab-disks"
_SOURCE = Path(__file__).parent / _TOOL
FABRICS = (0, 1)


def wwid(name: str) -> str:
    """Return the WWID of a LUN of that name, as multipath names it."""
    return "36001405" + hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()[:25]


def hba_wwpn(fabric: int) -> str:
    """Return the WWPN of this host's port in a fabric."""
    return f"20:00:02:fc:00:00:0{fabric}:01"


def array_wwpn(fabric: int) -> str:
    """Return the WWPN of the array's port in a fabric."""
    return f"20:00:02:fc:00:00:0{fabric}:02"


class Fabric:
    """Fibre Channel in a machine of layer `san` or above: two fabrics, an HBA and an array port in each."""

    def __init__(self, vm: Vm) -> None:
        self.vm = vm

    @classmethod
    def up(cls, vm: Vm, *luns: str) -> "Fabric":
        """Bring it up with LUNs (`NAME:SIZE`), both paths of each ready."""
        install(vm)
        vm.run([_TOOL, "fc", *luns])
        return cls(vm)

    def device(self, name: str) -> str:
        """Return the multipath map of a LUN."""
        return self.vm.out(f"ls /dev/disk/by-id/dm-uuid-mpath-{wwid(name)}")

    def add(self, lun: str) -> None:
        """Let the array show one more LUN (`NAME:SIZE`); the initiator is not told."""
        self.vm.run([_TOOL, "fc-add", lun])

    def remove(self, name: str) -> None:
        """Let the array take a LUN away; the initiator is not told."""
        self.vm.run([_TOOL, "fc-remove", name])

    def link(self, fabric: int, state: str) -> None:
        """Set the HBA's link of a fabric `up` or `down`."""
        self.vm.run([_TOOL, "fc-link", str(fabric), state])


def install(vm: Vm) -> None:
    """Put the tool into a machine."""
    vm.write(f"/usr/local/sbin/{_TOOL}", _SOURCE.read_text(), mode="755")


def nvme(vm: Vm, name: str, size: str) -> str:
    """Make an NVMe namespace; return its device node."""
    install(vm)
    return vm.out([_TOOL, "nvme", name, size])
