"""Sources from the kernel's block devices: one per WWID, before anybody asks who uses them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from p2vd.discovery.fc import Fabric
from p2vd.discovery.identity import scsi_wwid, vpd_serial
from p2vd.discovery.iscsi import Endpoint, session_of
from p2vd.discovery.multipath import PathReport
from p2vd.discovery.sysfs import BlockTree, Node
from p2vd.discovery.virtual import OtherFacts, other_sources, plain_source, without_identity
from p2vd.model.disk import PathState, ScsiPath, Source, Transport
from p2vd.model.errors import Reason
from p2vd.model.inquiry import clean_inquiry

_SCSI = re.compile(r"sd[a-z]+")
_NVME = re.compile(r"nvme\d+n\d+")
_HCTL = re.compile(r"/(\d+:\d+:\d+:\d+)/block/")


@dataclass(frozen=True)
class PathFacts:
    """What is known of paths beside sysfs' block devices.

    `states`: by device name, from multipathd; None where it gave no answer. `endpoints`: by
    iSCSI session. `fabric`: Fibre Channel.
    """

    states: Mapping[str, PathReport] | None
    endpoints: Mapping[str, Endpoint]
    fabric: Fabric = field(default_factory=Fabric)


@dataclass(frozen=True)
class Disks:
    """Disks that could be sources, sorted by id; and those that are one path of a map, with its id."""

    sources: Sequence[Source] = ()
    paths: Mapping[str, str] = field(default_factory=dict)


def read_disks(tree: BlockTree, facts: PathFacts, others: OtherFacts | None = None) -> Disks:
    """Return all disks, each id once; `others`: what is known of those that are no LUN.

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
        elif _NVME.fullmatch(node.name):
            sources.append(_nvme_source(node, tree))
    sources += [_one_of(together) for together in loose.values()]
    sources = [replace(one, paths=(*one.paths, *strays.get(one.device, ()))) for one in sources]
    sources += other_sources(tree, others or OtherFacts())
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
    hctl = _hctl(node)
    hba, port = facts.fabric.ends(hctl)
    report = _report(node, tree, facts, in_map=in_map)
    return ScsiPath(
        device=node.name,
        hctl=hctl,
        wwid=_wwid(node, tree),
        state=report.state,
        size_bytes=node.size_bytes,
        portal=endpoint.portal,
        target_iqn=endpoint.target_iqn,
        hba_wwpn=hba.wwpn if hba else "",
        target_wwpn=port.wwpn if port else "",
        target_wwnn=port.wwnn if port else "",
        port_state=port.state if port else "",
        priority=report.priority,
        group=report.group,
    )


def _hctl(node: Node) -> str:
    found = _HCTL.search(node.devpath)
    return found.group(1) if found else ""


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
        over_fc = "/rport-" in node.devpath or facts.fabric.ends(_hctl(node))[0] is not None
        transport = Transport.FC if over_fc else Transport.LOCAL
    source = plain_source(node, wwid or f"no-identity-{node.name}", wwid, transport)
    if not wwid:
        source = without_identity(source, "Its unit or firmware has to report one (VPD page 0x83).")
    remote = transport is not Transport.LOCAL
    return replace(
        source,
        vendor=clean_inquiry(tree.attribute(node.name, "device/vendor")),
        model=clean_inquiry(tree.attribute(node.name, "device/model")),
        serial=vpd_serial(tree.attribute(node.name, "device/vpd_pg80")),
        paths=(_path(node, tree, facts, in_map=False),) if remote or wwid else (),
    )


def _nvme_source(node: Node, tree: BlockTree) -> Source:
    wwid = clean_inquiry(tree.attribute(node.name, "wwid"))
    source = plain_source(node, wwid or f"no-identity-{node.name}", wwid, Transport.NVME)
    if not wwid:
        source = without_identity(source, "Its controller has to report one (nvme id-ns).")
    return replace(
        source,
        model=clean_inquiry(tree.attribute(node.name, "device/model")),
        serial=clean_inquiry(tree.attribute(node.name, "device/serial")),
    )


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
