"""Byte credits for the copies into a thin pool, from what the kernel says of it now (design: §4.10)."""

import threading
from dataclasses import replace

from p2vd.discovery.dm import PoolStatus, lv_dm_name, pool_status
from p2vd.jobs.control import PoolBroken
from p2vd.model.job import Job
from p2vd.model.lvm import ThinPool, Vg
from p2vd.planning.admission import Credit, Demand, PoolNumbers, admit
from p2vd.system.command import Commands

_METADATA_BLOCK = 4096  # dm-thin-metadata.h: THIN_METADATA_BLOCK_SIZE


class PoolWatch:
    """Knows which copy was granted how much of which pool. Thread-safe."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self._lock = threading.Lock()
        self._demands: dict[tuple[str, str], dict[str, Demand]] = {}

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
        with self._lock:
            demands = self._demands.setdefault((vg.uuid, pool.name), {})
            known = demands.get(job.uuid) or Demand(
                job.uuid, job.plan.worst_case_bytes, reserve_percent=job.plan.copy.pool_reserve_percent
            )
            demands[job.uuid] = replace(known, used_bytes=job.progress.allocated_bytes)
            status = self.status(vg, pool)
            numbers = PoolNumbers(
                total_data_bytes=status.total_data_bytes,
                used_data_bytes=status.used_data_bytes,
                total_metadata_bytes=status.total_metadata_blocks * _METADATA_BLOCK,
                used_metadata_bytes=status.used_metadata_blocks * _METADATA_BLOCK,
                chunk_size_bytes=pool.chunk_size_bytes,
            )
            admission = admit(numbers, f"{vg.name}/{pool.name}", tuple(demands.values()))
            credit = next(credit for credit in admission.credits if credit.job == job.uuid)
            demands[job.uuid] = replace(demands[job.uuid], granted_bytes=credit.total_bytes)
        return credit, admission.reason.text if admission.reason else ""

    def forget(self, job_uuid: str) -> None:
        """The job's worker ended: what it was granted is free again, and its next worker counts from 0."""
        with self._lock:
            for demands in self._demands.values():
                demands.pop(job_uuid, None)

    def reserved(self, vg_uuid: str, pool: str) -> int:
        """Bytes that running jobs were granted of a pool and have not used."""
        with self._lock:
            demands = self._demands.get((vg_uuid, pool), {}).values()
            return sum(max(0, demand.granted_bytes - demand.used_bytes) for demand in demands)
