"""How finished jobs leave the bus: by a word, or by their age. The store keeps them, and their receipts."""

import logging
from collections.abc import Iterable
from dataclasses import replace

from p2vd.jobs.board import Board
from p2vd.jobs.events import JobRemoved, MachineChanged
from p2vd.model.errors import IllegalTransition, NotFound
from p2vd.model.job import Job, Machine, MachineState, Stage

log = logging.getLogger(__name__)

_DAY_US = 86_400_000_000
_HANDED_OVER = frozenset({MachineState.REGISTERED, MachineState.ACCEPTED, MachineState.ROLLED_BACK})
_OVER = frozenset({MachineState.ACCEPTED, MachineState.ROLLED_BACK, MachineState.CANCELLED})


class Departures:
    """Which jobs and machines are still on the bus. Thread-safe."""

    def __init__(self, board: Board, keep_days: int) -> None:
        """`keep_days` 0: none leaves by itself."""
        self._board = board
        self._keep_us = keep_days * _DAY_US
        # Machines that went on without a job on the bus: whoever ends them is still to hear how that went.
        self._awaited: set[str] = set()
        self._heard: set[str] = set()

    def jobs(self) -> tuple[Job, ...]:
        """The jobs on the bus, oldest first."""
        return tuple(job for job in self._board.jobs() if not job.removed_us)

    def job(self, uuid: str) -> Job:
        """One job on the bus. Raises NotFound."""
        job = self._board.job(uuid)
        if job.removed_us:
            raise NotFound("job", uuid)
        return job

    def machines(self) -> tuple[Machine, ...]:
        """The machines on the bus, with the jobs that are.

        One whose story is over goes with its last; where that went before, a while after the story's end.
        """
        present = {job.uuid for job in self.jobs()}
        return tuple(self._among(present, self._board.machines()))

    def machine(self, uuid: str) -> Machine:
        """One machine on the bus. Raises NotFound."""
        machine = self._board.machine(uuid)
        present = {job.uuid for job in self._board.machine_jobs(machine) if not job.removed_us}
        for here in self._among(present, (machine,)):
            return here
        raise NotFound("machine", uuid)

    def remove(self, uuid: str, now_us: int) -> None:
        """Take a finished job off the bus. Raises NotFound, IllegalTransition: it is not finished."""
        self.job(uuid)

        def step(job: Job) -> Job:
            machine = self._board.machine(job.machine_uuid)
            if not _is_finished(job, machine):
                state = f"{job.stage.value} and its machine {machine.state.value}"
                raise IllegalTransition(f"Job {uuid}", state, "removal")
            return job if job.removed_us else replace(job, removed_us=now_us)

        job = self._board.change(uuid, step)
        log.info("job %s: left the bus", uuid)
        self._board.publish(JobRemoved(uuid, "done" if job.stage is Stage.PROVEN else "cancelled"))

    def leave(self, now_us: int) -> None:
        """Take the jobs off the bus that have been finished for as long as is configured."""
        self._let_awaited_go()
        if not self._keep_us:
            return
        for job in self.jobs():
            machine = self._board.machine(job.machine_uuid)
            if _is_finished(job, machine) and 0 < job.end_time_us < now_us - self._keep_us:
                self.remove(job.uuid, now_us)

    def _among(self, present: set[str], machines: Iterable[Machine]) -> Iterable[Machine]:
        for machine in machines:
            jobs = tuple(uuid for uuid in machine.jobs if uuid in present)
            if not jobs and machine.state not in _OVER:
                self._awaited.add(machine.uuid)
            if jobs or not machine.jobs or machine.uuid in self._awaited:
                yield replace(machine, jobs=jobs)

    def _let_awaited_go(self) -> None:
        """Take machines off the bus that were over at the last call: they were there for a while since."""
        for uuid in self._heard:
            self._awaited.discard(uuid)
            self._board.publish(MachineChanged(uuid))
        self._heard = {uuid for uuid in tuple(self._awaited) if self._board.machine(uuid).state in _OVER}


def _is_finished(job: Job, machine: Machine) -> bool:
    if job.stage is Stage.CANCELLED:
        return True
    return job.stage is Stage.PROVEN and machine.state in _HANDED_OVER
