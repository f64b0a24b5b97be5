"""Which part of the host a change concerns, so that nothing else is looked at again.

A part is a set of devices closed under all that one disk's record depends on: what is stacked on what,
partitions, loop devices, arrays, the paths of one LUN, the PVs of one volume group. A look at a part alone
therefore tells of its disks and volume groups what a look at the whole host would tell.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

from p2vd.discovery.sysfs import BlockTree, Node
from p2vd.model.disk import Source
from p2vd.model.inventory import Inventory
from p2vd.model.lvm import Vg

# Disks with this reason depend on each other, whatever their ids are.
_CLAIMANTS = "duplicate-identity"


def part_of(
    names: Collection[str], before: BlockTree, now: BlockTree, inventory: Inventory
) -> frozenset[str]:
    """Return the devices that depend on the devices `names`, as they were `before` and are `now`.

    `inventory` is what was seen before. A disk that has just come may be kin to others by what is
    found on it: see `strangers`.
    """
    found: set[str] = set()
    waiting = set(names)
    while waiting:
        _climb(waiting, found, before, now)
        waiting = _kin(found, before, now, inventory) - found
    return frozenset(found)


def strangers(
    part: Collection[str], now: BlockTree, found: Inventory, inventory: Inventory
) -> frozenset[str]:
    """Return devices beyond `part` that were seen as what has now been found in it.

    The same LUN by another path, another disk of the same identity, the same volume group on other PVs.
    """
    ids = {source.id for source in found.sources} | {source.wwid for source in found.sources if source.wwid}
    kin = {
        name
        for source in inventory.sources
        if source.id in ids or source.wwid in ids
        for name in _devices(source)
    }
    groups = {vg.uuid for vg in found.volume_groups}
    pvs = {pv.device for vg in inventory.volume_groups if vg.uuid in groups for pv in vg.pvs}
    return frozenset((kin | _names(pvs, part, now)) - set(part))


def groups_on(names: Collection[str], trees: Iterable[BlockTree], inventory: Inventory) -> tuple[Vg, ...]:
    """Return the volume groups with a PV on one of the devices, as any of the trees names them."""
    shown = {tree.nodes[name].devnode for tree in trees for name in names if name in tree.nodes}
    return tuple(vg for vg in inventory.volume_groups if any(pv.device in shown for pv in vg.pvs))


def merged(
    inventory: Inventory, part: Collection[str], before: Collection[Vg], found: Inventory
) -> Inventory:
    """Return `inventory` with what was `found` in `part` in place of what was seen there `before`."""
    kept = [source for source in inventory.sources if source.device not in part]
    seen = [source for source in found.sources if source.device in part]
    return replace(
        inventory,
        sources=tuple(sorted((*kept, *seen), key=lambda source: source.id)),
        volume_groups=(*(vg for vg in inventory.volume_groups if vg not in before), *found.volume_groups),
        paths={**{name: lun for name, lun in inventory.paths.items() if name not in part}, **found.paths},
    )


def _climb(waiting: set[str], found: set[str], *trees: BlockTree) -> None:
    """Move from `waiting` to `found`, with all that is stacked together."""
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            for tree in trees:
                if (node := tree.nodes.get(name)) is not None:
                    waiting.update(_neighbours(node, tree))


def _neighbours(node: Node, tree: BlockTree) -> Iterator[str]:
    yield from (*node.holders, *node.slaves, *node.partitions)
    if node.disk:
        yield node.disk
    for loop in tree.loops:
        if loop.backing_file in (node.devnode, f"/dev/{node.name}"):
            yield loop.name
    if node.backing_file.startswith("/dev/"):
        yield from (other.name for other in tree.nodes.values() if other.devnode == node.backing_file)


def _kin(found: set[str], before: BlockTree, now: BlockTree, inventory: Inventory) -> set[str]:
    """Return the devices of the same LUNs and of the same volume groups."""
    luns = {lun for name in found if (lun := inventory.paths.get(name))}
    known = [source for source in inventory.sources if source.id in luns or _is_in(source, found)]
    luns |= {source.id for source in known}
    kin = {name for source in known for name in _devices(source)}
    # Also paths that no map holds.
    kin |= {name for name, lun in inventory.paths.items() if lun in luns}
    if any(_is_claimant(source) for source in known):
        kin |= {source.device for source in inventory.sources if _is_claimant(source) and source.device}
    pvs = {pv.device for vg in groups_on(found, (before, now), inventory) for pv in vg.pvs}
    return kin | _names(pvs, found, now)


def _names(devnodes: Collection[str], known: Collection[str], tree: BlockTree) -> set[str]:
    """Return the names of the devices `devnodes`; where all of them are `known`, none."""
    left = set(devnodes) - {tree.nodes[name].devnode for name in known if name in tree.nodes}
    return {node.name for node in tree.nodes.values() if node.devnode in left} if left else set()


def _is_in(source: Source, found: Collection[str]) -> bool:
    return source.device in found or any(name in found for name in _loose_paths(source))


def _loose_paths(source: Source) -> Iterable[str]:
    """The paths of a LUN without a map: nothing but the LUN's record ties them together."""
    return () if source.dm_uuid else (path.device for path in source.paths)


def _devices(source: Source) -> tuple[str, ...]:
    if not source.device:  # an image
        return ()
    return (source.device, *(path.device for path in source.paths))


def _is_claimant(source: Source) -> bool:
    return any(reason.code == _CLAIMANTS for reason in source.reasons)
