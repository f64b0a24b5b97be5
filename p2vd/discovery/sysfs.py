"""The kernel's block devices as sysfs shows them, read once into plain values.

A device may go while it is read: what is missing then reads as empty, and a device without a size
or number is left out. What is there and is no number where one belongs raises OutputUnclear.
"""

import errno
import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from p2vd.model.errors import OutputUnclear

# What reading an attribute of a device gives that just went, or that does not have it.
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ENXIO, errno.EINVAL, errno.EIO, errno.EOPNOTSUPP}

# The `size` attribute counts these, whatever the device's logical sector size is.
_SIZE_UNIT = 512

_ATTRIBUTE_BYTES = 4096

_DIGITS = len(str(2**64))
_NUMBER = re.compile(r"\d+:\d+")

_IGNORED = re.compile(r"(zram|ram|sr|fd|nbd)\d+|nvme\d+c\d+n\d+")


@dataclass(frozen=True, slots=True)
class Node:
    """One block device of this moment. `number` is MAJ:MIN; `devpath` its place below /sys.

    `disk` is the whole disk's name for a partition, else empty. `holders` are the names of what
    is stacked on it, `slaves` of what it is stacked on.
    """

    name: str
    number: str
    size_bytes: int
    sector_size: int
    devpath: str
    disk: str = ""
    partitions: tuple[str, ...] = ()
    holders: tuple[str, ...] = ()
    slaves: tuple[str, ...] = ()
    dm_name: str = ""
    dm_uuid: str = ""
    suspended: bool = False
    backing_file: str = ""
    backing_partial: bool = False
    is_array: bool = False

    @property
    def devnode(self) -> str:
        """The node to name to commands and people: by its name for device-mapper."""
        return f"/dev/mapper/{self.dm_name}" if self.dm_name else f"/dev/{self.name}"

    @property
    def is_map(self) -> bool:
        """Whether it is a multipath map (not one of its partitions)."""
        return self.dm_uuid.startswith("mpath-")

    @property
    def is_lv(self) -> bool:
        """Whether LVM made it."""
        return self.dm_uuid.startswith("LVM-")


@dataclass(frozen=True)
class BlockTree:
    """All block devices of one moment, by their kernel names."""

    sysfs: Path
    nodes: dict[str, Node] = field(default_factory=dict)

    @cached_property
    def loops(self) -> tuple[Node, ...]:
        """The loop devices that show something."""
        return tuple(node for node in self.nodes.values() if node.backing_file)

    def only(self, names: Collection[str]) -> "BlockTree":
        """Return the tree of these devices alone, in the order in which a whole one is read."""
        return BlockTree(self.sysfs, {name: node for name in sorted(names) if (node := self.nodes.get(name))})

    def above(self, name: str) -> Iterator[Node]:
        """Yield what uses the device: its partitions and holders, theirs, and so on; each once."""
        seen = {name}
        waiting = [name]
        while waiting:
            node = self.nodes.get(waiting.pop())
            if node is None:
                continue
            for other in (*node.partitions, *node.holders):
                if other not in seen and other in self.nodes:
                    seen.add(other)
                    waiting.append(other)
                    yield self.nodes[other]

    def maps(self) -> Iterator[Node]:
        """Yield the multipath maps."""
        return (node for node in self.nodes.values() if node.is_map)

    def map_of(self, name: str) -> Node | None:
        """Return the multipath map that holds the device `name` as a path."""
        node = self.nodes.get(name)
        holders = (self.nodes.get(holder) for holder in node.holders) if node else ()
        return next((holder for holder in holders if holder and holder.is_map), None)

    def attribute(self, name: str, attribute: str) -> bytes:
        """Return a sysfs attribute of a device, empty where there is none."""
        return read_bytes(f"{self.sysfs}/block/{name}/{attribute}")


def read_bytes(path: Path | str) -> bytes:
    """Return the file's bytes (at most 4 KiB, a sysfs attribute's size), empty where it is gone."""
    # Plain system calls: a host has thousands of these files, and open() takes four times as long.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(descriptor, _ATTRIBUTE_BYTES)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno in _GONE:
            return b""
        raise


def read_text(path: Path | str) -> str:
    """Return the file's text without the blanks around it, empty where it is gone."""
    return read_bytes(path).decode("utf-8", "replace").strip()


def list_directory(path: Path | str) -> tuple[str, ...]:
    """Return the sorted names in a directory, none where it is gone."""
    try:
        return tuple(sorted(os.listdir(path)))  # noqa: PTH208  (names are wanted, and this is the fastest)
    except OSError as error:
        if error.errno in _GONE:
            return ()
        raise


def read_block_tree(sysfs: Path = Path("/sys"), before: BlockTree | None = None) -> BlockTree:
    """Return the block devices that `sysfs` shows; what is as it was `before` is the same object.

    Left out: RAM disks, optical drives, floppies, NBD, the hidden paths of NVMe disks, and what has
    no device number. Raises OutputUnclear.
    """
    nodes: dict[str, Node] = {}
    known = before.nodes if before else {}
    block = str(sysfs / "block")
    for name in list_directory(block):
        if _IGNORED.fullmatch(name):
            continue
        for node in _read_nodes(block, name):
            old = known.get(node.name)
            kept = old if old == node else node
            nodes[kept.name] = kept
    return BlockTree(sysfs, nodes)


