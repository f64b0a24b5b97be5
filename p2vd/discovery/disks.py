"""Sources from the kernel's block devices: one per WWID, before anybody asks who uses them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from p2vd.discovery.identity import scsi_wwid, vpd_serial
from p2vd.discovery.iscsi import Endpoint, session_of
from p2vd.discovery.multipath import PathReport
from p2vd.discovery.sysfs import BlockTree, Node
from p2vd.model.disk import PathState, ScsiPath, Source, Transport, clean_inquiry
from p2vd.model.errors import Reason

_SCSI = re.compile(r"sd[a-z]+")
_VIRTIO = re.compile(r"vd[a-z]+")
_NVME = re.compile(r"nvme\d+n\d+")
_LOOP = re.compile(r"loop\d+")
_HCTL = re.compile(r"/(\d+:\d+:\d+:\d+)/block/")
_DELETED = " (deleted)"

_NO_IDENTITY = (
    "{devnode} has no identity (no WWID, no serial number): p2vd could not tell it from another disk "
    "after a restart. {remedy}"
)


@dataclass(frozen=True)
class PathFacts:
    """What is known of paths beside sysfs' block devices.

    `states`: by device name, from multipathd; None where it gave no answer. `endpoints`: by
    iSCSI session.
    """

    states: Mapping[str, PathReport] | None
    endpoints: Mapping[str, Endpoint]


@dataclass(frozen=True)
class Disks:
    """Disks that could be sources, sorted by id; and those that are one path of a map, with its id."""

    sources: Sequence[Source] = ()
    paths: Mapping[str, str] = field(default_factory=dict)


def read_disks(tree: BlockTree, facts: PathFacts) -> Disks:
    """Return all disks, each id once.

    A disk that cannot be a source by what it is (no identity, no map) has the reason.
    """
    maps = {node.name: _map_source(node, tree, facts) for node in tree.maps()}
    by_wwid = {source.wwid: source for source in maps.values()}
    sources = [*maps.values()]
    loose: dict[str, list[Source]] = {}
    paths: dict[str, str] = {}
    strays: dict[str, list[ScsiPath]] = {}
    for node in tree.nodes.values():
        if node.disk:
            continue
        if _SCSI.fullmatch(node.name):
            if (held := tree.map_of(node.name)) is not None:
                paths[node.name] = maps[held.name].id
                continue
            source = _scsi_source(node, tree, facts)
            if (owner := by_wwid.get(source.wwid)) is not None:
                # multipathd refuses a path of another size: then only here it is seen to be one.
                paths[node.name] = owner.id
                strays.setdefault(owner.device, []).append(_stray(node, tree, facts))
            elif source.wwid:
                loose.setdefault(source.wwid, []).append(source)
            else:
                sources.append(source)
        elif _VIRTIO.fullmatch(node.name):
            sources.append(_virtio_source(node, tree))
        elif _NVME.fullmatch(node.name):
            sources.append(_nvme_source(node, tree))
        elif _LOOP.fullmatch(node.name) and node.backing_file and not node.backing_file.startswith("/dev/"):
            sources.append(_loop_source(node))
    sources += [_one_of(together) for together in loose.values()]
    sources = [replace(one, paths=(*one.paths, *strays.get(one.device, ()))) for one in sources]
    sources = [_with_medium(source) for source in sources]
    return Disks(sorted(_distinct(sources), key=lambda source: source.id), paths)


def _map_source(node: Node, tree: BlockTree, facts: PathFacts) -> Source:
    wwid = clean_inquiry(node.dm_uuid.removeprefix("mpath-"))
    slaves = [tree.nodes[name] for name in node.slaves if name in tree.nodes]
    first = _scsi_source(slaves[0], tree, facts) if slaves else None
    return Source(
        id=wwid,
        wwid=wwid,
        device=node.name,
        name=node.dm_name,
        dm_uuid=node.dm_uuid,
        size_bytes=node.size_bytes,
        sector_size=node.sector_size,
        transport=first.transport if first else Transport.LOCAL,
        vendor=first.vendor if first else "",
        model=first.model if first else "",
        serial=first.serial if first else "",
        paths=tuple(_path(slave, tree, facts, in_map=True) for slave in slaves),
    )


def _path(node: Node, tree: BlockTree, facts: PathFacts, *, in_map: bool) -> ScsiPath:
    endpoint = facts.endpoints.get(session_of(node.devpath), Endpoint("", None))
    hctl = _HCTL.search(node.devpath)
    report = _report(node, tree, facts, in_map=in_map)
    return ScsiPath(
        device=node.name,
        hctl=hctl.group(1) if hctl else "",
        wwid=_wwid(node, tree),
        state=report.state,
        size_bytes=node.size_bytes,
        portal=endpoint.portal,
        target_iqn=endpoint.target_iqn,
        priority=report.priority,
        group=report.group,
    )


def _stray(node: Node, tree: BlockTree, facts: PathFacts) -> ScsiPath:
    """Return a path that leads to a map's LUN and is not in the map: no I/O goes by it."""
    return replace(_path(node, tree, facts, in_map=False), state=PathState.UNKNOWN)


