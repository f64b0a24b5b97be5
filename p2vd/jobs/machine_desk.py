"""What is asked of machines as a whole (cutover, rollback, accept), and what they do by themselves."""

import logging
import threading
import time
from dataclasses import replace
from functools import partial

from p2vd.jobs.again import Again
from p2vd.jobs.control import Interrupted
from p2vd.jobs.cutover import Seen, choose, options_of
from p2vd.jobs.machine_step import PASSING, go_on, waits_for_cutover
from p2vd.jobs.services import Services
from p2vd.jobs.store import STORE_FAILURES
from p2vd.jobs.task import Task
from p2vd.jobs.transitions import MachineEvent
from p2vd.model.cutover import CutoverChoice, CutoverRequest
from p2vd.model.errors import IllegalTransition, NotFound
from p2vd.model.job import Caller, Job, JobError, Machine, MachineState, Stage
from p2vd.system.threads import NoThread, start

log = logging.getLogger(__name__)

_FIRST_WAIT_S = 2.0
_PASSING = (*PASSING, OSError)
"""What goes by: OSError is this host's own disk or processes, as for a job's thread."""
_UNDER_WAY = frozenset(
    {
        *(MachineState.COPYING, MachineState.READY, MachineState.REGISTERING),
        *(MachineState.ROLLING_BACK, MachineState.ACCEPTING),
    }
)