def _read_nodes(block: str, name: str) -> Iterator[Node]:
    """Yield a whole disk and its partitions; nothing where it is gone."""
    disk = _read_disk(f"{block}/{name}", name)
    if disk is None:
        return
    yield disk
    for partition in disk.partitions:
        part = _read_partition(disk, f"{block}/{name}/{partition}", partition)
        if part is not None:
            yield part


def reread(tree: BlockTree, names: Collection[str]) -> BlockTree:
    """Return `tree` with the devices `names` read again, and those that they are stacked with.

    What has come with them is read, what has gone is left out; a partition brings its disk.
    """
    nodes = dict(tree.nodes)
    waiting = [disk for name in names if (disk := _disk_of(tree, name))]
    asked, done = set(waiting), set()
    while waiting:
        name = waiting.pop()
        if name in done:
            continue
        done.add(name)
        before = _stacked_with(nodes, name)
        _replace(nodes, tree.sysfs, name)
        now = _stacked_with(nodes, name)
        waiting += before | now if name in asked else before ^ now
    return BlockTree(tree.sysfs, nodes)


def _disk_of(tree: BlockTree, name: str) -> str:
    """Return the whole disk's name of a device; "" for one that is not read or not known at all."""
    if (node := tree.nodes.get(name)) is not None:
        return node.disk or name
    if _IGNORED.fullmatch(name):
        return ""
    # Of a partition that has just come the disk is the directory around it.
    try:
        place = os.readlink(f"{tree.sysfs}/class/block/{name}")  # noqa: PTH115  (as below)
    except OSError as error:
        if error.errno in _GONE:
            return name
        raise
    around = place.rpartition("/")[0].rpartition("/")[2]
    return around if name.startswith(around) else name


def _stacked_with(nodes: dict[str, Node], name: str) -> set[str]:
    node = nodes.get(name)
    if node is None:
        return set()
    parts = [nodes[part] for part in node.partitions if part in nodes]
    names = {other for one in (node, *parts) for other in (*one.holders, *one.slaves)}
    return {nodes[other].disk or other if other in nodes else other for other in names}


def _replace(nodes: dict[str, Node], sysfs: Path, name: str) -> None:
    """Read a whole disk and its partitions again; what is as it was stays the same object."""
    old = nodes.pop(name, None)
    known = {part: nodes.pop(part, None) for part in (old.partitions if old else ())} | {name: old}
    for node in _read_nodes(f"{sysfs}/block", name):
        before = known.get(node.name)
        nodes[node.name] = before if before is not None and before == node else node


def read_number(path: str) -> int | None:
    """Return the number that an attribute holds, None where it is gone. Raises OutputUnclear."""
    text = read_text(path)
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= _DIGITS):
        raise OutputUnclear(path, text[:80])
    return int(text)


def _device_number(directory: str) -> str:
    text = read_text(f"{directory}/dev")
    if text and not _NUMBER.fullmatch(text):
        raise OutputUnclear(f"{directory}/dev", text[:80])
    return text


def _read_disk(directory: str, name: str) -> Node | None:
    number = _device_number(directory)
    size = read_number(f"{directory}/size")
    if not number or size is None:
        return None
    children = list_directory(directory)
    dm = "dm" in children
    loop = "loop" in children
    return Node(
        name=name,
        number=number,
        size_bytes=size * _SIZE_UNIT,
        sector_size=read_number(f"{directory}/queue/logical_block_size") or _SIZE_UNIT,
        devpath=_devpath(directory),
        partitions=tuple(
            child
            for child in children
            if child.startswith(name) and "partition" in list_directory(f"{directory}/{child}")
        ),
        holders=list_directory(f"{directory}/holders"),
        slaves=list_directory(f"{directory}/slaves"),
        dm_name=read_text(f"{directory}/dm/name") if dm else "",
        dm_uuid=read_text(f"{directory}/dm/uuid") if dm else "",
        suspended=dm and read_text(f"{directory}/dm/suspended") == "1",
        backing_file=_backing_file(directory) if loop else "",
        backing_partial=loop
        and any(read_text(f"{directory}/loop/{limit}") not in ("", "0") for limit in ("offset", "sizelimit")),
        is_array="md" in children,
    )


def _read_partition(disk: Node, directory: str, name: str) -> Node | None:
    number = _device_number(directory)
    size = read_number(f"{directory}/size")
    if not number or size is None:
        return None
    return Node(
        name=name,
        number=number,
        size_bytes=size * _SIZE_UNIT,
        sector_size=disk.sector_size,
        devpath=f"{disk.devpath}/{name}",
        disk=disk.name,
        holders=list_directory(f"{directory}/holders"),
    )


def _devpath(directory: str) -> str:
    # Entries of /sys/block are links to ../devices/...
    try:
        return os.readlink(directory).removeprefix("..")  # noqa: PTH115  (for speed, as above)
    except OSError as error:
        if error.errno in _GONE:
            return ""
        raise


def _backing_file(directory: str) -> str:
    # Only the newline goes: a path may end in a blank. Undecodable bytes stay visible as U+FFFD.
    raw = read_bytes(f"{directory}/loop/backing_file")
    return raw.decode("utf-8", "replace").removesuffix("\n")
