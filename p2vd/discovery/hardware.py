"""This host's own processors, memory and KVM, from /proc and /sys. What they do not tell is not known."""

import re
from pathlib import Path

from p2vd.discovery.sysfs import list_directory, read_text
from p2vd.model.hardware import HostHardware
from p2vd.model.size import KIB

# One processor's part of /proc/cpuinfo has up to 3 KiB; the first tells what all of them have.
_FIRST_BYTES = 16 * KIB
_ADDRESSES = re.compile(r"^address sizes\s*:\s*(\d{1,3}) bits physical", re.MULTILINE)
_TOTAL = re.compile(r"^MemTotal:\s*(\d{1,15}) kB$", re.MULTILINE)
_RANGE = re.compile(r"(\d{1,6})(?:-(\d{1,6}))?")


def read_hardware(sysfs: Path = Path("/sys"), proc: Path = Path("/proc")) -> HostHardware:
    """Return what this host can give to guests.

    KVM is told by its device in /sys: the node /dev/kvm is made at boot (kmod static-nodes) on hosts, too,
    whose processors have no virtualization, and to open it would load modules.
    """
    misc = list_directory(sysfs / "class/misc")
    return HostHardware(
        cpus=_count(read_text(sysfs / "devices/system/cpu/online")),
        memory_bytes=_number(_TOTAL, _beginning(proc / "meminfo")) * KIB,
        address_bits=_number(_ADDRESSES, _beginning(proc / "cpuinfo")),
        kvm="kvm" in misc if misc else None,
    )


def _beginning(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_FIRST_BYTES).decode("utf-8", "replace")
    except OSError:  # a /proc of processes alone (ProcSubset=pid); nothing is refused for what is not known
        return ""


def _number(pattern: re.Pattern[str], text: str) -> int:
    found = pattern.search(text)
    return int(found[1]) if found else 0


def _count(text: str) -> int:
    """Return how many a list has as the kernel writes it: `0-3,8`; 0 where it is none."""
    ranges = [_RANGE.fullmatch(part) for part in text.split(",")]
    return sum(int(one[2] or one[1]) - int(one[1]) + 1 if one else 0 for one in ranges)
