"""The bandwidth of the copies that run: what each may read, as they come, end, are held, or read less.

Worked out again when a copy begins, ends or is held, when a limit changes, and every few seconds from the
rates that the workers report. Who copies asks here; see copy_step.
"""

import logging
import threading
from dataclasses import dataclass

from p2vd.jobs.board import Board
from p2vd.jobs.events import Event, JobAdded, JobChanged
from p2vd.model.bandwidth import Grant
from p2vd.model.copying import Verify
from p2vd.model.errors import InvalidArgument
from p2vd.model.job import Job, Stage
from p2vd.model.size import MIB, format_size
from p2vd.planning.bandwidth import LEAST_TOTAL_BYTES_PER_S, Demand, own, share
from p2vd.system.clock import Clock, SystemClock

log = logging.getLogger(__name__)

_COPIES = frozenset({Stage.COPYING, Stage.VERIFYING})
_OVER = frozenset({Stage.PROVEN, Stage.CANCELLED})
_AGAIN_S = 5.0
# A worker reports its rate over the last ten seconds; of a grant that is younger it says nothing.
_SEEN_AFTER_S = 12.0
_MOST_BYTES_PER_S = 1 << 50


@dataclass
class _Copy:
    """A copy that takes part. `since`: when its grant rose last, monotonic."""

    stage: Stage
    own_limit: int
    grant: Grant
    since: float


class Bandwidth:
    """Hears the board. Thread-safe."""

    def __init__(self, total_bytes_per_s: int = 0, clock: Clock | None = None) -> None:
        self._total = total_bytes_per_s
        self._clock = clock or SystemClock()
        self._lock = threading.RLock()
        self._board: Board | None = None
        self._copies: dict[str, _Copy] = {}
        self._asked: dict[str, int] = {}  # what the administrator wants of a job, until it has ended
        self._latest = 0.0

    def watch(self, board: Board) -> None:
        """Share among the jobs of `board`, from now on."""
        self._board = board
        for job in board.jobs():
            self._note(job)
        self._share()
        board.subscribe(self._hear)

    @property
    def total(self) -> int:
        """What all copies together may read a second; 0: there is no limit."""
        return self._total

    def set_total(self, bytes_per_s: int) -> None:
        """Change that, until the daemon is restarted. Raises InvalidArgument."""
        if not (bytes_per_s == 0 or LEAST_TOTAL_BYTES_PER_S <= bytes_per_s <= _MOST_BYTES_PER_S):
            least = format_size(LEAST_TOTAL_BYTES_PER_S)
            raise InvalidArgument("bytes_per_second", f"{bytes_per_s} is neither 0 nor {least} or more.")
        log.info("bandwidth: %s in all", f"{format_size(bytes_per_s)}/s" if bytes_per_s else "no limit")
        self._total = bytes_per_s
        self._share()

    def limit(self, job: Job, bytes_per_s: int) -> None:
        """Limit one job, 0: not at all, until it ends or the daemon is restarted."""
        with self._lock:
            self._asked[job.uuid] = bytes_per_s
            self._note(job)
        self._share()

    def granted(self, job: Job) -> Grant:
        """What a job may read now, or might if it did."""
        with self._lock:
            copy = self._copies.get(job.uuid)
            if copy is not None:
                return copy.grant
            return own(self._own_limit(job))

    def _hear(self, event: Event) -> None:
        match event:
            case JobAdded(uuid) | JobChanged(uuid) if self._board is not None:
                with self._lock:
                    changed = self._note(self._board.job(uuid))
                    due = bool(self._total and self._copies) and (
                        self._clock.monotonic() - self._latest >= _AGAIN_S
                    )
                if changed or due:
                    self._share()

    def _note(self, job: Job) -> bool:
        """Whether a job begins or ends to take part, or does it otherwise than before."""
        with self._lock:
            before = self._copies.get(job.uuid)
            if job.stage not in _COPIES or job.holds:
                if job.stage in _OVER:
                    self._asked.pop(job.uuid, None)
                return self._copies.pop(job.uuid, None) is not None
            limit = self._own_limit(job)
            if before is not None and (before.stage, before.own_limit) == (job.stage, limit):
                return False
            grant, since = (before.grant, before.since) if before else (own(limit), self._clock.monotonic())
            self._copies[job.uuid] = _Copy(job.stage, limit, grant, since)
            return True

    def _own_limit(self, job: Job) -> int:
        return self._asked.get(job.uuid, job.plan.copy.bandwidth_bytes_per_s)

    def _share(self) -> None:
        changed = []
        with self._lock:
            self._latest = now = self._clock.monotonic()
            uuids = list(self._copies)
            grants = share(self._total, [self._demand(uuid, now) for uuid in uuids])
            for uuid, grant in zip(uuids, grants, strict=True):
                copy = self._copies[uuid]
                if grant == copy.grant:
                    continue
                if not grant.bytes_per_s or grant.bytes_per_s > copy.grant.bytes_per_s:
                    copy.since = now
                copy.grant = grant
                changed.append(uuid)
        for uuid in changed:
            if self._board is not None:
                self._board.publish(JobChanged(uuid))

    def _demand(self, uuid: str, now: float) -> Demand:
        copy = self._copies[uuid]
        if not self._total or self._board is None:
            return Demand(uuid, copy.own_limit)
        job = self._board.job(uuid)
        if job.stage is Stage.VERIFYING and job.plan.copy.verify is not Verify.BOTH:
            return Demand(uuid, copy.own_limit, used=0)  # it reads its target; of the source a sample
        rate, granted = job.progress.rate_bytes_per_s, copy.grant.bytes_per_s
        if now - copy.since < _SEEN_AFTER_S or not granted or rate + MIB > granted * 9 // 10:
            return Demand(uuid, copy.own_limit)
        return Demand(uuid, copy.own_limit, used=rate)
