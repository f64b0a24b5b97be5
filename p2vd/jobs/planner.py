"""Plans, and what a plan becomes: a machine and its jobs."""

import threading
import uuid as uuids
from collections.abc import Mapping, Sequence

from p2vd.jobs.contents_keeper import FRESH_S
from p2vd.jobs.services import Services
from p2vd.model.disk import Source
from p2vd.model.errors import InvalidArgument, NotFound, Reason, Refused
from p2vd.model.inventory import Inventory
from p2vd.model.job import Caller, Job, Machine, Stage
from p2vd.model.plan import Plan
from p2vd.planning.contents import under_examination
from p2vd.planning.plan import PlanRequest, make_plan, recheck
from p2vd.policy.match import first_match
from p2vd.system.clock import now_us

# A call is answered within a second.
_LOOK_AGAIN_S = 0.8


class Planner:
    """Thread-safe. `lock` is held while a machine is made: no source gets two jobs."""

    def __init__(self, services: Services, lock: threading.RLock) -> None:
        self._services = services
        self._board = services.board
        self._lock = lock

    def inventory(self) -> Inventory:
        """What the last scan saw, with what is known of the disks' contents."""
        return self._services.contents.attach(self._services.inventory.current())

    def plan(self, source_ids: Sequence[str], options: Mapping[str, object]) -> Plan:
        """Return what would be done, and keep it. Raises InvalidArgument, NotFound, Refused."""
        if len(source_ids) != 1:
            raise InvalidArgument("sources", "name exactly one source: machines of many disks come later")
        request = PlanRequest(
            source_id=source_ids[0],
            machine_name=str(options.get("name", "")),
            source_offline=bool(options.get("source-offline", False)),
        )
        self._look_again(request.source_id, request.machine_name)
        plan = make_plan(request, self.inventory(), self._services.policies())
        self._refuse_second_job(plan)
        return self._services.store.put_plan(plan)

    def make_machine(self, plan_id: str, caller: Caller) -> Machine:
        """Make the jobs of a plan, durably. Raises NotFound, PlanOutdated, Refused."""
        plan = self._services.store.plan(plan_id)
        self._look_again(plan.source.id, plan.machine_name, FRESH_S)
        with self._lock:
            self._refuse_second_job(plan)
            recheck(plan, self.inventory(), self._services.policies())
            job_uuid = str(uuids.uuid4())
            machine = Machine(str(uuids.uuid4()), plan.machine_name, jobs=(job_uuid,), plan_id=plan.id)
            job = Job(
                job_uuid,
                machine.uuid,
                plan,
                started_by=caller,
                offline_declared_us=now_us() if plan.source_offline else 0,
                start_time_us=now_us(),
            )
            self._services.contents.release(plan.source.id)
            self._board.add(machine, (job,))
        return machine

    def may_touch(self, source: Source, machine_name: str = "") -> bool:
        """Whether a policy matches a source that nobody uses: any other is never touched."""
        rule = first_match(self._services.policies(), source, machine_name)
        return not source.reasons and rule is not None

    def held_sources(self) -> frozenset[str]:
        """The ids of the sources that jobs have."""
        ended = (Stage.PROVEN, Stage.CANCELLED)
        return frozenset(job.plan.source.id for job in self._board.jobs() if job.stage not in ended)

    def _look_again(self, source_id: str, machine_name: str, max_age_s: float = 0.0) -> None:
        """Have the source's contents read anew unless they just were. Raises Refused while that lasts.

        Not where the inventory is stale: then it is not known who uses the source, and no plan is made.
        """
        inventory = self._services.inventory.current()
        try:
            source = inventory.source(source_id)
        except NotFound:
            return
        touchable = not inventory.stale_since_us and self.may_touch(source, machine_name)
        if source.id in self.held_sources() or not touchable:
            return
        if not self._services.contents.refresh(source, _LOOK_AGAIN_S, max_age_s):
            raise Refused(f"Source {source}", (under_examination(source),))

    def _refuse_second_job(self, plan: Plan) -> None:
        for job in self._board.jobs():
            if job.plan.source.id == plan.source.id and job.stage not in (Stage.PROVEN, Stage.CANCELLED):
                raise Refused(
                    f"Source {plan.source.id}",
                    (
                        Reason(
                            "job-exists",
                            f"Job {job.uuid} has it already and is {job.stage.value}: "
                            f"retry it or cancel it (p2vctl cancel {job.uuid}).",
                        ),
                    ),
                )
