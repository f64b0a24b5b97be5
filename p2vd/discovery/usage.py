"""Why a disk cannot be a source now: who uses it, or what is wrong with its paths.

Each reason has a code for tools and a sentence with the remedy. What is seen here may change until
the disk is opened; the exclusive open and the open count decide then.
"""

from collections.abc import Iterable, Mapping, Sequence

from p2vd.discovery.dm import split_dm_name
from p2vd.discovery.identity import same_designator
from p2vd.discovery.mounts import Mounts
from p2vd.discovery.sysfs import BlockTree, Node
from p2vd.model.disk import PathState, Source, Transport
from p2vd.model.errors import Reason
from p2vd.model.lvm import Vg
from p2vd.model.size import format_size

_NAMED = 3

# `LVM-` and the UUIDs of VG and LV, 32 characters each.
_LV_UUID_LENGTH = 68


def usage_reasons(
    node: Node, tree: BlockTree, mounts: Mounts, volume_groups: Mapping[str, Vg]
) -> tuple[Reason, ...]:
    """Return who uses the disk `node`, its partitions, or what is stacked on them.

    `volume_groups` by the devices of their PVs.

    A PV of a volume group that this host neither uses nor owns is the physical machine's data and
    no reason.
    """
    stack = (node, *tree.above(node.name))
    # The volumes of a target's group are to be active: nobody shall be told to deactivate them.
    target = any(_owner(volume_groups[one.devnode]) for one in stack if one.devnode in volume_groups)
    return (
        *_mounted(node, stack, mounts),
        *_swap(node, stack, mounts),
        *(() if target else _active_lvs(node, stack)),
        *_md(node, stack),
        *_partition_maps(node, stack),
        *_other_holders(node, stack),
        *_loops(node, stack, tree),
        *_physical_volume(node, stack, volume_groups),
    )


def path_reasons(source: Source, node: Node) -> tuple[Reason, ...]:
    """Return what is wrong with the paths of a multipathed LUN."""
    reasons = []
    if node.suspended:
        reasons.append(
            Reason(
                "suspended",
                f"{node.devnode} is suspended in device-mapper: I/O to it hangs. "
                f"Resume it (dmsetup resume {node.dm_name}), then rescan.",
            )
        )
    sizes = {path.size_bytes for path in source.paths} | {source.size_bytes}
    if len(sizes) > 1:
        told = ", ".join(f"{path.device} {format_size(path.size_bytes)}" for path in source.paths)
        reasons.append(
            Reason(
                "paths-disagree",
                f"The paths of {source.name} ({format_size(source.size_bytes)}) differ in size: {told}. "
                "Rescan them (iscsiadm -m session -R) and reload the map (multipath -r), or correct the "
                "LUN mapping.",
            )
        )
    odd = [
        path for path in source.paths if same_designator(path.wwid, source.wwid) and path.wwid != source.wwid
    ]
    if odd:
        told = ", ".join(f"{path.device} is {path.wwid}" for path in odd)
        reasons.append(
            Reason(
                "paths-disagree",
                f"Not all paths of {source.name} lead to the LUN {source.wwid}: {told}. The LUN mapping "
                "of the array has changed: flush the map (multipath -f), rescan, and look at the mapping.",
            )
        )
    if not any(path.state is PathState.READY for path in source.paths):
        unknown = any(path.state is PathState.UNKNOWN for path in source.paths)
        cause = (
            "multipathd does not say that one is (systemctl status multipathd)."
            if unknown
            else "check portals, cables and the array (multipath -ll)."
        )
        reasons.append(
            Reason(
                "no-path-ready", f"None of the {len(source.paths)} paths of {source.name} is ready: {cause}"
            )
        )
    return tuple(reasons)


def path_warnings(source: Source, node: Node) -> tuple[Reason, ...]:
    """Return what is to be known of a LUN's paths, and does not forbid its use."""
    if node.is_map:
        strays = [path.device for path in source.paths if path.device not in node.slaves]
        if not strays:
            return ()
        text = (
            f"{', '.join(strays)} leads to {source.name} and is not in its map: no I/O goes by it. "
            f"Look at multipathd's log, then add it (multipathd add path {strays[0]})."
        )
        return (Reason("stray-path", text),)
    remote = source.transport in (Transport.ISCSI, Transport.FC)
    if not remote or len(source.paths) != 1:
        return ()
    text = (
        f"{node.devnode} is the only path of the LUN {source.wwid}, and no multipath map holds it: when that "
        "path fails I/O fails, and a path that comes later cannot join while a job runs. Make the map "
        f"(multipath -v2 {node.devnode}; find_multipaths in multipath.conf(5)), then rescan."
    )
    return (Reason("map-missing", text),)


