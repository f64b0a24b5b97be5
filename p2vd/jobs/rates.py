"""Measures how fast copies are, keeps it durably, and says what a plan will take."""

import logging
import threading
from dataclasses import dataclass, replace

from p2vd.jobs.board import Board
from p2vd.jobs.events import Event, JobChanged
from p2vd.jobs.services import Services
from p2vd.model.job import Activity, Job, Stage
from p2vd.model.plan import Plan
from p2vd.model.rates import CopyRate
from p2vd.planning.estimate import array_of, estimate, together, too_many

log = logging.getLogger(__name__)

_COPIES = (Stage.COPYING, Stage.VERIFYING)
# Progress comes twice a second; what lies longer apart was no copying.
_LONGEST_GAP_S = 5.0
# Less than this says more of the start of a copy than of its rate.
_LEAST_MS = 10_000
_LEAST_BYTES = 256 << 20


@dataclass
class _Measure:
    """A copy while it runs: what it had done at the last look (bytes, monotonic), and what was measured."""

    stage: Stage
    done: int
    at: float
    rate: CopyRate


class Rates:
    """Hears the board. Thread-safe."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._board: Board = services.board
        self._lock = threading.Lock()
        self._running: dict[str, _Measure] = {}

    def hear(self, event: Event) -> None:
        """Note what a copy has done since the last time; keep it when the copy is over."""
        if not isinstance(event, JobChanged):
            return
        job = self._board.job(event.uuid)
        if job.stage in _COPIES:
            self._measure(job)
            return
        with self._lock:
            measure = self._running.pop(job.uuid, None)
        if measure is not None and _says_something(measure.rate):
            self._keep(measure.rate)

    def estimated(self, plan: Plan) -> Plan:
        """Return `plan` with what copying each of its disks, and all of them, takes."""
        with self._lock:
            running = [measure.rate for measure in self._running.values()]
        known = [*self._services.store.rates(), *(rate for rate in running if _says_something(rate))]
        by_id, total = self._services.inventory.current().by_id, self._services.bandwidth.total
        each = []
        for disk in plan.disks:
            source = by_id.get(disk.source.id)
            array = array_of(source) if source else disk.source.transport.value
            each.append(estimate(disk, array, known, total))
        disks = tuple(replace(disk, estimate=one) for disk, one in zip(plan.disks, each, strict=True))
        return replace(plan, disks=disks, estimate=together(each))

    def _measure(self, job: Job) -> None:
        now = self._services.clock.monotonic()
        progress = job.progress
        copying = job.stage is Stage.COPYING
        done = progress.bytes_copied + progress.bytes_zero if copying else progress.bytes_verified
        working = self._board.activity(job.uuid)[0] is Activity.RUNNING and not job.holds
        limit = self._services.bandwidth.granted(job).bytes_per_s
        with self._lock:
            before = self._running.get(job.uuid)
            if before is None:
                rate = CopyRate(job.uuid, self._array(job), job.plan.target.store_id, 0)
                self._running[job.uuid] = _Measure(job.stage, done, now, rate)
                return
            spent, more = now - before.at, done - before.done
            if before.stage is job.stage and not more and working and spent < _LONGEST_GAP_S:
                return  # another property changed: what is done meanwhile comes with the next progress
            before.stage, before.done, before.at, stage = job.stage, done, now, before.stage
            limited = copying and bool(limit) and more >= spent * limit * 0.8
            if stage is not job.stage or not working or more < 0 or spent >= _LONGEST_GAP_S or limited:
                return
            ms, rate = round(spent * 1000), before.rate
            if copying:
                rate = replace(rate, copied_bytes=rate.copied_bytes + more, copied_ms=rate.copied_ms + ms)
            else:
                rate = replace(
                    rate, verified_bytes=rate.verified_bytes + more, verified_ms=rate.verified_ms + ms
                )
            before.rate = replace(rate, measured_us=self._services.clock.now_us())

    def _array(self, job: Job) -> str:
        source = self._services.inventory.current().by_id.get(job.plan.source.id)
        return array_of(source) if source else job.plan.source.transport.value

    def _keep(self, rate: CopyRate) -> None:
        store = self._services.store
        try:
            store.put_rate(rate)
            for old in too_many(store.rates(), rate.place):
                store.remove_rate(old.job)
        except Exception:  # whatever it is: an estimate less, and no harm to the copy
            log.exception("job %s: its rate cannot be kept", rate.job)


def _says_something(rate: CopyRate) -> bool:
    return rate.copied_ms >= _LEAST_MS or rate.copied_bytes >= _LEAST_BYTES