class MachineDesk:
    """Thread-safe. A machine has one thread at a time, while something is done for it; no verb waits."""

    def __init__(
        self, services: Services, first_wait_s: float = _FIRST_WAIT_S, again: Again | None = None
    ) -> None:
        """`again` begins what the host has no thread for."""
        self._services = services
        self._again = again or Again()
        self._board = services.board
        self._first_wait_s = first_wait_s
        self._lock = threading.Lock()
        self._tasks: dict[str, Task] = {}
        self._stopped = False
        self._uris: dict[str, str] = {}

    def start(self) -> None:
        """Go on with every machine that was under way, without being asked."""
        for machine in self._board.machines():
            if machine.state in _UNDER_WAY or self._is_left_behind(machine):
                self.nudge(machine.uuid)

    def _is_left_behind(self, machine: Machine) -> bool:
        """Whether no job is left that would have a planned machine on its way: a daemon died too early."""
        if machine.state is not MachineState.PLANNED:
            return False
        return all(job.stage is Stage.PROVEN and job.finished for job in self._board.machine_jobs(machine))

    def hypervisor(self, machine: Machine) -> str:
        """Return who takes a machine, as policies name it; "" while its plan cannot be read.

        Of a plan, which never changes, it is read once: whoever lists machines asks for all of them.
        """
        if machine.domain is not None:
            return machine.domain.uri
        if machine.plan_id not in self._uris:
            try:
                self._uris[machine.plan_id] = self._services.store.plan(machine.plan_id).domain.uri
            except (NotFound, *STORE_FAILURES):
                return ""
        return self._uris[machine.plan_id]

    def stop(self, timeout_s: float) -> None:
        """End what waits to be tried again; a step under way is waited for so long, and else left behind.

        What it was about is durable: the daemon's next start does it again.
        """
        with self._lock:
            self._stopped = True
            tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel.set()
        end = time.monotonic() + timeout_s
        for task in tasks:
            if task.thread is not None:
                task.thread.join(max(0.0, end - time.monotonic()))

    def nudge(self, uuid: str) -> None:
        """Have the machine go on from the state that it is in; a wait to be tried again ends."""
        task = Task()

        def run() -> None:
            if previous is not None:
                previous.end()
            self._run(uuid, task)

        with self._lock:
            if self._stopped:
                return
            previous = self._tasks.get(uuid)
            try:
                task.thread = start(run, f"machine-{uuid[:8]}")
            except NoThread as error:
                self._again.owe(f"machine {uuid}", partial(self.nudge, uuid), error)
            else:
                self._tasks[uuid] = task

    def _run(self, uuid: str, task: Task) -> None:
        def step() -> None:
            if not task.cancel.is_set():  # else a wait was cut short
                go_on(self._services, uuid, task.cancel)

        def wait(error: BaseException | None) -> None:
            log.warning("machine %s: tried again by itself: %s", uuid, error)

        try:
            task.repeat(step, _PASSING, wait, self._first_wait_s)
        except (*_PASSING, Interrupted):
            pass  # cancelled: whoever did that has the machine go on, or the daemon's next start does
        except Exception:
            if not self._stopped:  # else it met what the daemon has closed
                # A defect of ours: the state is durable, the log says what, a restart goes on.
                log.exception("machine %s: its thread ended", uuid)

    def job_ended(self, uuid: str) -> None:
        """Register the job's machine, if it was the last disk to be proven."""
        job = self._board.job(uuid)
        if job.finished and self._board.machine(job.machine_uuid).state is MachineState.COPYING:
            self.nudge(job.machine_uuid)

    # ---- verbs -------------------------------------------------------------------------------

    def cutover(self, uuid: str, request: CutoverRequest, caller: Caller) -> None:
        """Register a machine that is ready, as is asked. Raises NotFound, and as `choose` does."""
        seen, start = self._board.machine(uuid), request.start
        if not request.chooses:
            start = options_of(self._services, seen).started_by_p2vd if start is None else start
            self._go(self._board.cutover(uuid, start=start), "cutover", caller)
            return
        choice = choose(self._services, seen, request)
        machine = self._board.cutover(
            uuid,
            start=choice.start,
            domain=choice.options,
            still=lambda now: Seen.of(now) == Seen.of(seen),
        )
        how = f'as the policy "{choice.policy}" says now' if choice.policy else "otherwise than before"
        log.info(
            "machine %s: registered %s, conversion: %s", machine.name, how, choice.options.conversion.value
        )
        self._go(machine, "cutover", caller)

    def plan_cutover(self, uuid: str, request: CutoverRequest) -> CutoverChoice:
        """Return the virtual machine that a cutover would come to. Raises as `cutover`."""
        return choose(self._services, self._board.machine(uuid), request)

    def rollback(self, uuid: str, caller: Caller) -> None:
        """Undefine a registered machine; its volumes stay. Raises NotFound, IllegalTransition."""
        self._go(self._board.advance_machine(uuid, MachineEvent.ROLL_BACK), "rollback", caller)

    def accept(self, uuid: str, caller: Caller) -> None:
        """Give up a registered machine's way back: remove its sources. Raises NotFound, IllegalTransition."""
        self._go(self._board.advance_machine(uuid, MachineEvent.ACCEPT), "accept", caller)

    def retry(self, machine: Machine) -> bool:
        """Register a machine again that is ready; False: it is not. Raises IllegalTransition."""
        if machine.state is not MachineState.READY:
            return False
        if waits_for_cutover(machine):
            state = f"ready and waits for its cutover (p2vctl cutover {machine.name})"
            raise IllegalTransition(f"Machine {machine.name}", state, "retry")
        self.nudge(machine.uuid)
        return True

    def _go(self, machine: Machine, verb: str, caller: Caller) -> None:
        log.info("machine %s: %s by uid %d", machine.name, verb, caller.uid)
        self.nudge(machine.uuid)

    # ---- what is seen ------------------------------------------------------------------------

    def shown(self, machine: Machine) -> Machine:
        """Return the machine with the cause that keeps it from going on, where that is one of its disks."""
        if machine.error is not None or machine.state not in (MachineState.COPYING, MachineState.READY):
            return machine
        jobs = self._board.machine_jobs(machine)
        return replace(machine, error=next(filter(None, map(_obstacle, jobs)), None))


def _obstacle(job: Job) -> JobError | None:
    disk = f"Disk {job.plan.number} of {job.plan.of} ({job.plan.source.id})"
    if job.stage is Stage.FAILED and job.error is not None:
        return JobError(job.error.name, f"{disk} failed: {job.error.message}")
    if job.stage is Stage.CANCELLED:
        text = f"{disk} was cancelled, and the machine needs all its disks. Cancel it, and make a new plan."
        return JobError("Cancelled", text)
    return None
