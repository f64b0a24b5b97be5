"""What changes of LVM that do not end mean for jobs and plans (design: §4.8)."""

from dataclasses import replace
from functools import partial

from p2vd.jobs.board import Board
from p2vd.model.inventory import Inventory
from p2vd.model.plan import LvTarget
from p2vd.provisioning.late import LateChanges
from p2vd.system.command import Commands


def late_changes(commands: Commands, board: Board) -> LateChanges:
    """Return what keeps them, of this daemon and of an earlier one."""
    return LateChanges(commands.running_changes, partial(vg_of_change, board))


def vg_of_change(board: Board, unit: str) -> str:
    """Return the UUID of the volume group that a change is about: its unit has the job's name, or the pool's.

    "" for a change that is about none, or about a job that is not known.
    """
    for job in board.jobs():
        target = job.plan.target
        if isinstance(target, LvTarget) and any(
            name and unit.startswith(f"{name}-") for name in (job.uuid, target.pool_uuid)
        ):
            return target.vg_uuid
    return ""


def with_late_changes(inventory: Inventory, late: LateChanges) -> Inventory:
    """Return the inventory as a plan shall see it: with the changes that do not end. Nothing is asked."""
    groups = tuple(replace(vg, late_change=late.known(vg.uuid)) for vg in inventory.volume_groups)
    return replace(inventory, volume_groups=groups)
