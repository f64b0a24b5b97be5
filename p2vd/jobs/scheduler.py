"""Lets as many jobs work as the limits allow: the others have the hold `slot`, and are told why."""

import threading
from collections.abc import Callable, Iterable

from p2vd.jobs.again import Again
from p2vd.jobs.board import Board
from p2vd.jobs.events import Event, InventoryChanged, JobAdded, JobChanged
from p2vd.jobs.inventory_keeper import InventoryKeeper
from p2vd.jobs.store import STORE_FAILURES
from p2vd.jobs.transitions import TERMINAL
from p2vd.model.disk import Source
from p2vd.model.job import Hold, Job, Stage
from p2vd.model.limits import Limits, Waiting
from p2vd.model.plan import LvTarget
from p2vd.planning.schedule import Kind, Resource, Work, schedule
from p2vd.system.threads import NoThread, start

_NOT_MINE = TERMINAL | {Stage.CANCELLING}
_BEFORE_SCAN = "This host has not been looked at yet."


class Scheduler:
    """Hears the board; decides again whenever a job comes, ends, or gets or loses a hold. Thread-safe.

    A job without holds works; which ones do is so in the store, and a restart changes nothing. What a
    job uses is looked up until it works, and stays the same while it does: paths that come and go
    stop nobody.
    """

    def __init__(
        self,
        board: Board,
        inventory: InventoryKeeper,
        limits: Limits,
        nudge: Callable[[str], None],
        again: Again | None = None,
    ) -> None:
        """`nudge` has a job look at its holds; `again` tries what could not be stored."""
        self._owed = again or Again()
        self._board = board
        self._inventory = inventory
        self._limits = limits
        self._nudge = nudge
        self._lock = threading.RLock()
        self._deciding = False
        self._again = False
        self._seen: dict[str, tuple[Stage, frozenset[Hold]]] = {}
        self._uses: dict[str, frozenset[Resource]] = {}
        self._working: frozenset[str] | None = None
        self._waiting: dict[str, Waiting] = {}

    def hear(self, event: Event) -> None:
        """Decide again where `event` may change something: cheap where it does not."""
        match event:
            case JobAdded(uuid) | JobChanged(uuid):  # of many that come at once, the first brings all
                job = self._board.job(uuid)
                if self._seen.get(uuid) != (job.stage, job.holds):
                    self.decide()
            case InventoryChanged() if self._waiting or self._working is None:
                self.decide()

    def decide(self) -> None:
        """Hold those that must wait, and let the others work; what cannot be stored now is soon."""
        with self._lock:
            if self._deciding:  # by what this very decision changes
                self._again = True
                return
            self._deciding = True
            try:
                self._again = True
                while self._again:
                    self._again = False
                    self._decide()
            except STORE_FAILURES as error:
                self._seen.clear()  # the next event decides, too
                self._owed.owe("places of jobs", self._decide_aside, error)
            finally:
                self._deciding = False

    def _decide_aside(self) -> None:
        """On a thread of its own: it waits for the disk."""
        try:
            start(self.decide, "places")
        except NoThread as error:
            self._owed.owe("places of jobs", self._decide_aside, error)

    def waiting(self, uuid: str) -> Waiting | None:
        """What a job waits for that has nothing against it but the limits; None: it does not."""
        return self._waiting.get(uuid)

    def _decide(self) -> None:
        jobs = self._board.jobs()
        self._seen = {job.uuid: (job.stage, job.holds) for job in jobs}
        ready = [job for job in jobs if job.stage not in _NOT_MINE and not job.holds - {Hold.SLOT}]
        if not self._inventory.scanned:
            # What jobs use is not known: those that worked go on, and nobody is let in.
            held = [job for job in ready if Hold.SLOT in job.holds]
            self._tell({job.uuid: Waiting(job.uuid, 0, _BEFORE_SCAN) for job in held})
            return
        if self._working is None:  # the first time: who worked when the daemon stopped
            self._working = frozenset(job.uuid for job in ready if Hold.SLOT not in job.holds)
        self._look_up(ready)
        works = [self._work(job) for job in ready]
        decided = schedule(
            [work for work in works if work.job in self._working],
            [work for work in works if work.job not in self._working],
            self._limits,
        )
        self._working = frozenset(decided.running)
        self._tell({each.job: each for each in decided.waiting})
        for job in ready:
            self._hold(job, held=job.uuid not in self._working)

    def _hold(self, job: Job, *, held: bool) -> None:
        if (Hold.SLOT in job.holds) is held:
            return
        self._seen[job.uuid] = (job.stage, job.holds ^ {Hold.SLOT})
        if self._board.settle_hold(job.uuid, Hold.SLOT, lambda now: held and now.stage not in _NOT_MINE):
            self._nudge(job.uuid)

    def _tell(self, waiting: dict[str, Waiting]) -> None:
        before, self._waiting = self._waiting, waiting
        for uuid in before.keys() | waiting.keys():
            if before.get(uuid) != waiting.get(uuid):
                self._board.publish(JobChanged(uuid))

    def _look_up(self, ready: Iterable[Job]) -> None:
        known = self._uses
        self._uses = {}
        by_id, working = self._inventory.current().by_id, self._working or frozenset()
        # What is on the way of a LUN is the same for all that have the same ways: one set for them.
        alike: dict[frozenset[Resource], frozenset[Resource]] = {}
        for job in ready:
            source = by_id.get(job.plan.source.id)
            if job.uuid in known and (job.uuid in working or source is None):
                used = known[job.uuid]
            else:
                used = uses(job, source)
            self._uses[job.uuid] = alike.setdefault(used, used)

    def _work(self, job: Job) -> Work:
        return Work(job.uuid, self._uses[job.uuid], job.plan.copy.priority)


def uses(job: Job, source: Source | None) -> frozenset[Resource]:
    """Return what is limited of what a job uses; of a source that is not there nothing is known."""
    target = job.plan.target
    found = set()
    if isinstance(target, LvTarget):
        found.add(Resource(Kind.VOLUME_GROUP, target.vg_uuid, target.vg_name))
    for path in source.paths if source else ():
        if array := path.target_iqn or path.target_wwnn:
            found.add(Resource(Kind.ARRAY, array))
        if portal := str(path.portal or path.target_wwpn):
            found.add(Resource(Kind.PORTAL, portal))
    return frozenset(found)