def _report(node: Node, tree: BlockTree, facts: PathFacts, *, in_map: bool) -> PathReport:
    if in_map:
        return (facts.states or {}).get(node.name, PathReport(PathState.UNKNOWN))
    running = tree.attribute(node.name, "device/state").strip() == b"running"
    return PathReport(PathState.READY if running else PathState.FAULTY)


def _wwid(node: Node, tree: BlockTree) -> str:
    if _NVME.fullmatch(node.name):
        return clean_inquiry(tree.attribute(node.name, "wwid"))
    # Not cleaned here: the blanks of a t10 identifier count; scsi_wwid cleans.
    return scsi_wwid(tree.attribute(node.name, "device/wwid").decode("utf-8", "replace"))


def _scsi_source(node: Node, tree: BlockTree, facts: PathFacts) -> Source:
    if _NVME.fullmatch(node.name):
        return _nvme_source(node, tree)
    wwid = _wwid(node, tree)
    if session_of(node.devpath):
        transport = Transport.ISCSI
    else:
        transport = Transport.FC if "/rport-" in node.devpath else Transport.LOCAL
    source = _plain(node, wwid or f"no-identity-{node.name}", wwid, transport)
    if not wwid:
        source = _without_identity(source, "Its unit or firmware has to report one (VPD page 0x83).")
    remote = transport is not Transport.LOCAL
    return replace(
        source,
        vendor=clean_inquiry(tree.attribute(node.name, "device/vendor")),
        model=clean_inquiry(tree.attribute(node.name, "device/model")),
        serial=vpd_serial(tree.attribute(node.name, "device/vpd_pg80")),
        paths=(_path(node, tree, facts, in_map=False),) if remote or wwid else (),
    )


def _virtio_source(node: Node, tree: BlockTree) -> Source:
    serial = clean_inquiry(tree.attribute(node.name, "serial"))
    source = _plain(node, f"virtio-{serial}" if serial else f"no-identity-{node.name}", "", Transport.VIRTIO)
    if not serial:
        return _without_identity(source, "Give the virtual disk a serial number in its definition.")
    return replace(source, serial=serial)


def _nvme_source(node: Node, tree: BlockTree) -> Source:
    wwid = clean_inquiry(tree.attribute(node.name, "wwid"))
    source = _plain(node, wwid or f"no-identity-{node.name}", wwid, Transport.NVME)
    if not wwid:
        source = _without_identity(source, "Its controller has to report one (nvme id-ns).")
    return replace(
        source,
        model=clean_inquiry(tree.attribute(node.name, "device/model")),
        serial=clean_inquiry(tree.attribute(node.name, "device/serial")),
    )


def _loop_source(node: Node) -> Source:
    source = _plain(node, node.backing_file, "", Transport.LOOP)
    if node.backing_file.endswith(_DELETED):
        reason = Reason(
            "image-deleted",
            f"The image behind {node.devnode} was deleted ({node.backing_file.removesuffix(_DELETED)}): "
            "it could not be found again after a restart. Attach a file that exists (losetup -d, losetup).",
        )
        return replace(source, reasons=(reason,))
    if node.backing_partial:
        reason = Reason(
            "partial-image",
            f"{node.devnode} shows only a part of {node.backing_file}. "
            "Attach the whole file (losetup without --offset and --sizelimit).",
        )
        return replace(source, reasons=(reason,))
    return source


def _plain(node: Node, identity: str, wwid: str, transport: Transport) -> Source:
    return Source(
        id=identity,
        wwid=wwid,
        device=node.name,
        name=node.name,
        dm_uuid="",
        size_bytes=node.size_bytes,
        sector_size=node.sector_size,
        transport=transport,
    )


def _without_identity(source: Source, remedy: str) -> Source:
    text = _NO_IDENTITY.format(devnode=source.devnode, remedy=remedy)
    return replace(source, reasons=(Reason("no-identity", text),))


def _one_of(paths: list[Source]) -> Source:
    """Return the one disk that several `sdX` with one WWID are."""
    first = paths[0]
    if len(paths) == 1:
        return first
    names = ", ".join(path.device for path in paths)
    reason = Reason(
        "no-map",
        f"{names} are paths of one LUN, {first.wwid}, and no multipath map holds them. "
        f"Make the map (systemctl start multipathd; multipath -v2 {first.devnode}), then rescan.",
    )
    together = tuple(one for path in paths for one in path.paths)
    return replace(first, paths=together, reasons=(*first.reasons, reason))


def _with_medium(source: Source) -> Source:
    if source.size_bytes:
        return source
    reason = Reason("no-medium", f"{source.devnode} has no size: no medium, or the unit is not ready.")
    return replace(source, reasons=(*source.reasons, reason))


def _distinct(sources: list[Source]) -> Iterator[Source]:
    """Yield the sources with each id once: disks that claim the same one are all refused."""
    claimed: dict[str, list[str]] = {}
    for source in sources:
        claimed.setdefault(source.id, []).append(source.device)
    for source in sources:
        devices = claimed[source.id]
        if len(devices) == 1:
            yield source
            continue
        reason = Reason(
            "duplicate-identity",
            f"{', '.join(devices)} all claim to be {source.id}: p2vd cannot tell them apart. "
            "Detach all but one, or give each its own serial number.",
        )
        yield replace(source, id=f"{source.id}@{source.device}", reasons=(*source.reasons, reason))
