"""What others want of a running job: to look again, to stop; and waits that such wishes end."""

import threading
from collections.abc import Callable

from p2vd.jobs.board import Board
from p2vd.model.job import Activity, Stage


class Signals:
    """Between the engine and one job's thread. Thread-safe."""

    def __init__(self) -> None:
        self._nudge = threading.Event()
        self._give_up = threading.Event()
        self.stopping = False

    def nudge(self) -> None:
        """Have the job look at its stage and holds now."""
        self._nudge.set()

    def stop(self) -> None:
        """The daemon stops: commit a checkpoint and end."""
        self.stopping = True
        self._nudge.set()

    def give_up(self) -> None:
        """The daemon stops now: leave a worker that does not end to itself; its descriptors fence it."""
        self._give_up.set()
        self._nudge.set()

    def gave_up_waiting(self) -> bool:
        """Whether `give_up` was called."""
        return self._give_up.is_set()

    def pause(self, seconds: float | None) -> None:
        """Wait, at most until somebody wants something; None: as long as nobody does."""
        if self._nudge.wait(seconds):
            self._nudge.clear()

    def take_nudge(self) -> bool:
        """Whether somebody wanted something since this was last asked or a pause was cut short."""
        nudged = self._nudge.is_set()
        self._nudge.clear()
        return nudged

    def interrupted(self, board: Board, uuid: str) -> bool:
        """Whether the present step shall end: the daemon stops, or the job was cancelled."""
        job = board.job(uuid)
        return self.stopping or job.stage is Stage.CANCELLING

    def late(self, board: Board, uuid: str) -> Callable[[str], None]:
        """Return what a change of LVM calls when it is past its deadline: the job says `stalled`."""
        return lambda unit: board.set_activity(
            uuid,
            Activity.STALLED,
            f"the command in p2vd-change-{unit}.service does not end; it is not killed",
        )
