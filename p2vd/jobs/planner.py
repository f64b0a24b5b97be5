"""Plans, and what a plan becomes: a machine and its jobs."""

import contextlib
import threading
import time
import uuid as uuids
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from p2vd.jobs.contents_keeper import FRESH_S
from p2vd.jobs.late_changes import with_late_changes
from p2vd.jobs.places import CALL_S, claims, with_places
from p2vd.jobs.services import Services
from p2vd.model.disk import Source
from p2vd.model.domain import Conversion
from p2vd.model.errors import InvalidArgument, NotFound, Reason, Refused
from p2vd.model.inventory import Inventory
from p2vd.model.job import Caller, Job, Machine, MachineState, Stage
from p2vd.model.passport import Passport
from p2vd.model.plan import LunTarget, Plan
from p2vd.planning.contents import under_examination
from p2vd.planning.luns import describes
from p2vd.planning.plan import PlanRequest, make_plan, recheck
from p2vd.planning.reservations import reservations, with_reservations
from p2vd.policy.match import first_match
from p2vd.policy.names import default_machine_name
from p2vd.registration.conversion import Converter
from p2vd.registration.errors import ConverterMissing
from p2vd.system.clock import now_us

# A call is answered within a second.
_LOOK_AGAIN_S = 0.8

_UNSETTLED = frozenset(
    {
        *(MachineState.PLANNED, MachineState.COPYING, MachineState.READY, MachineState.REGISTERING),
        *(MachineState.ROLLING_BACK, MachineState.ACCEPTING),
    }
)


