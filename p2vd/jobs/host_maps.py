"""Which multipath maps are the host's own, where every other one is kept in quarantine (design: §4.11)."""

from p2vd.model.inventory import Inventory
from p2vd.policy.model import PolicySet

IN_USE = frozenset(
    {"mounted", "swap", "active-lv", "md-member", "physical-volume", "partition-maps", "holder"}
)
"""Codes of the reasons that say that the host itself uses a disk."""


def target_maps(inventory: Inventory, policies: PolicySet) -> frozenset[str]:
    """Return the DM UUIDs of the maps under the volume groups that policies name as targets."""
    wanted = {word for rule in policies.rules for word in rule.target.volume_groups}
    devices = {
        pv.device
        for vg in inventory.volume_groups
        if any(vg.is_called(word) for word in wanted)
        for pv in vg.pvs
    }
    return frozenset(
        source.dm_uuid
        for source in inventory.sources
        if source.dm_uuid and devices & {source.devnode, f"/dev/mapper/{source.name}"}
    )


def maps_in_use(inventory: Inventory) -> frozenset[str]:
    """Return the DM UUIDs of the maps that the host uses at this moment."""
    return frozenset(
        source.dm_uuid
        for source in inventory.sources
        if source.dm_uuid and any(reason.code in IN_USE for reason in source.reasons)
    )
