"""Starts machines by themselves, where policies say so: `auto = true` (p2vd-policy(5)).

A machine is planned and started when its record is known, all its disks are here, and nothing about them
has changed for a while: an array maps LUN after LUN, path after path. What it needs to know of the past is
the job store: a disk that ever had a job, however it ended, is never started by itself again.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from p2vd.jobs.events import (
    Event,
    InventoryChanged,
    JobAdded,
    JobRemoved,
    PassportChanged,
    PolicyErrorsChanged,
)
from p2vd.jobs.planner import Planner
from p2vd.jobs.services import Services
from p2vd.model.audit import About
from p2vd.model.errors import P2vdError, Refused
from p2vd.model.inventory import Difference
from p2vd.model.job import Caller, Machine
from p2vd.planning.auto import AutoMachine, AutoView, Seen, auto_view

log = logging.getLogger(__name__)

CALLER = Caller(unit="p2vd.service (auto)")
"""Who has asked for a job that nobody asked for."""

_IDLE_S = 300.0
_STOP_S = 1.0
# Disks are still being looked at, and what was refused may have been mended without an event.
_AGAIN_S, _REFUSED_AGAIN_S = 2.0, 60.0

Record = Callable[[About, str, str], None]
"""Records for the audit, of what, the outcome and a sentence. Raises where a start cannot be recorded."""


@dataclass
class _Candidate:
    """A machine that may start: what was seen of it, when that is settled, and what is said of it."""

    seen: Seen
    due_s: float
    said: str = ""


class AutoStart:
    """One thread, which sleeps until something changes. `hear` is for the board; thread-safe."""

    def __init__(
        self,
        services: Services,
        planner: Planner,
        record: Record,
        started: Callable[[Machine], None],
    ) -> None:
        """`started` is called with each machine that was made, on this thread."""
        self._services = services
        self._planner = planner
        self._record = record
        self._started = started
        self._clock = services.clock
        self._settle_s = services.config.auto_settle_s
        self._candidates: dict[str, _Candidate] = {}
        self._said: dict[str, str] = {}
        self._wake = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="auto", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, wait_s: float = _STOP_S) -> None:
        """End; wait for it at most so long, and no more than a second."""
        self._stopped = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(min(wait_s, _STOP_S))

    def hear(self, event: Event) -> None:
        """Look again after news of disks, records, policies and jobs that come or go."""
        match event:
            case InventoryChanged() | PassportChanged() | PolicyErrorsChanged() | JobAdded() | JobRemoved():
                self._wake.set()

    def said(self, source_id: str) -> str:
        """What is done with a source by itself, or why it is not; "" where no policy wants it to be."""
        return self._said.get(source_id, "")

    def _run(self) -> None:
        while not self._stopped:
            self._wake.clear()
            try:
                wait_s = self._look()
            except Exception:  # the store's disk is full, or a defect of ours: the next change is looked at
                log.exception("auto: cannot decide")
                wait_s = _REFUSED_AGAIN_S
            if not self._stopped:
                self._clock.sleep(wait_s, self._wake)

    def _look(self) -> float:
        """Start what is due; return the seconds until there is something to do, if nothing changes."""
        view = self._view()
        now_s = self._clock.monotonic()
        self._candidates = {one.name: self._candidate(one, now_s) for one in view.ready}
        for machine in view.ready:
            candidate = self._candidates[machine.name]
            if candidate.due_s <= now_s and not self._stopped:
                self._try(machine, candidate)
        self._tell(view)
        waits = [one.due_s - self._clock.monotonic() for one in self._candidates.values()]
        return max(0.1, min([_IDLE_S, *waits]))

    def _view(self) -> AutoView:
        inventory = self._services.inventory
        # Of what is stale nothing follows; the first scan says what there is.
        if not inventory.scanned or inventory.current().stale_since_us:
            return AutoView()
        jobs = self._services.store.jobs()
        had = {key: job.uuid for job in jobs for key in (job.plan.source.id, job.plan.source.wwid) if key}
        passports = {passport.name: passport for passport in self._services.store.passports()}
        return auto_view(self._planner.inventory(), self._services.policies(), passports, had)

    def _candidate(self, machine: AutoMachine, now_s: float) -> _Candidate:
        known = self._candidates.get(machine.name)
        if known is not None and known.seen == machine.seen:
            return known
        said = (
            f"It is started by itself as a disk of {machine.name} once nothing about its disks has changed "
            f"for {self._settle_s:g} s."
        )
        return _Candidate(machine.seen, now_s + self._settle_s, said)

    def _try(self, machine: AutoMachine, candidate: _Candidate) -> None:
        told = About(wwids=machine.source_ids, machine_name=machine.name)
        try:
            plan = self._planner.plan((), {"machine": machine.name, "name": machine.name})
            told = About(wwids=machine.source_ids, machine_name=machine.name, plan=plan.id)
            self._record(told, "starting", f"Starts {machine.name} by itself, by the plan {plan.id}.")
            made = self._planner.make_machine(plan.id, CALLER)
        except P2vdError as error:
            candidate.due_s = self._clock.monotonic() + (
                _AGAIN_S if _is_under_examination(error) else _REFUSED_AGAIN_S
            )
            self._refused(machine, candidate, told, error)
            return
        candidate.due_s = self._clock.monotonic() + _REFUSED_AGAIN_S
        candidate.said = f"It was started by itself as a disk of {machine.name}."
        log.warning("auto: machine %s is started by itself: plan %s", machine.name, plan.id)
        self._started(made)

    def _refused(self, machine: AutoMachine, candidate: _Candidate, told: About, error: P2vdError) -> None:
        said = f"It is not started by itself: {error}"
        if said == candidate.said or _is_under_examination(error):
            return
        candidate.said = said
        log.warning("auto: machine %s is not started: %s", machine.name, error)
        self._record(told, "refused", str(error))

    def _tell(self, view: AutoView) -> None:
        """Publish what is said of the sources, where that is something else than before."""
        said = dict(view.said)
        for machine in view.ready:
            said |= dict.fromkeys(machine.source_ids, self._candidates[machine.name].said)
        changed = {key for key in said.keys() | self._said.keys() if said.get(key) != self._said.get(key)}
        for key in sorted(changed & view.said.keys()):
            log.info("auto: %s: %s", key, said[key])
        self._said = said
        if changed:
            self._services.board.publish(InventoryChanged(Difference(sources=frozenset(changed))))


def _is_under_examination(error: P2vdError) -> bool:
    return isinstance(error, Refused) and all(reason.code == "under-examination" for reason in error.reasons)