@dataclass(frozen=True)
class WaveStart:
    """A machine begun by its wave: the UUID that it shall have, and the priority of its jobs."""

    machine_uuid: str
    priority: int


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
        """Return what would be done, and keep it. Raises InvalidArgument, NotFound, Refused.

        The option `machine` names a machine's record, whose disks come before the others of `source_ids`.
        """
        record = str(options.get("machine", ""))
        if not source_ids and not record:
            raise InvalidArgument("sources", "name at least one source, or a machine's record.")
        passport = self._services.store.passport(record) if record else None
        request = PlanRequest(
            source_ids=tuple(source_ids),
            machine_name=str(options.get("name", "")),
            source_offline=bool(options.get("source-offline", False)),
            passport=passport,
        )
        wwids = tuple(disk.wwid for disk in passport.disks if disk.wwid) if passport else ()
        name = request.machine_name or record
        ids = (*wwids, *source_ids)
        # The disks and the directories are looked at at once: one after the other, what is known of the
        # first would be too old again when the second has answered.
        with_places(self._services, self.inventory(), ids, name, wait_s=0.0)
        # Of one disk nothing older than the call counts. Of many, what was read for the call before is
        # taken, so that asking again comes to an end.
        self._look_again(ids, name, 0.0 if len(ids) == 1 else FRESH_S)
        # First of all: of a disk that has a job, the place that this job takes would be what is refused.
        self._refuse_second_job(self._known(ids), name)
        plan = self._make_plan(request, ids, name)
        end_s = time.monotonic() + _LOOK_AGAIN_S
        while self._look_at_targets(plan, end_s):
            before, plan = plan, self._make_plan(request, ids, name)
            if plan.id == before.id:
                break
        self._refuse_without_converter(plan)
        return self._services.store.put_plan(plan)

    def _make_plan(self, request: PlanRequest, ids: Sequence[str], name: str) -> Plan:
        inventory = with_places(self._services, self.with_reservations_of_jobs(), ids, name, wait_s=CALL_S)
        inventory = with_late_changes(inventory, self._services.volumes.late)
        return make_plan(request, inventory, self._services.policies(), self.passports())

    def _look_at_targets(self, plan: Plan, end_s: float) -> bool:
        """Have the LUNs that were chosen looked at, unless they just were; whether that tells more of any.

        So a LUN that is not empty is passed over by the plan, and is no job that fails. What takes longer
        than `end_s` is left to the job, which looks again in any case.
        """
        sources = self._services.inventory.current().by_id
        luns = [sources.get(disk.target.id) for disk in plan.disks if isinstance(disk.target, LunTarget)]
        looked = False
        for lun in luns:
            left_s = end_s - time.monotonic()
            if lun is not None and left_s > 0 and self._services.contents.refresh(lun, left_s, FRESH_S):
                looked = True
        return looked

    def make_machine(self, plan_id: str, caller: Caller, wave: WaveStart | None = None) -> Machine:
        """Make the jobs of a plan, all at once and durably. Raises NotFound, PlanOutdated, Refused.

        Of a wave: what jobs take that have not made their volumes yet is taken already, and the volume groups
        are those that were shown.
        """
        plan = self._services.store.plan(plan_id)
        ids = [disk.source.id for disk in plan.disks]
        self._look_again(ids, plan.machine_name, FRESH_S)
        with self._lock:
            self._refuse_second_job(ids, plan.machine_name)
            self._refuse_without_converter(plan)
            passports = self.passports()
            inventory = with_places(
                self._services, self.with_reservations_of_jobs(), ids, plan.machine_name, wait_s=CALL_S
            )
            recheck(plan, inventory, self._services.policies(), passports, pinned=wave is not None)
            machine_uuid, now = wave.machine_uuid if wave else str(uuids.uuid4()), now_us()
            jobs = tuple(
                Job(
                    str(uuids.uuid4()),
                    machine_uuid,
                    replace(disk, copy=replace(disk.copy, priority=wave.priority)) if wave else disk,
                    started_by=caller,
                    offline_declared_us=now if disk.source_offline else 0,
                    start_time_us=now,
                )
                for disk in plan.disks
            )
            machine = Machine(
                machine_uuid,
                plan.machine_name,
                jobs=tuple(job.uuid for job in jobs),
                plan_id=plan.id,
                hardware=passports.get(plan.passport or plan.machine_name),
                cutover=plan.cutover,
            )
            for disk in plan.disks:
                self._services.contents.release(disk.source.id)
                if isinstance(disk.target, LunTarget):
                    self._services.contents.release(disk.target.id)
            self._board.add(machine, jobs)
        return machine

    def with_reservations_of_jobs(self) -> Inventory:
        """The inventory with what all jobs still need taken from pools and volume groups."""
        return with_reservations(self.inventory(), reservations(self._board.jobs()))

    def passports(self) -> dict[str, Passport]:
        """The records of machines, by name."""
        return {passport.name: passport for passport in self._services.store.passports()}

    def may_touch(self, source: Source, machine_name: str = "") -> bool:
        """Whether a policy matches a source that nobody uses: any other is never touched."""
        rule = first_match(self._services.policies(), source, machine_name)
        return not source.reasons and rule is not None

    def held_sources(self) -> frozenset[str]:
        """The ids of the sources that jobs have, or that are being removed from this host."""
        held = frozenset(job.plan.source.id for job in self._board.jobs() if self._has(job))
        return held | claims(self._board).keys()

    def may_be_target(self, source: Source) -> bool:
        """Whether a policy describes a LUN as one that may be filled, and nobody uses it."""
        rules = self._services.policies().rules
        return not source.reasons and any(describes(rule, source) for rule in rules)

    def _has(self, job: Job) -> bool:
        if job.stage is Stage.PROVEN:
            return self._board.machine(job.machine_uuid).state is MachineState.ACCEPTING
        return job.stage is not Stage.CANCELLED

    def _look_again(self, source_ids: Sequence[str], machine_name: str, max_age_s: float) -> None:
        """Have the sources' contents read anew unless they just were. Raises Refused while that lasts.

        Not where the inventory is stale: then it is not known who uses a source, and no plan is made.
        """
        inventory = self._services.inventory.current()
        held = self.held_sources()
        end_s = time.monotonic() + _LOOK_AGAIN_S
        unread: list[Source] = []
        for source_id in dict.fromkeys(source_ids):
            try:
                source = inventory.source(source_id)
            except (NotFound, Refused):
                continue  # the plan says why
            machine_name = machine_name or default_machine_name(source)
            touchable = not inventory.stale_since_us and self.may_touch(source, machine_name)
            if source.id in held or not touchable:
                continue
            # A look that is not waited for goes on, and is there when the caller asks again.
            left_s = max(0.0, end_s - time.monotonic())
            if not self._services.contents.refresh(source, left_s, max_age_s):
                unread.append(source)
        if unread:
            subject = f"Source {unread[0]}" if len(unread) == 1 else "The plan"
            raise Refused(subject, tuple(under_examination(source) for source in unread))

    def _known(self, names: Sequence[str]) -> list[str]:
        """The ids of those sources that are attached; of the others the plan says why not."""
        inventory, found = self._services.inventory.current(), []
        for name in names:
            with contextlib.suppress(NotFound, Refused):
                found.append(inventory.source(name).id)
        return found

    def _refuse_second_job(self, source_ids: Sequence[str], machine_name: str) -> None:
        wanted = set(source_ids)
        reasons = tuple(
            self._exists(job)
            for job in self._board.jobs()
            if job.plan.source.id in wanted and self._needed(job)
        )
        if reasons:
            subject = f"Source {source_ids[0]}" if len(wanted) == 1 else f"Machine {machine_name}"
            raise Refused(subject, reasons)

    def _refuse_without_converter(self, plan: Plan) -> None:
        """Tell of a program that is missing now, not when all was copied."""
        if plan.domain.conversion is not Conversion.NONE:
            try:
                Converter(self._services.commands).program()
            except ConverterMissing as error:
                reason = Reason("converter-missing", str(error))
                raise Refused(f"Machine {plan.machine_name}", (reason,)) from None

    def busy(self) -> dict[str, Reason]:
        """Why sources cannot have a job, by their ids: they have one."""
        return {job.plan.source.id: self._exists(job) for job in self._board.jobs() if self._needed(job)}

    def _exists(self, job: Job) -> Reason:
        return Reason(
            "job-exists",
            f"Job {job.uuid} has {job.plan.source.id} already and is {self._doing(job)}. {_way_out(job)}",
        )

    def _needed(self, job: Job) -> bool:
        """Whether a job still has need of its source, or its machine of what was copied from it."""
        if job.stage is not Stage.PROVEN:
            return job.stage is not Stage.CANCELLED
        return self._board.machine(job.machine_uuid).state in _UNSETTLED

    def _doing(self, job: Job) -> str:
        if job.stage is not Stage.PROVEN:
            return str(job.stage.value)
        machine = self._board.machine(job.machine_uuid)
        return f"{job.stage.value}, its machine {machine.state.value}"


def _way_out(job: Job) -> str:
    """What can be done, as the job is, to have its source free."""
    if job.stage is Stage.PROVEN:
        return f"What is left to do shows: p2vctl show {job.machine_uuid}."
    if job.stage is Stage.CANCELLING:
        return f"Wait until it is cancelled: p2vctl watch {job.uuid}."
    go_on = f"Retry it (p2vctl retry {job.uuid})" if job.stage is Stage.FAILED else "Let it end"
    return f"{go_on}, or cancel it (p2vctl cancel {job.uuid} --remove-target)."
