"""The hold `window`: set and released as the windows of each job's policy close and open.

One thread sleeps until the next change. A user's pause is a hold of its own and outlives a window.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from p2vd.jobs.board import Board
from p2vd.jobs.events import Event, JobAdded, JobChanged
from p2vd.jobs.store import STORE_FAILURES
from p2vd.jobs.transitions import TERMINAL
from p2vd.model.job import Hold, Job, Stage
from p2vd.model.window import Window
from p2vd.policy.window import is_open, next_change, until_text
from p2vd.system.clock import Clock

log = logging.getLogger(__name__)

# The wall clock may be set meanwhile, and a sleep is not measured by it.
_LONGEST_SLEEP_S = 300.0
_RETRY_S = 5.0
_SECOND_US = 1_000_000
_FREE = TERMINAL | {Stage.CANCELLING}


@dataclass(frozen=True)
class _State:
    """Whether windows are open, from when to when that holds; `problem`: it cannot be known."""

    is_open: bool
    since: datetime
    until: datetime | None
    problem: str = ""


class WindowKeeper:
    """Hears the board: a job that comes or is retried outside its windows is held before it works.

    Thread-safe. `nudge` has a job look at its holds.
    """

    def __init__(self, board: Board, clock: Clock, nudge: Callable[[str], None]) -> None:
        self._board = board
        self._clock = clock
        self._nudge = nudge
        self._seen: dict[str, tuple[Stage, bool]] = {}
        self._states: dict[tuple[Window, ...], _State] = {}
        self._wake = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="windows", daemon=True)

    def start(self) -> None:
        """Set all jobs' holds as they must be now, and from now on. Returns when the first is done."""
        try:
            self._settle_all()
        except STORE_FAILURES as error:  # no job can begin either; the thread tries again at once
            log.error("windows: %s", error)  # noqa: TRY400 - the host lacks something, no defect of ours
        self._thread.start()

    def stop(self) -> None:
        """End, within a second; holds stay as they are."""
        self._stopped = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(1.0)

    def hear(self, event: Event) -> None:
        """Settle a job that is new, in another stage, or let go. Cheap otherwise."""
        match event:
            case JobAdded(uuid) | JobChanged(uuid):
                job = self._board.job(uuid)
                if job.plan.copy.windows and self._seen.get(uuid) != _told_by(job):
                    try:
                        self._settle(job)
                    finally:  # what could not be stored the thread tries again
                        self._wake.set()

    def waiting(self, job: Job) -> str:
        """What a job waits for that its windows hold; "" where they do not."""
        if Hold.WINDOW not in job.holds:
            return ""
        state = self._state(job.plan.copy.windows)
        if state.problem:
            return state.problem
        if state.until is None or state.is_open:
            return "Its window opens now."
        return f"Its window opens on {until_text(job.plan.copy.windows, state.until)}."

    def _run(self) -> None:
        while True:
            self._wake.clear()
            if self._stopped:
                return
            try:
                wait_s = self._settle_all()
            except Exception:  # a full disk of this moment must not leave windows shut for ever
                log.exception("windows: cannot be settled")
                wait_s = _RETRY_S
            self._clock.sleep(wait_s, self._wake)

    def _settle_all(self) -> float:
        """Settle every job; return the seconds until that has to be done again."""
        jobs = [job for job in self._board.jobs() if job.plan.copy.windows]
        self._seen = {job.uuid: _told_by(job) for job in jobs}
        used = {job.plan.copy.windows for job in jobs if not _is_free(job)}
        self._states = {windows: state for windows, state in self._states.items() if windows in used}
        for job in jobs:
            self._settle(job)
        changes = [state.until for windows in used if (state := self._state(windows)).until]
        now = self._now()
        waits = [(change - now).total_seconds() for change in changes if change]
        return max(0.0, min([_LONGEST_SLEEP_S, *waits]))

    def _settle(self, job: Job) -> None:
        self._seen[job.uuid] = _told_by(job)
        try:
            if self._board.settle_hold(job.uuid, Hold.WINDOW, self._holds):
                self._nudge(job.uuid)
        except STORE_FAILURES:
            self._seen.pop(job.uuid, None)  # it is not settled
            raise

    def _holds(self, job: Job) -> bool:
        """Whether a job must not work now by its windows."""
        windows = job.plan.copy.windows
        return bool(windows) and not _is_free(job) and not self._state(windows).is_open

    def _state(self, windows: tuple[Window, ...]) -> _State:
        now = self._now()
        known = self._states.get(windows)
        if known and known.since <= now and (known.until is None or now < known.until):
            return known
        try:
            state = _State(is_open(windows, now), now, next_change(windows, now))
        except ValueError as error:  # of a plan that was made when this host still knew the time zone
            state = _State(
                is_open=False,
                since=now,
                until=None,
                problem=f"When its window opens is not known: {error}. Install tzdata, then restart p2vd.",
            )
            log.error("windows: %s", error)  # noqa: TRY400 - the host lacks something, no defect of ours
        self._states[windows] = state
        return state

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now_us() / _SECOND_US, UTC)


def _told_by(job: Job) -> tuple[Stage, bool]:
    """What of a job decides whether its windows count."""
    return job.stage, job.ignores_window


def _is_free(job: Job) -> bool:
    """Whether a job needs no window: it has ended or ends, or was let go."""
    return job.ignores_window or job.stage in _FREE
