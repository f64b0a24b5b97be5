"""Byte credits for the copies into a thin pool, from what the kernel says of it now (design: §4.10)."""

import threading
from dataclasses import replace

from p2vd.discovery.dm import PoolStatus, lv_dm_name, pool_status
from p2vd.jobs.control import PoolBroken
from p2vd.model.job import Job
from p2vd.model.lvm import PoolUse, ThinPool, Vg
from p2vd.planning.admission import Credit, Demand, PoolNumbers, Shortage, Tally, admit, room_beside
from p2vd.system.command import Commands

METADATA_BLOCK_BYTES = 4096  # dm-thin-metadata.h: THIN_METADATA_BLOCK_SIZE


class PoolWatch:
    """Knows which copy was granted how much of which pool, and what is kept for others. Thread-safe."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        # The kernel is asked outside of it: dmsetup may take its time, and others only want to know.
        self._lock = threading.Lock()
        self._measuring: dict[tuple[str, str], threading.Lock] = {}
        self._demands: dict[tuple[str, str], dict[str, Demand]] = {}
        self._held: dict[tuple[str, str], dict[str, int]] = {}
        self._tallies: dict[tuple[str, str], Tally] = {}

    def status(self, vg: Vg, pool: ThinPool) -> PoolStatus:
        """Return the pool's state. Raises PoolBroken where it needs repair, CommandTimedOut."""
        status = pool_status(self._commands, lv_dm_name(vg.name, pool.name, "tpool"))
        name = f"{vg.name}/{pool.name}"
        if status.mode == "fail":
            raise PoolBroken(name, "failed")
        if status.needs_check:
            raise PoolBroken(name, "in need of a check")
        if status.mode == "ro":
            raise PoolBroken(name, "read-only")
        return status

    def credit(self, vg: Vg, pool: ThinPool, job: Job) -> tuple[Credit, str]:
        """Return the job's credit now, and where it is short why.

        What the job used is taken before the pool is measured, so nothing counts as free twice.
        Raises PoolBroken, CommandTimedOut.
        """
        key = vg.uuid, pool.name
        with self._turn(key):
            with self._lock:
                demands = self._demands.setdefault(key, {})
                known = demands.get(job.uuid) or Demand(
                    job.uuid, job.plan.worst_case_bytes, reserve_percent=job.plan.copy.pool_reserve_percent
                )
                asking = demands[job.uuid] = replace(known, used_bytes=job.progress.allocated_bytes)
                all_demands, held = tuple(demands.values()), self._held_in(key)
            numbers = self._numbers(vg, pool)
            admission = admit(numbers, f"{vg.name}/{pool.name}", all_demands, held_bytes=held)
            credit = next(credit for credit in admission.credits if credit.job == job.uuid)
            with self._lock:
                tally = self._tallies.get(key) or Tally(numbers.used_data_bytes)
                self._tallies[key] = tally.measured(numbers.used_data_bytes, all_demands)
                demands[job.uuid] = replace(asking, granted_bytes=credit.total_bytes)
        return credit, admission.reason.text if admission.reason else ""

    def hold(self, vg: Vg, pool: ThinPool, holder: str, wanted_bytes: int) -> int:
        """Keep room in a pool for what `holder` writes, which is no copy, until it is forgotten.

        Returns what there was for it beside the copies' credits; less than `wanted_bytes`: nothing is kept.
        Raises PoolBroken, CommandTimedOut.
        """
        key = vg.uuid, pool.name
        with self._turn(key):
            with self._lock:
                demands, held = tuple(self._demands.get(key, {}).values()), self._held_in(key, holder)
            room = room_beside(self._numbers(vg, pool), demands, held)
            if room >= wanted_bytes:
                self.keep(vg, pool, holder, wanted_bytes)
        return room

    def keep(self, vg: Vg, pool: ThinPool, holder: str, wanted_bytes: int) -> None:
        """As `hold`, for what writes there already, room or not: copies get nothing of that."""
        with self._lock:
            self._held.setdefault((vg.uuid, pool.name), {})[holder] = wanted_bytes

    def _held_in(self, key: tuple[str, str], but: str = "") -> int:
        """What is kept of a pool for others than copies, and than `but`. The lock is held."""
        return sum(held for holder, held in self._held.get(key, {}).items() if holder != but)

    def _turn(self, key: tuple[str, str]) -> threading.Lock:
        """Who measures a pool for a grant holds this: the next grant counts what this one took."""
        with self._lock:
            return self._measuring.setdefault(key, threading.Lock())

    def shortage(self, vg: Vg, pool: ThinPool) -> Shortage | None:
        """Return what keeps the copies in the pool short now; None: nothing, or nothing that an extend mends.

        Raises PoolBroken, CommandTimedOut.
        """
        key = vg.uuid, pool.name
        with self._lock:
            demands, held = tuple(self._demands.get(key, {}).values()), self._held_in(key)
        numbers = self._numbers(vg, pool)
        return admit(numbers, f"{vg.name}/{pool.name}", demands, held_bytes=held).shortage

    def _numbers(self, vg: Vg, pool: ThinPool) -> PoolNumbers:
        status = self.status(vg, pool)
        return PoolNumbers(
            total_data_bytes=status.total_data_bytes,
            used_data_bytes=status.used_data_bytes,
            total_metadata_bytes=status.total_metadata_blocks * METADATA_BLOCK_BYTES,
            used_metadata_bytes=status.used_metadata_blocks * METADATA_BLOCK_BYTES,
            chunk_size_bytes=pool.chunk_size_bytes,
        )

    def forget(self, job_uuid: str) -> None:
        """The job's worker, or another holder, ended: what it was granted is free again.

        The job's next worker counts from 0.
        """
        with self._lock:
            for holders in self._held.values():
                holders.pop(job_uuid, None)
            for key, demands in self._demands.items():
                demands.pop(job_uuid, None)
                if not demands:
                    self._tallies.pop(key, None)

    def use(self, vg_uuid: str, pool: str) -> PoolUse:
        """Return what of a pool running jobs did not use yet and undo points hold, and what others took."""
        with self._lock:
            demands = self._demands.get((vg_uuid, pool), {}).values()
            tally = self._tallies.get((vg_uuid, pool))
            return PoolUse(
                reserved_bytes=sum(max(0, demand.granted_bytes - demand.used_bytes) for demand in demands)
                + self._held_in((vg_uuid, pool)),
                others_bytes=tally.others_bytes if tally else 0,
            )
