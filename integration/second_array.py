"""A second array in the guest: one target that a test may refuse, starve and rearrange, beside the lab's own.

Shell and configfs only: Python takes seconds to start in the emulated guest.
"""

import hashlib
from dataclasses import dataclass

from integration.lab.vm import Vm

IQN = "iqn.2026-01.org.example.lab:second"
PORTALS = ("10.98.3.1", "10.98.4.1", "fd98:5::1")
USER, SECRET = "host-side", "hostsecret-1234"
USER_IN, SECRET_IN = "array-side", "arraysecret-5678"

_CONFIG = "/sys/kernel/config/target"
_GROUP = f"{_CONFIG}/iscsi/{IQN}/tpgt_1"
# Of a portal that is served apart.
_GROUP_APART = f"{_CONFIG}/iscsi/{IQN}/tpgt_2"
_STORES = f"{_CONFIG}/core/fileio_7"
_ACL = "acls/$(sed -n s/^InitiatorName=//p /etc/iscsi/initiatorname.iscsi)"


def wwid(name: str) -> str:
    """Return the WWID of a disk of this array: NAA 6, LIO's OUI, the serial number."""
    return "36001405" + _serial(name)


def _serial(name: str) -> str:
    return hashlib.md5(f"second {name}".encode()).hexdigest()[:25]


@dataclass
class SecondArray:
    """The array: disks are files by name, shown under LUN numbers. A boot forgets all but the files."""

    vm: Vm

    def up(self) -> None:
        """Serve the target at all portals, CHAP in both directions; nothing logs in."""
        self.build()
        self.serve()

    def build(self) -> None:
        """Make the target, and nobody who could be asked for it: no portal answers yet."""
        lines = [
            "set -e",
            "mountpoint -q /sys/kernel/config || mount -t configfs configfs /sys/kernel/config",
            "modprobe -a target_core_mod target_core_file iscsi_target_mod",
            "mkdir -p /srv/second /var/target/pr /var/target/alua /etc/target/pr /etc/target/alua",
            f"mkdir -p {_GROUP} {_STORES}",
        ]
        for number, portal in enumerate(PORTALS, 3):
            nodad = "nodad" if ":" in portal else ""
            lines += [
                f"ip link show isc{number} > /dev/null 2>&1 || ip link add isc{number} type dummy",
                f"ip link set isc{number} up",
                f"ip addr replace {_with_prefix(portal)} dev isc{number} {nodad}",
            ]
        self.vm.run("\n".join([*lines, *_admission(_GROUP)]))

    def serve(self, apart: str = "") -> None:
        """Have every portal answer; what is mapped by then is what a login finds.

        A portal that is served `apart` is a target portal group of its own: its LUN numbers are its own, too.
        """
        shown = (f"[{portal}]" if ":" in portal else portal for portal in PORTALS if portal != apart)
        self.vm.run(f"set -e; cd {_GROUP}/np; " + "; ".join(f"mkdir -p '{portal}:3260'" for portal in shown))
        if apart:
            lines = ["set -e", f"mkdir -p {_GROUP_APART}", *_admission(_GROUP_APART)]
            self.vm.run("\n".join([*lines, f"mkdir {_GROUP_APART}/np/{apart}:3260"]))

    def add(self, name: str, size_mib: int, number: int) -> str:
        """Make a disk and map it; its WWID."""
        store = f"{_STORES}/{name}"
        size = size_mib << 20
        self.vm.run(
            f"set -e; truncate -s {size} /srv/second/{name}.img; mkdir -p {store}\n"
            f"echo fd_dev_name=/srv/second/{name}.img,fd_dev_size={size},fd_buffered_io=1 > {store}/control\n"
            f"echo 1 > {store}/enable; echo {_serial(name)} > {store}/wwn/vpd_unit_serial"
        )
        self.map(number, name)
        return wwid(name)

    def map(self, number: int, name: str, *, apart: bool = False) -> None:
        """Show a disk to the host under a LUN number, by the portal that is `apart` or by the others."""
        lun, own = _lun(number, apart=apart)
        self.vm.run(
            f"set -e; mkdir -p {lun}; ln -s {_STORES}/{name} {lun}/store\nmkdir -p {own}; ln -s {lun} {own}/x"
        )

    def unmap(self, number: int, *, apart: bool = False) -> None:
        """Take a LUN number away from the host; the disk stays in the array."""
        lun, own = _lun(number, apart=apart)
        self.vm.run(f"rm {own}/x && rmdir {own} && rm {lun}/store && rmdir {lun}")

    def remap(self, number: int, name: str, *, apart: bool = False) -> None:
        """Give a LUN number to another disk of the array."""
        self.unmap(number, apart=apart)
        self.map(number, name, apart=apart)

    def grow(self, name: str, size_mib: int) -> None:
        """Make a mapped disk larger; the host is not told."""
        size = size_mib << 20
        self.vm.run(
            f"truncate -s {size} /srv/second/{name}.img; echo fd_dev_size={size} > {_STORES}/{name}/control"
        )

    def portal_down(self, portal: str) -> None:
        """Pull a portal's cable."""
        self.vm.run(f"ip addr del {_with_prefix(portal)} dev isc{PORTALS.index(portal) + 3}")

    def portal_up(self, portal: str) -> None:
        """Plug it in again."""
        self.vm.run(f"ip addr add {_with_prefix(portal)} dev isc{PORTALS.index(portal) + 3}")


def _admission(group: str) -> list[str]:
    """Return the commands that let the host in to a target portal group, by CHAP, and enable it."""
    # What it wants to hear, and what it proves itself with.
    said = {"userid": USER, "password": SECRET, "userid_mutual": USER_IN, "password_mutual": SECRET_IN}
    return [
        f"echo 1 > {group}/attrib/authentication",
        f"echo 0 > {group}/attrib/generate_node_acls",
        f"mkdir -p {group}/{_ACL}",
        *(f"echo -n {value} > {group}/{_ACL}/auth/{name}" for name, value in said.items()),
        f"echo 1 > {group}/enable",
    ]


def _lun(number: int, *, apart: bool) -> tuple[str, str]:
    """Return where a LUN number is configured: in its target portal group, and for the host."""
    group = _GROUP_APART if apart else _GROUP
    return f"{group}/lun/lun_{number}", f"{group}/{_ACL}/lun_{number}"


def _with_prefix(portal: str) -> str:
    return f"{portal}/{64 if ':' in portal else 24}"
