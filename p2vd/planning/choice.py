"""Where a disk goes by its rule: a volume, a LUN or a file, or every reason why nowhere. Pure."""

from typing import TypeAlias

from p2vd.model.disk import Source
from p2vd.model.errors import Reason
from p2vd.model.forms import TargetKind
from p2vd.model.inventory import Inventory
from p2vd.model.plan import DiskPlan, FileTarget, LunTarget, LvTarget, Target
from p2vd.planning.files import FileChoice, choose_file, reserve_file, with_file
from p2vd.planning.luns import LunChoice, choose_lun, reserve_lun, with_lun_taken
from p2vd.planning.place import Place
from p2vd.planning.targets import LvChoice, choose_lv, reserve_lv
from p2vd.policy.model import Rule

Choice: TypeAlias = LvChoice | LunChoice | FileChoice
"""A place for a disk. Each has `size_bytes`, `worst_case_bytes`, `logical_block_size`, `target`."""


def choose(
    rule: Rule, source: Source, place: Place, inventory: Inventory, only: Target | None = None
) -> Choice | tuple[Reason, ...]:
    """Return the first place of the rule that takes the disk, else what is wrong with each of them.

    `only`: where it goes already; no other volume group or LUN is asked.
    """
    match rule.target.kind:
        case TargetKind.LV:
            vg_uuid = only.vg_uuid if isinstance(only, LvTarget) else ""
            return choose_lv(rule, source, place, inventory, vg_uuid)
        case TargetKind.LUN:
            return choose_lun(rule, source, inventory, only.id if isinstance(only, LunTarget) else "")
        case TargetKind.FILE:
            return choose_file(rule, source, place, inventory)


def reserve(inventory: Inventory, choice: Choice) -> Inventory:
    """Return the inventory as the machine's next disk shall find it: with this one's place taken."""
    match choice:
        case LvChoice():
            return reserve_lv(inventory, choice)
        case LunChoice():
            return reserve_lun(inventory, choice)
        case FileChoice():
            return reserve_file(inventory, choice)


def with_planned(inventory: Inventory, disk: DiskPlan) -> Inventory:
    """Return the inventory with the place of a disk taken that another plan has."""
    match target := disk.target:
        case LvTarget():
            vg = next((vg for vg in inventory.volume_groups if vg.uuid == target.vg_uuid), None)
            if vg is None:
                return inventory
            pool = vg.pool(target.pool_name) if target.pool_name else None
            choice = LvChoice(vg, pool, target.lv_name, target.size_bytes, disk.worst_case_bytes, 0)
            return reserve_lv(inventory, choice)
        case LunTarget():
            return with_lun_taken(inventory, target.id)
        case FileTarget():
            directory = next((one for one in inventory.directories if one.path == target.directory), None)
            if directory is None:
                return inventory
            return with_file(inventory, directory, target.name, disk.worst_case_bytes)


def target_parts(target: Target) -> tuple[tuple[str, str], ...]:
    """Return what of a target must not change between its plan and its making, by name."""
    match target:
        case LvTarget():
            return (
                ("volume group", target.vg_uuid),
                ("volume group's name", target.vg_name),
                ("thin pool", target.pool_uuid),
                ("volume's name", target.lv_name),
                ("volume's size", str(target.size_bytes)),
            )
        case LunTarget():
            return (
                ("target's LUN", target.id),
                ("target's WWID", target.wwid),
                ("target's size", str(target.size_bytes)),
            )
        case FileTarget():
            return (
                ("target's file", target.path),
                ("target's format", target.format.value),
                ("target's mount", target.mount),
                ("target's size", str(target.size_bytes)),
            )
