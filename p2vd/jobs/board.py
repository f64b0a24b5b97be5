"""Where jobs and machines stand now: the store, what is only of this moment, and who wants to know."""

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from p2vd.jobs.events import Event, JobAdded, JobChanged, MachineAdded, MachineChanged
from p2vd.jobs.store import Store
from p2vd.jobs.transitions import TERMINAL, JobEvent, MachineEvent, advance, advance_machine
from p2vd.model.copying import Progress
from p2vd.model.errors import IllegalTransition, P2vdError
from p2vd.model.job import Activity, Hold, Job, JobError, Machine, MachineState, Stage
from p2vd.model.plan import DomainOptions
from p2vd.system.clock import now_us

log = logging.getLogger(__name__)

_UNREGISTERED = (MachineState.COPYING, MachineState.READY)
_CANCELLABLE = (MachineState.PLANNED, *_UNREGISTERED)


class Board:
    """The one place through which jobs change. Thread-safe.

    A change is durable before a subscriber hears of it. Progress and activity are of this moment:
    they are kept in memory, and written with the next transition; so is what is kept.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.RLock()
        self._progress: dict[str, Progress] = {}
        self._kept: dict[str, dict[str, Any]] = {}
        self._activity: dict[str, tuple[Activity, str]] = {}
        self._listeners: list[Callable[[Event], None]] = []

    def subscribe(self, listener: Callable[[Event], None]) -> None:
        """Call `listener` with every event from now on, on whatever thread it happens."""
        self._listeners.append(listener)

    def publish(self, event: Event) -> None:
        """Tell every subscriber: it is durable, and one that fails keeps it from none of the others."""
        for listener in self._listeners:
            try:
                listener(event)
            except P2vdError as error:
                log.error("%s: %s", event, error)  # noqa: TRY400 - the host lacks something, no defect of ours
            except Exception:
                log.exception("%s could not be told", event)

    def jobs(self) -> tuple[Job, ...]:
        """All jobs with the progress of this moment, oldest first."""
        return tuple(self._live(job) for job in self._store.jobs())

    def job(self, uuid: str) -> Job:
        """One job with the progress of this moment. Raises NotFound."""
        return self._live(self._store.job(uuid))

    def _live(self, job: Job) -> Job:
        with self._lock:
            progress, kept = self._progress.get(job.uuid), dict(self._kept.get(job.uuid, {}))
        job = job if progress is None else replace(job, progress=progress)
        return replace(job, **{name: value for name, value in kept.items() if not getattr(job, name)})

    def machines(self) -> tuple[Machine, ...]:
        """All machines, oldest first."""
        return self._store.machines()

    def machine(self, uuid: str) -> Machine:
        """One machine. Raises NotFound."""
        return self._store.machine(uuid)

    def machine_jobs(self, machine: Machine) -> tuple[Job, ...]:
        """The jobs of `machine`."""
        return tuple(self.job(uuid) for uuid in machine.jobs)

    def add(self, machine: Machine, jobs: tuple[Job, ...]) -> None:
        """Make a machine and its jobs known."""
        self._store.add(machine, jobs)
        self.publish(MachineAdded(machine.uuid))
        for job in jobs:
            log.info("job %s: %s to %s", job.uuid, job.plan.source.id, job.plan.target)
            self.publish(JobAdded(job.uuid))

    def change(self, uuid: str, change: Callable[[Job], Job]) -> Job:
        """Replace a job by `change(job)`, with the progress of this moment."""
        with self._lock:
            job = self._store.change_job(uuid, lambda stored: change(self._live(stored)))
            self._progress.pop(uuid, None)
            self._kept.pop(uuid, None)
        self.publish(JobChanged(uuid))
        return job

    def keep(self, uuid: str, **fields: object) -> Job:
        """Give fields of a job that are empty what must not be lost: the first that each is given stays.

        Where it cannot be stored now (STORE_FAILURES) the board shows it as long as the daemon runs, and
        stores it with the job's next change.
        """
        with self._lock:
            for name, value in fields.items():
                self._kept.setdefault(uuid, {}).setdefault(name, value)
        return self.change(uuid, lambda job: job)

    def advance(self, uuid: str, event: JobEvent, error: JobError | None = None) -> Job:
        """Make a transition. Raises IllegalTransition; then nothing has changed."""
        before = self._store.job(uuid)

        def step(job: Job) -> Job:
            after = advance(job, event, error)
            return replace(after, end_time_us=now_us() if after.stage in TERMINAL else 0)

        job = self.change(uuid, step)
        if Stage.FAILED in (job.stage, before.stage) or job.stage is Stage.CANCELLED:
            self.publish(MachineChanged(job.machine_uuid))  # it shows why it does not go on
        if job.stage is not before.stage:
            if error is None:
                log.info("job %s: %s", uuid, job.stage.value)
            else:
                log.error("job %s: %s: %s: %s", uuid, job.stage.value, error.name, error.message)
        return job

    def cancel(self, uuid: str, *, keep_target: bool) -> Job:
        """Have the job end without a result. Raises NotFound, IllegalTransition; then nothing has changed.

        A proven job can no longer, once its machine is being registered: a domain would lose its disk.
        """

        def step(job: Job) -> Job:
            machine = self._store.machine(job.machine_uuid)
            if job.stage is Stage.PROVEN and machine.state not in _UNREGISTERED:
                state = f"proven and its machine {machine.state.value}"
                raise IllegalTransition(f"Job {uuid}", state, "cancel")
            return replace(advance(job, JobEvent.CANCEL), keep_target=keep_target)

        job = self.change(uuid, step)
        log.info("job %s: %s", uuid, job.stage.value)
        return job

    def hold(self, uuid: str, hold: Hold) -> Job:
        """Hold the job. Idempotent."""
        job = self._store.job(uuid)
        if hold in job.holds:
            return job
        log.info("job %s: held (%s)", uuid, hold.value)
        return self.change(uuid, lambda job: replace(job, holds=job.holds | {hold}))

    def release(self, uuid: str, hold: Hold) -> Job:
        """Take one hold away. Idempotent."""
        job = self._store.job(uuid)
        if hold not in job.holds:
            return job
        log.info("job %s: no longer held (%s)", uuid, hold.value)
        return self.change(uuid, lambda job: replace(job, holds=job.holds - {hold}))

    def release_hook(self, uuid: str) -> bool:
        """Take the hold `hook` away, so that the hooks run again; return whether it was there."""
        held = Hold.HOOK in self._store.job(uuid).holds
        self.release(uuid, Hold.HOOK)
        return held

    def settle_hold(self, uuid: str, hold: Hold, wanted: Callable[[Job], bool]) -> bool:
        """Have `hold` be there just where `wanted` says so of the job, asked at the moment of the change.

        Returns whether that changed anything.
        """

        def settled(job: Job) -> Job:
            return replace(job, holds=job.holds | {hold} if wanted(job) else job.holds - {hold})

        before = self._store.job(uuid)
        if settled(before).holds == before.holds:
            return False
        after = self.change(uuid, settled)
        changed = (hold in after.holds) is not (hold in before.holds)
        if changed:
            held = "held" if hold in after.holds else "no longer held"
            log.info("job %s: %s (%s)", uuid, held, hold.value)
        return changed

    def progress(self, uuid: str, progress: Progress) -> None:
        """Note the counters of this moment."""
        with self._lock:
            self._progress[uuid] = progress
        self.publish(JobChanged(uuid))

    def set_activity(self, uuid: str, activity: Activity, text: str = "") -> None:
        """Note what a job does now; `text` says since when and where it is stalled."""
        with self._lock:
            if self._activity.get(uuid) == (activity, text):
                return
            self._activity[uuid] = (activity, text)
        if activity is Activity.STALLED:
            log.warning("job %s: stalled: %s", uuid, text)
        self.publish(JobChanged(uuid))

    def activity(self, uuid: str) -> tuple[Activity, str]:
        """What a job does now, and where it is stalled."""
        with self._lock:
            return self._activity.get(uuid, (Activity.IDLE, ""))

    def change_machine(self, uuid: str, change: Callable[[Machine], Machine]) -> Machine:
        """Replace a machine by `change(machine)`."""
        machine = self._store.change_machine(uuid, change)
        self.publish(MachineChanged(uuid))
        return machine

    def start_machine(self, uuid: str) -> None:
        """Have a machine on its way, with the first of its jobs that is; idempotent."""
        self._advance_once(uuid, MachineEvent.START, lambda machine: machine.state is MachineState.PLANNED)

    def cancel_machine(self, uuid: str) -> None:
        """End a machine, with the last of its jobs that is cancelled; idempotent."""
        self._advance_once(uuid, MachineEvent.CANCELLED, self._is_over)

    def is_over(self, uuid: str) -> bool:
        """Whether all jobs of a machine are cancelled, and it is not yet."""
        return self._is_over(self._store.machine(uuid))

    def _is_over(self, machine: Machine) -> bool:
        jobs = (self._store.job(job_uuid) for job_uuid in machine.jobs)
        return machine.state in _CANCELLABLE and all(job.stage is Stage.CANCELLED for job in jobs)

    def _advance_once(self, uuid: str, event: MachineEvent, due: Callable[[Machine], bool]) -> None:
        """Make a transition where it is due: several jobs of a machine may think of it at once."""
        with self._lock:
            if due(self._store.machine(uuid)):
                self.advance_machine(uuid, event)

    def begin_registration(self, uuid: str, *, start: bool = False) -> Machine:
        """Have a machine that is ready registered, if all its disks still are proven; return it.

        `start`: its domain is started then, unless an earlier registration of it was about something else.
        """
        return self._hand_over(uuid, start=start, again=True) or self._store.machine(uuid)

    def cutover(
        self,
        uuid: str,
        *,
        start: bool,
        domain: DomainOptions | None = None,
        still: Callable[[Machine], bool] = lambda _: True,
    ) -> Machine:
        """Have a machine registered because the administrator says so; `start`: its domain started, too.

        `domain`: how it shall look from now on, if not as before; what may have been defined then goes first.
        `still` is asked at the moment of the change whether that can be. Raises NotFound, and
        IllegalTransition where the machine is not ready, or a disk no longer proven.
        """
        with self._lock:
            machine = self._store.machine(uuid)
            also: dict[str, Any] = {}
            if domain is not None:
                also = {"domain": domain, "redefines": machine.redefines or machine.handed_over}
            if not still(machine):
                state = f"{machine.state.value}, and not as it was when that was asked"
                raise IllegalTransition(f"Machine {machine.name}", state, "cutover")
            handed_over = self._hand_over(uuid, start=start, **also)
        if handed_over is None:
            now = self._store.machine(uuid)
            raise IllegalTransition(f"Machine {now.name}", now.state.value, "cutover")
        return handed_over

    def _hand_over(self, uuid: str, *, start: bool, again: bool = False, **also: Any) -> Machine | None:
        with self._lock:  # as `cancel` has it: one of the two comes first
            machine = self._store.machine(uuid)
            jobs = [self._store.job(job_uuid) for job_uuid in machine.jobs]
            if machine.state is not MachineState.READY or any(job.stage is not Stage.PROVEN for job in jobs):
                return None
            start = machine.start if again and machine.handed_over else start
            also |= {"handed_over": True, "start": start}
            return self.advance_machine(uuid, MachineEvent.REGISTER, None, **also)

    def advance_machine(
        self, uuid: str, event: MachineEvent, error: JobError | None = None, **also: Any
    ) -> Machine:
        """Make a transition of a machine, and with it `also` change fields that go along with it.

        Raises IllegalTransition; then nothing has changed.
        """
        machine = self.change_machine(
            uuid, lambda stored: replace(advance_machine(stored, event, error), **also)
        )
        if error is None:
            log.info("machine %s: %s", machine.name, machine.state.value)
        else:
            log.error("machine %s: %s: %s: %s", machine.name, machine.state.value, error.name, error.message)
        return machine
