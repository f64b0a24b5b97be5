"""One thread a job: does the step that the job's stage asks for, until nothing is left to do."""

import logging
import threading
from collections.abc import Callable
from dataclasses import replace

from p2vd.jobs import source_guard
from p2vd.jobs.control import Interrupted, MustWait, TryAgain
from p2vd.jobs.copy_step import copy
from p2vd.jobs.hooks import run_for_job, why_held
from p2vd.jobs.inventory_keeper import ScanFailed
from p2vd.jobs.machine_step import withdraw
from p2vd.jobs.provision_step import finish, provision, remove_target
from p2vd.jobs.services import Services
from p2vd.jobs.signals import Signals
from p2vd.jobs.store import STORE_FAILURES
from p2vd.jobs.transitions import JobEvent
from p2vd.jobs.write_count import write_count
from p2vd.model.errors import P2vdError
from p2vd.model.hook import HookStep
from p2vd.model.job import Activity, Hold, Job, JobError, Stage
from p2vd.provisioning.errors import VgStalled
from p2vd.records.receipt import write_receipt
from p2vd.system.command import ChangeUnknown, CommandTimedOut
from p2vd.system.threads import start

log = logging.getLogger(__name__)

_RETRY_S = 5.0
# Ended by the administrator or the scheduler; the others go by themselves, so the runner tries again.
_OTHERS_DECIDE = frozenset({Hold.USER, Hold.WINDOW, Hold.SLOT, Hold.HOOK})
_ON_ITS_WAY = frozenset({Stage.PLANNED, Stage.PROVISIONING, Stage.COPYING, Stage.VERIFYING, Stage.PROVEN})

# What a step is tried again after, and said. The last are this host's own disk and processes, not the job's.
_PASSING = (TryAgain, VgStalled, ScanFailed, CommandTimedOut, ChangeUnknown, *STORE_FAILURES, OSError)


