"""The runners of jobs: one a job at most, and what is asked of a job is never lost on a runner that ends."""

import threading
import time
from collections.abc import Callable
from functools import partial

from p2vd.jobs.again import Again
from p2vd.jobs.runner import JobRunner
from p2vd.jobs.services import Services
from p2vd.system.threads import NoThread


class Crew:
    """Thread-safe."""

    def __init__(self, services: Services, on_end: Callable[[str], None], again: Again | None = None) -> None:
        """`on_end` is called with a job's UUID, on its own thread, when it has nothing left to do.

        `again` starts runners that the host has no thread for.
        """
        self._again = again or Again()
        self._services = services
        self._on_end = on_end
        self._lock = threading.Lock()
        self._runners: dict[str, JobRunner] = {}
        self._stopped = False

    def nudge(self, uuid: str) -> None:
        """Have the job look at its stage and holds now, and do what there is to do."""
        with self._lock:
            runner = self._runners.get(uuid)
            if runner is not None and runner.alive:
                runner.signals.nudge()
            elif not self._stopped:
                runner = JobRunner(self._services, uuid, lambda: self._retire(uuid), self._on_end)
                try:
                    runner.start()
                except NoThread as error:
                    self._again.owe(f"job {uuid}", partial(self.nudge, uuid), error)
                else:
                    self._runners[uuid] = runner  # in time: to end it waits for our lock

    def _retire(self, uuid: str) -> bool:
        """Let a runner that sees nothing left to do end; False: it has been nudged since it looked.

        In one step with `nudge`: a cancel or a retry that comes while a runner ends meets either this
        one, which looks again, or none, and gets another.
        """
        with self._lock:
            if self._runners[uuid].signals.take_nudge():
                return False
            del self._runners[uuid]
            return True

    def stop(self, timeout_s: float) -> None:
        """Have every worker commit a checkpoint and end; give up on those that are stuck by then.

        Returns a second after `timeout_s` at the latest. No runner is started any more.
        """
        with self._lock:
            self._stopped = True
            runners = list(self._runners.values())
        for runner in runners:
            runner.signals.stop()
        end = time.monotonic() + timeout_s
        stuck = [runner for runner in runners if not runner.join(max(0.0, end - time.monotonic()))]
        for runner in stuck:
            runner.signals.give_up()
        for runner in stuck:
            runner.join(1.0)