def _mounted(node: Node, stack: Sequence[Node], mounts: Mounts) -> Iterable[Reason]:
    used = [(one, point) for one in stack for point in mounts.points.get(one.name, ())]
    if not used:
        return
    told = _list(f"{one.devnode} on {point}" for one, point in used)
    if any(point == "/" for _, point in used):
        remedy = "This host runs from it: boot the host from something else to copy it."
    else:
        remedy = f"Unmount it (umount {used[0][1]}), then rescan."
    yield Reason("mounted", f"{node.devnode} has a mounted filesystem: {told}. {remedy}")


def _swap(node: Node, stack: Sequence[Node], mounts: Mounts) -> Iterable[Reason]:
    used = [one.devnode for one in stack if one.name in mounts.swaps]
    if used:
        remedy = f"End that (swapoff {used[0]}), then rescan."
        yield Reason("swap", f"{node.devnode} holds swap space of this host: {_list(used)}. {remedy}")


def _active_lvs(node: Node, stack: Sequence[Node]) -> Iterable[Reason]:
    # Parts of other LVs (a pool's data and metadata) have a suffix behind both UUIDs.
    lvs = sorted((one for one in stack if one.is_lv), key=lambda one: len(one.dm_uuid) > _LV_UUID_LENGTH)
    used = ["/".join(split_dm_name(one.dm_name)) for one in lvs]
    if used:
        vgs = dict.fromkeys(name.partition("/")[0] for name in used)
        yield Reason(
            "active-lv",
            f"{node.devnode} carries active logical volumes: {_list(used)}. "
            f"Deactivate the volume group (vgchange -an {' '.join(vgs)}), then rescan.",
        )


def _md(node: Node, stack: Sequence[Node]) -> Iterable[Reason]:
    used = [one.devnode for one in stack if one.name.startswith("md") and one is not node and not one.disk]
    if used:
        yield Reason(
            "md-member",
            f"{node.devnode} is a member of the running array {_list(used)}. "
            f"Copy the array itself, or stop it (mdadm --stop {used[0]}), then rescan.",
        )


def _is_partition_map(one: Node) -> bool:
    return one.dm_uuid.startswith("part")


def _partition_maps(node: Node, stack: Sequence[Node]) -> Iterable[Reason]:
    used = [one.devnode for one in stack if _is_partition_map(one)]
    if used:
        yield Reason(
            "partition-maps",
            f"kpartx made partition maps on {node.devnode}: {_list(used)}. "
            f"Remove them (kpartx -d {node.devnode}), then rescan.",
        )


def _other_holders(node: Node, stack: Sequence[Node]) -> Iterable[Reason]:
    used = [
        one.devnode
        for one in stack
        if one is not node
        and not (one.disk or one.is_lv or one.name.startswith("md") or _is_partition_map(one) or one.is_map)
    ]
    if used:
        yield Reason("holder", f"{node.devnode} is held by {_list(used)}. Close that, then rescan.")


def _loops(node: Node, stack: Sequence[Node], tree: BlockTree) -> Iterable[Reason]:
    names = {name for one in stack for name in (one.devnode, f"/dev/{one.name}")}
    used = [one.devnode for one in tree.loops if one.backing_file in names]
    if used:
        yield Reason(
            "holder",
            f"{node.devnode} is attached to the loop device {_list(used)}. "
            f"Detach it (losetup -d {used[0]}), then rescan.",
        )


def _physical_volume(node: Node, stack: Sequence[Node], volume_groups: Mapping[str, Vg]) -> Iterable[Reason]:
    found = [volume_groups[one.devnode] for one in stack if one.devnode in volume_groups]
    for vg in {vg.uuid: vg for vg in found}.values():
        told = f"{node.devnode} is a physical volume of the volume group {vg.name}"
        owner = _owner(vg)
        if owner:
            text = f"{told}, which {owner}: it is no physical machine's disk. Choose another source."
            yield Reason("physical-volume", text)
        elif any(lv.active for lv in vg.lvs) and not any(one.is_lv for one in stack):
            remedy = f"Deactivate it (vgchange -an {vg.name}), then rescan."
            yield Reason("physical-volume", f"{told}, which is active on this host. {remedy}")


def _owner(vg: Vg) -> str:
    """Say what makes a VG a target's and no guest's; "" where nothing does."""
    if any(tag.startswith("p2vd.") for lv in vg.lvs for tag in lv.tags):
        return "holds p2vd's targets"
    if vg.lock_type not in ("", "none"):
        return f"hosts share by {vg.lock_type}"
    return ""


def _list(names: Iterable[str]) -> str:
    told = list(names)
    more = f" and {len(told) - _NAMED} more" if len(told) > _NAMED else ""
    return ", ".join(told[:_NAMED]) + more