class JobRunner:
    """Drives one job. `on_end` is called with its UUID, on its own thread, when it has nothing left to do.

    Last of all `retire` is asked whether the thread may end: not where somebody wanted something meanwhile.
    """

    def __init__(
        self, services: Services, uuid: str, retire: Callable[[], bool], on_end: Callable[[str], None]
    ) -> None:
        self._services = services
        self._uuid = uuid
        self._retire = retire
        self._on_end = on_end
        self.signals = Signals()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin. Raises NoThread."""
        self._thread = start(self._run, f"job-{self._uuid[:8]}")

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; return whether it came."""
        if self._thread is not None:
            self._thread.join(timeout_s)
        return not self.alive

    @property
    def alive(self) -> bool:
        """Whether the job's thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def _run(self) -> None:
        board = self._services.board
        try:
            while True:
                # Before anything is looked at: what is wanted later is left for a pause, or for `retire`.
                self.signals.take_nudge()
                if self.signals.stopping:
                    break
                try:
                    if self._turn():
                        return
                except (*STORE_FAILURES, OSError) as error:
                    # Also how a step has ended is not durable then: it is done again.
                    self._wait_for_host(error)
            board.set_activity(self._uuid, Activity.IDLE)
        except BaseException:
            # A defect of ours: the job keeps its durable stage, the log says what, a restart resumes.
            log.exception("job %s: its thread ended", self._uuid)
            board.set_activity(self._uuid, Activity.IDLE)
            raise

    def _turn(self) -> bool:
        """Do what the job's stage and holds ask for; return whether the thread is to end."""
        board = self._services.board
        job = board.job(self._uuid)
        if job.stage is not Stage.CANCELLING and job.holds & _OTHERS_DECIDE:
            board.set_activity(self._uuid, Activity.IDLE, why_held(job))
            # Whoever decides nudges, and then there is another thread: hundreds of jobs may wait.
            return self._retire()
        if not self._step(job):
            return False
        board.set_activity(self._uuid, Activity.IDLE)
        self._on_end(self._uuid)
        # From here another runner may have the job, and a stop of the daemon waits no longer.
        return self._retire()

    def _wait_for_host(self, error: Exception) -> None:
        self._services.board.set_activity(self._uuid, Activity.STALLED, str(error))
        self.signals.pause(_RETRY_S)

    def _step(self, job: Job) -> bool:
        """Do one step; return whether it was the last."""
        board = self._services.board
        try:
            last = self._do(job)
        except Interrupted:
            pass  # by what is looked at next
        except MustWait as wait:
            board.set_activity(self._uuid, Activity.IDLE, wait.why)
            board.hold(self._uuid, wait.hold)
            self.signals.pause(_RETRY_S)
        except _PASSING as error:
            self._wait_for_host(error)
        except P2vdError as error:
            # The stage of now: a cancel may have come while the step ran.
            if board.job(self._uuid).stage in (Stage.PROVEN, Stage.CANCELLING):
                self._wait_for_host(error)
            else:
                board.advance(self._uuid, JobEvent.FAIL, JobError(error.name, str(error)))
        else:
            for hold in job.holds - _OTHERS_DECIDE - {Hold.POOL}:  # the pool's is the credits' business
                board.release(self._uuid, hold)
            return last
        return False

    def _do(self, job: Job) -> bool:
        services, signals = self._services, self.signals
        if job.stage in _ON_ITS_WAY:  # before the job's own commit: whoever dies in between does it again
            services.board.start_machine(job.machine_uuid)
        match job.stage:
            case Stage.PLANNED:
                services.board.advance(job.uuid, JobEvent.START)
            case Stage.PROVISIONING:
                services.board.set_activity(job.uuid, Activity.RUNNING)
                if not job.prepared:
                    self._run_hooks(HookStep.BEFORE_COPY, job)
                provision(services, signals, job)
            case Stage.COPYING | Stage.VERIFYING:
                copy(services, signals, job)
            case Stage.PROVEN if job.finished:
                self._release_source(job)  # what could not be set back at its end
                return True
            case Stage.PROVEN:
                finish(services, signals, job)
                self._release_source(job)
                write_receipt(services.board.job(job.uuid), services.job_directory(job))
                if job.proven_writes is None:  # before the hooks: what they write is a use, too
                    writes = write_count(services.sysfs, job)
                    services.board.change(job.uuid, lambda stored: replace(stored, proven_writes=writes))
                self._run_hooks(HookStep.AFTER_PROVEN, services.board.job(job.uuid))
                self._clear_holds(job)
                services.board.change(job.uuid, lambda stored: replace(stored, finished=True))
                return True
            case Stage.FAILED:
                self._release_source(job)
                return True
            case Stage.CANCELLING:
                withdraw(services, services.board.machine(job.machine_uuid), job)
                if not job.keep_target:
                    remove_target(services, signals, job)
                self._release_source(job)
                self._clear_holds(job)
                services.board.advance(job.uuid, JobEvent.CANCELLED)
                services.board.cancel_machine(job.machine_uuid)
                return True
            case Stage.CANCELLED:
                services.board.cancel_machine(job.machine_uuid)  # where the daemon died before it, above
                self._release_source(job)
                return True
        return False

    def _run_hooks(self, step: HookStep, job: Job) -> None:
        board, signals = self._services.board, self.signals
        run_for_job(
            self._services.hooks, board, step, job, lambda: not signals.interrupted(board, self._uuid)
        )

    def _release_source(self, job: Job) -> None:
        job = self._services.board.job(job.uuid)
        if job.source_set_read_only:
            source = self._services.inventory.scanned_once().by_id.get(job.plan.source.id)
            source_guard.release(self._services, job, source)

    def _clear_holds(self, job: Job) -> None:
        if self._services.board.job(job.uuid).holds:
            self._services.board.change(job.uuid, lambda stored: replace(stored, holds=frozenset()))
