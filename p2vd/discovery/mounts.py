"""What is mounted and what is swapped on, from /proc and the kernel's list of btrfs members."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from p2vd.discovery.sysfs import BlockTree, list_directory
from p2vd.model.errors import OutputUnclear
from p2vd.system import mountinfo

# proc(5): the fields of a line of mountinfo up to the mount point.
_FIELDS = 5
_NUMBER = re.compile(r"\d+:\d+")


@dataclass(frozen=True)
class Mounts:
    """Mount points and swap use by the kernel's device name."""

    points: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    swaps: frozenset[str] = frozenset()


def read_mounts(tree: BlockTree, proc: Path = Path("/proc")) -> Mounts:
    """Return what is mounted or swapped on, host-wide as far as this process may see it.

    The mounts of process 1 are the host's; the daemon's own sandbox has others. Raises OSError
    where neither can be read, OutputUnclear where they cannot be understood: nothing may count as
    unmounted then.
    """
    names = {node.number: node.name for node in tree.nodes.values()}
    for node in tree.nodes.values():
        names[node.devnode] = node.name
        names[f"/dev/{node.name}"] = node.name
    points: dict[str, list[str]] = {}
    for line in _mountinfo(proc).splitlines():
        fields, _, tail = line.partition(" - ")
        words = fields.split(" ")
        if len(words) < _FIELDS or not _NUMBER.fullmatch(words[2]):
            raise OutputUnclear("mountinfo", line[:80])
        # A btrfs has a device number of its own: there the mount's source names the device.
        origin = mountinfo.unescape(tail.split(" ")[1]) if len(tail.split(" ")) > 1 else ""
        name = names.get(words[2]) or names.get(origin)
        if name:
            points.setdefault(name, []).append(mountinfo.unescape(words[4]))
    for name in _btrfs_members(tree):
        points.setdefault(name, ["a btrfs"])
    swaps = [
        mountinfo.unescape(line.split(maxsplit=1)[0])
        for line in _swaps(proc).splitlines()[1:]
        if line.strip()
    ]
    return Mounts(
        {name: tuple(dict.fromkeys(where)) for name, where in points.items()},
        frozenset(names[swap] for swap in swaps if swap in names),
    )


def _mountinfo(proc: Path) -> str:
    try:
        return mountinfo.read(proc)
    except FileNotFoundError:  # a /proc that hides other processes
        return (proc / "self/mountinfo").read_text("utf-8", "surrogateescape")


def _swaps(proc: Path) -> str:
    try:
        return (proc / "swaps").read_text("utf-8", "replace")
    except FileNotFoundError:
        # A kernel without swap.
        return ""


def _btrfs_members(tree: BlockTree) -> list[str]:
    # mountinfo names only one member of a btrfs over several devices.
    filesystems = tree.sysfs / "fs/btrfs"
    return [
        name
        for filesystem in list_directory(filesystems)
        for name in list_directory(filesystems / filesystem / "devices")
    ]
