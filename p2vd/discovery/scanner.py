"""One look at the host: block devices, multipath, LVM and what could interfere, as an Inventory."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from p2vd.discovery.disks import Disks, PathFacts, read_disks
from p2vd.discovery.doctor import read_host_facts
from p2vd.discovery.exposure import read_exposures, read_system_id
from p2vd.discovery.fc import Fabric, read_hbas
from p2vd.discovery.hardware import read_hardware
from p2vd.discovery.images import ImageFile
from p2vd.discovery.iscsi import read_sessions
from p2vd.discovery.lvm import LvmDevice, ReportFailed, read_volume_groups, with_autoextend
from p2vd.discovery.lvm_filter import HostFilter, read_filter, with_rejected
from p2vd.discovery.mounts import read_mounts
from p2vd.discovery.multipath import MultipathdUnclear, PathReport, read_paths
from p2vd.discovery.part import groups_on, merged, part_of, strangers
from p2vd.discovery.sysfs import BlockTree, Node, read_block_tree, reread
from p2vd.discovery.usage import path_reasons, path_warnings, usage_reasons
from p2vd.discovery.virtual import OtherFacts, read_images, read_others, shown_images
from p2vd.model.disk import PathState, Source
from p2vd.model.doctor import HostFacts
from p2vd.model.errors import NotFound, P2vdError, Reason
from p2vd.model.fc import Hba
from p2vd.model.inventory import Inventory
from p2vd.model.lvm import Vg
from p2vd.system.command import CommandFailed, Commands

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class _Seen:
    """What the last whole look saw. `certain`: a look at a part may build on it. `aside` as of `_Told`."""

    tree: BlockTree
    inventory: Inventory
    aside: Mapping[str, str]
    certain: bool


@dataclass
class _Told:
    """What went wrong with a look.

    `unread`: without this it is no whole picture. `complaint`: LVM's. `aside`: what concerns nothing but
    one device or image directory, by its name.
    """

    unread: list[str] = field(default_factory=list)
    complaint: str = ""
    aside: dict[str, str] = field(default_factory=dict)

    @property
    def problems(self) -> tuple[str, ...]:
        """All of it, each once."""
        complaint = (self.complaint,) if self.complaint else ()
        return tuple(dict.fromkeys((*self.unread, *complaint, *self.aside.values())))


class Discovery:
    """Reads the host. Changes nothing: any thread may ask.

    A scan runs four commands, however many disks there are; one more for loop devices, for volume groups, for
    thin pools, where LVM warns, and for each md array; two for each image directory. It is kept, so that a
    change costs no more than what it concerns.
    """

    def __init__(
        self,
        commands: Commands,
        sysfs: Path = Path("/sys"),
        proc: Path = Path("/proc"),
        root: Path = Path("/"),
        image_directories: Sequence[Path] = (),
    ) -> None:
        self._commands = commands
        self._sysfs = sysfs
        self._proc = proc
        self._root = root
        self._image_directories = tuple(image_directories)
        self._seen: _Seen | None = None
        self._filter: HostFilter | None = None

    def scan(self) -> Inventory:
        """Return what is there now.

        A part that cannot be read becomes a problem, and is listed as `unread`; where that leaves
        open whether a disk is in use, the disk has the reason `unknown-use`. Raises OutputUnclear
        where sysfs or the mounts cannot be understood, OSError where they are missing altogether.
        """
        told = _Told()
        tree = read_block_tree(self._sysfs, self._seen.tree if self._seen else None)
        hbas = read_hbas(self._sysfs)
        directories = self._image_directories
        images = _try(told.unread, lambda: read_images(self._commands, directories, told.aside)) or ()
        seen = self._look(tree, told, hbas, images)
        inventory = replace(
            seen,
            system_id=_try(told.unread, lambda: read_system_id(self._commands)) or "",
            exposures=self._exposures(told.unread),
            hbas=hbas,
            hardware=read_hardware(self._sysfs, self._proc),
        )
        return self._keep(tree, inventory, told)

    def refresh(self, names: Collection[str]) -> Inventory:
        """Return what is there now, after changes of the devices `names` (`sda`, `dm-3`) and no others.

        Names of Fibre Channel ports among them are passed over: ports are looked at in any case. Only what
        depends on these devices is read and asked for. Where that does not tell enough, the host is scanned;
        so it is when a Fibre Channel port has changed, which concerns all LUNs behind it. What does not
        come from devices (exposures, the system ID, the hardware, the image directories) is that of the last
        scan. Raises as `scan` does.
        """
        seen = self._seen
        if seen is None or not seen.certain or read_hbas(self._sysfs) != seen.inventory.hbas:
            return self.scan()
        tree = reread(seen.tree, names)
        part = part_of(names, seen.tree, tree, seen.inventory)
        while True:
            told = _Told()
            found = self._look(tree.only(part), told, seen.inventory.hbas, whole=False)
            if told.unread or told.complaint or _lacks_more(found.volume_groups, seen.inventory):
                return self.scan()
            more = strangers(part, tree, found, seen.inventory)
            if not more:
                break
            part = part_of(part | more, seen.tree, tree, seen.inventory)
        if self._image_directories and shown_images(seen.tree.only(part)) != shown_images(tree.only(part)):
            # An image that a loop device shows is no source beside it: a scan tells which are there.
            return self.scan()
        before = groups_on(part, (seen.tree, tree), seen.inventory)
        if any(pv.duplicate for vg in before for pv in vg.pvs):
            # Of a PV that is there twice only one device was told: the other may be beyond the part.
            return self.scan()
        told.aside.update((what, text) for what, text in seen.aside.items() if what not in part)
        return self._keep(tree, merged(seen.inventory, part, before, found), told)

    def _keep(self, tree: BlockTree, inventory: Inventory, told: _Told) -> Inventory:
        """Remember a look, and return it; what is as it was before is the same object as before.

        Else every look would leave holes of the size of all that it saw in the daemon's memory. One that
        is no whole picture is not remembered; then the next look is a scan.
        """
        seen = self._seen
        inventory = replace(inventory, problems=told.problems, unread=tuple(told.unread))
        if told.unread:
            self._seen = replace(seen, certain=False) if seen else None
            return inventory
        if seen is not None:
            sources = (
                _same_source(seen.inventory.by_id.get(source.id), source) for source in inventory.sources
            )
            paths = _same(seen.inventory.paths, inventory.paths)
            inventory = _same(seen.inventory, replace(inventory, sources=tuple(sources), paths=paths))
        self._seen = _Seen(tree, inventory, told.aside, certain=not told.complaint)
        return inventory

    def _look(
        self,
        tree: BlockTree,
        told: _Told,
        hbas: Sequence[Hba],
        images: Sequence[ImageFile] = (),
        *,
        whole: bool = True,
    ) -> Inventory:
        """Return sources, paths and volume groups of `tree`: the whole host's, or a part's."""
        states = _try(told.unread, lambda: self._states(tree, whole=whole))
        paths = PathFacts(states, read_sessions(self._sysfs), Fabric(hbas))
        others = _try(told.unread, lambda: read_others(self._commands, tree, told.aside)) or OtherFacts()
        disks = read_disks(tree, paths, replace(others, images=images))
        devices = lvm_devices(tree, states, disks)
        report = _try(told.unread, lambda: read_volume_groups(self._commands, devices))
        told.complaint = f"LVM complains: {report.complaint}" if report and report.complaint else ""
        reported = report.volume_groups if report else ()
        volume_groups = _try(told.unread, lambda: with_autoextend(self._commands, reported)) or reported
        volume_groups = self._filtered(volume_groups, tree, told, whole=whole)
        by_device = {pv.device: vg for vg in volume_groups for pv in vg.pvs}
        mounts = read_mounts(tree, self._proc)
        sources = []
        for source in disks.sources:
            if not source.device:  # an image: nothing of the kernel's
                sources.append(source)
                continue
            node = tree.nodes[source.device]
            many = node.is_map or len(source.paths) > 1
            reasons = (*source.reasons, *(path_reasons(source, node) if many else ()))
            reasons += usage_reasons(node, tree, mounts, by_device)
            reasons += () if report else (_unknown_use(source),)
            sources.append(replace(source, reasons=reasons, warnings=path_warnings(source, node)))
        return Inventory(tuple(sources), volume_groups, paths=disks.paths)

    def _filtered(
        self, volume_groups: tuple[Vg, ...], tree: BlockTree, told: _Told, *, whole: bool
    ) -> tuple[Vg, ...]:
        """Return the volume groups with what the host's filter rejects, which a whole look reads."""
        if volume_groups and (whole or self._filter is None):
            self._filter = _try(told.unread, lambda: read_filter(self._commands, self._root))
        return with_rejected(volume_groups, self._filter or HostFilter(), tree, self._root)

    def volume_group(self, uuid: str) -> Vg:
        """Return the volume group of that UUID, read now.

        Raises NotFound where no device shows it (which never means that it was removed),
        ReportFailed where LVM complains, CommandTimedOut.
        """
        # First where it was seen last; not there, or not whole: on all devices.
        if (vg := self._group_where_seen(uuid)) is not None:
            return vg
        tree = read_block_tree(self._sysfs)
        states = _try([], lambda: self._states(tree))
        devices = lvm_devices(tree, states, read_disks(tree, PathFacts(states, {})))
        # Once more with the VG's lock: a reader without it can meet a commit half-way.
        for locking in (False, True):
            report = read_volume_groups(self._commands, devices, vg_uuid=uuid, locking=locking)
            if report.complaint:
                raise ReportFailed(report.complaint)
            for vg in report.volume_groups:
                if vg.uuid == uuid:
                    return vg
        raise NotFound("volume group", uuid)

    def host_facts(self) -> HostFacts:
        """Return what of this host's settings the doctor judges, read now."""
        return read_host_facts(self._commands, self._sysfs, self._root)

    def _group_where_seen(self, uuid: str) -> Vg | None:
        """Return the group as its devices of the last look show it now; None where that is not certain."""
        seen = self._seen
        known = next((vg for vg in seen.inventory.volume_groups if vg.uuid == uuid), None) if seen else None
        if seen is None or known is None or any(pv.duplicate for pv in known.pvs):
            return None
        pvs = {pv.device for pv in known.pvs}
        names = [node.disk or node.name for node in seen.tree.nodes.values() if node.devnode in pvs]
        tree = reread(seen.tree, names)
        tree = tree.only(part_of(names, seen.tree, tree, seen.inventory))
        states = _try([], lambda: self._states(tree, whole=False))
        devices = lvm_devices(tree, states, read_disks(tree, PathFacts(states, {})))
        report = read_volume_groups(self._commands, devices, vg_uuid=uuid)
        found = next((vg for vg in report.volume_groups if vg.uuid == uuid), None)
        return None if found is None or report.complaint or found.missing_pv_count else found

    def _states(self, tree: BlockTree, *, whole: bool = True) -> dict[str, PathReport]:
        """Return the states of the maps' paths. Raises as read_paths does."""
        maps = [node.dm_name for node in tree.maps()]
        if not maps:
            return {}
        try:
            return read_paths(self._commands, () if whole else maps)
        except (CommandFailed, MultipathdUnclear):
            if whole:
                raise
            # It may not know a map yet that the kernel has: of all maps it tells what it knows.
            return read_paths(self._commands)

    def _exposures(self, problems: list[str]) -> tuple[Reason, ...]:
        exposures = _try(problems, lambda: read_exposures(self._commands, self._root))
        if exposures is not None:
            return exposures
        return (Reason("unknown-exposure", f"It is not known what this host does to disks: {problems[-1]}"),)


