"""Byte credits for the copies into files, from what their filesystem says of itself now (design: §4.10)."""

import threading
from dataclasses import replace

from p2vd.model.job import Job
from p2vd.planning.admission import Credit, Demand
from p2vd.planning.directory_admission import Space, admit_files


class DirectoryWatch:
    """Knows which copy was granted how much of which filesystem. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._demands: dict[str, dict[str, Demand]] = {}

    def credit(self, space: Space, directory: str, job: Job) -> tuple[Credit, str]:
        """Return the job's credit now, and where it is short why.

        `space` was measured after the job told what it has used, which is in its progress.
        """
        with self._lock:
            demands = self._demands.setdefault(space.id, {})
            known = demands.get(job.uuid) or Demand(
                job.uuid, job.plan.worst_case_bytes, reserve_percent=job.plan.copy.pool_reserve_percent
            )
            demands[job.uuid] = replace(known, used_bytes=job.progress.allocated_bytes)
            admission = admit_files(space, directory, tuple(demands.values()))
            credit = next(credit for credit in admission.credits if credit.job == job.uuid)
            demands[job.uuid] = replace(demands[job.uuid], granted_bytes=credit.total_bytes)
        return credit, admission.reason.text if admission.reason else ""

    def forget(self, job_uuid: str) -> None:
        """The job's worker ended: what it was granted is free again, and its next worker counts from 0."""
        with self._lock:
            for demands in self._demands.values():
                demands.pop(job_uuid, None)
