"""Tells of a plan how full its thin pools will be, and has its disks sampled where that is asked for."""

import time
from dataclasses import replace

from p2vd.jobs.planner import Planner
from p2vd.jobs.services import Services
from p2vd.model.errors import NotFound, Refused
from p2vd.model.fill import Allocation, ZeroSample
from p2vd.model.inventory import Inventory
from p2vd.model.plan import DiskPlan, LvTarget, Plan
from p2vd.planning.fill import allocation, pool_fills, pool_of


class Fills:
    """Thread-safe. Nothing of it is part of a plan's id, or kept with it."""

    def __init__(self, services: Services, planner: Planner) -> None:
        self._contents = services.contents
        self._planner = planner

    def told(self, plan: Plan, *, sample: bool, end_s: float) -> Plan:
        """Return `plan` with how full its pools will be. Raises StillLooking: no sample until `end_s`."""
        inventory = self._planner.inventory()
        disks = self._sampled(plan.disks, inventory, end_s) if sample else plan.disks
        fills = pool_fills(disks, inventory, self._planner.with_reservations_of_jobs())
        return replace(plan, disks=disks, fills=fills)

    def _sampled(
        self, disks: tuple[DiskPlan, ...], inventory: Inventory, end_s: float
    ) -> tuple[DiskPlan, ...]:
        """Return the disks with what those are expected to take that go to thin pools."""
        wanted, unread = {}, {}
        for disk in disks:
            pool = pool_of(inventory, disk.target.store_id, _pool(disk))
            try:
                source = inventory.source(disk.source.id)
            except (NotFound, Refused):
                continue  # gone since the plan was made: its start says so
            if pool is None or not pool.chunk_size_bytes:
                continue
            if source.is_plain:
                wanted[disk.source.id] = (source, pool.chunk_size_bytes)
            else:
                unread[disk.source.id] = f"{source.kind} is not sampled."
        found = self._contents.samples.take(tuple(wanted.values()), max(0.0, end_s - time.monotonic()))
        by_id = {**dict(zip(wanted, found, strict=True)), **unread}
        return tuple(
            replace(disk, expected=_expected(by_id[disk.source.id], disk))
            if disk.source.id in by_id
            else disk
            for disk in disks
        )


def _pool(disk: DiskPlan) -> str:
    return disk.target.pool_uuid if isinstance(disk.target, LvTarget) else ""


def _expected(found: ZeroSample | str, disk: DiskPlan) -> Allocation:
    if isinstance(found, str):
        return Allocation(problem=f"{disk.source.id}: {found}")
    return allocation(found, disk.worst_case_bytes)