def lvm_devices(tree: BlockTree, states: dict[str, PathReport] | None, disks: Disks) -> dict[str, LvmDevice]:
    """Return the devices that LVM may look at, by MAJ:MIN.

    Multipath maps, disks that are no path, their partitions, md arrays, loop devices. Not logical
    volumes and partition maps, where a guest's PVs are; and no map that would hang LVM: suspended,
    or without a path that could answer. Not the paths of a LUN that lacks its map, nor the members of a
    running array, either: LVM could take one of them.
    """
    paths = {path.device for disk in disks.sources if _shows_paths(disk) for path in disk.paths}
    paths |= disks.paths.keys()
    ids = {disk.device: disk.id for disk in disks.sources}
    devices = {}
    for node in tree.nodes.values():
        disk = tree.nodes.get(node.disk, node)
        in_array = any(tree.nodes[name].is_array for name in node.holders if name in tree.nodes)
        if node.size_bytes and disk.name not in paths and not in_array and _for_lvm(disk, states):
            devices[node.number] = LvmDevice(node.devnode, node.sector_size, ids.get(disk.name, ""))
    return devices


def _shows_paths(source: Source) -> bool:
    return source.dm_uuid != "" or any(reason.code == "no-map" for reason in source.reasons)


def _for_lvm(disk: Node, states: dict[str, PathReport] | None) -> bool:
    if disk.is_map:
        answers = states is None or any(_may_answer(states, path) for path in disk.slaves)
        return answers and not disk.suspended
    if disk.dm_uuid or disk.dm_name:
        return False
    return bool(disk.backing_file) if disk.name.startswith("loop") else True


def _same(before: T | None, now: T) -> T:
    return before if before is not None and before == now else now


def _same_source(before: Source | None, now: Source) -> Source:
    if before is None or before == now:
        return before or now
    known = {path.device: path for path in before.paths}
    return replace(now, paths=tuple(_same(known.get(path.device), path) for path in now.paths))


def _lacks_more(volume_groups: Sequence[Vg], before: Inventory) -> bool:
    """Whether a volume group lacks PVs that it did not lack: they may be elsewhere."""
    missing = {vg.uuid: vg.missing_pv_count for vg in before.volume_groups}
    return any(vg.missing_pv_count > missing.get(vg.uuid, 0) for vg in volume_groups)


def _may_answer(states: dict[str, PathReport], path: str) -> bool:
    return path not in states or states[path].state is not PathState.FAULTY


def _try(problems: list[str], read: Callable[[], T]) -> T | None:
    try:
        return read()
    except P2vdError as error:
        log.warning("discovery: %s", error)
        problems.append(str(error))
        return None


def _unknown_use(source: Source) -> Reason:
    return Reason(
        "unknown-use",
        f"LVM gave no report, so it is not known whether {source.devnode} is a physical volume in use. "
        "Look at pvs, then rescan.",
    )
