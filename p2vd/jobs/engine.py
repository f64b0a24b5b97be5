"""The daemon's face towards the bus: every verb, and everything that can be seen.

Each call returns at once: work happens on the jobs' own threads and on the scanning thread.
"""

import logging
import threading
import uuid as uuids
from collections.abc import Callable, Mapping, Sequence

from p2vd.config import QuarantineMode
from p2vd.jobs.checkup import Checkup
from p2vd.jobs.contents_keeper import FRESH_S
from p2vd.jobs.crew import Crew
from p2vd.jobs.departures import Departures
from p2vd.jobs.events import Event, InventoryChanged, PolicyErrorsChanged
from p2vd.jobs.host_maps import maps_in_use, target_maps
from p2vd.jobs.policies import PolicyKeeper
from p2vd.jobs.portals import Portals
from p2vd.jobs.records import Records
from p2vd.jobs.services import Services
from p2vd.jobs.transitions import TERMINAL, JobEvent
from p2vd.model.contents import Findings
from p2vd.model.disk import Source
from p2vd.model.doctor import Finding
from p2vd.model.errors import IllegalTransition, InvalidArgument, NotFound, P2vdError, Reason, Refused
from p2vd.model.inventory import Difference, Inventory
from p2vd.model.job import Activity, Caller, Hold, Job, Machine, MachineState, Stage
from p2vd.model.plan import Plan
from p2vd.planning.contents import findings, under_examination
from p2vd.planning.doctor import diagnose
from p2vd.planning.plan import PlanRequest, make_plan, recheck
from p2vd.policy.match import first_match
from p2vd.system.clock import now_us

log = logging.getLogger(__name__)

# A call is answered within a second.
_LOOK_AGAIN_S = 0.8
_DOCTOR_S = 0.9


class Engine:
    """Plans, starts and steers jobs. Thread-safe."""

    def __init__(
        self, services: Services, policies: PolicyKeeper, portals: Portals, records: Records
    ) -> None:
        self.portals = portals
        self.records = records
        self._services = services
        self._board = services.board
        self._policies = policies
        self._lock = threading.RLock()
        self._crew = Crew(services, self._schedule)
        self._overlooked = False
        self._checkup = Checkup(services.host.host_facts)
        self._departures = Departures(services.board, services.config.keep_finished_days)
        services.board.subscribe(records.audit.hear)

    # -- life ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Look at the host, and go on with every job that was running, without being asked."""
        self._services.inventory.start()
        self.portals.start()
        for job in self._board.jobs():
            if job.stage not in TERMINAL or self._unfinished(job):
                log.info("job %s: resumed in stage %s", job.uuid, job.stage.value)
                self._crew.nudge(job.uuid)
        self._schedule()

    def _unfinished(self, job: Job) -> bool:
        if job.stage is not Stage.PROVEN:
            return bool(job.source_set_read_only)
        state = self._board.machine(job.machine_uuid).state
        return state in (MachineState.COPYING, MachineState.READY, MachineState.REGISTERING)

    def stop(self) -> None:
        """Have every worker commit a checkpoint and end; give up on those stuck in the kernel.

        Returns within the configured stop timeout and a second.
        """
        self._services.inventory.stop()
        self._services.contents.stop()
        self.portals.stop()
        self._crew.stop(self._services.config.stop_timeout_s)

    def _schedule(self) -> None:
        """Let at most `max_jobs` jobs work; the others wait with the hold `slot`, oldest first."""
        with self._lock:
            waiting = [job for job in self._board.jobs() if job.stage not in TERMINAL]
            ready = [job for job in waiting if not job.holds - {Hold.SLOT}]
            busy = {job.uuid for job in ready[: self._services.config.max_jobs]}
            for job in ready:
                if job.uuid in busy and Hold.SLOT in job.holds:
                    self._board.release(job.uuid, Hold.SLOT)
                    self._crew.nudge(job.uuid)
                elif job.uuid not in busy and Hold.SLOT not in job.holds:
                    self._board.hold(job.uuid, Hold.SLOT)
                    self._crew.nudge(job.uuid)

    # -- what there is -------------------------------------------------------------------------

    def subscribe(self, listener: Callable[[Event], None]) -> None:
        """Call `listener` with every event, on whatever thread it happens."""
        self._board.subscribe(listener)

    def inventory(self) -> Inventory:
        """What the last scan saw, with what is known of the disks' contents."""
        return self._services.contents.attach(self._services.inventory.current())

    def matched_policy(self, source: Source) -> str:
        """The name of the first policy rule that matches, or an empty string."""
        rule = first_match(self._policies.current(), source)
        return rule.name if rule else ""

    def findings(self, source: Source) -> Findings:
        """What speaks against a source, and what should be known of it, by the rule that matches."""
        return findings(source, first_match(self._policies.current(), source))

    def policy_errors(self) -> tuple[str, ...]:
        """What is wrong with the policy files; the old policies stay in force meanwhile."""
        return self._policies.errors()

    def jobs(self) -> tuple[Job, ...]:
        """All jobs on the bus, oldest first."""
        return self._departures.jobs()

    def job(self, uuid: str) -> Job:
        """One job on the bus. Raises NotFound."""
        return self._departures.job(uuid)

    def activity(self, uuid: str) -> Activity:
        """What a job does at this moment."""
        return self._board.activity(uuid)[0]

    def stalled(self, uuid: str) -> str:
        """Why and since when a job waits or is stalled; empty when it is well."""
        return self._board.activity(uuid)[1]

    def machines(self) -> tuple[Machine, ...]:
        """All machines on the bus, oldest first."""
        return self._departures.machines()

    def machine(self, uuid: str) -> Machine:
        """One machine on the bus. Raises NotFound."""
        return self._departures.machine(uuid)

    def pool_reserved(self, vg_uuid: str, pool: str) -> int:
        """Bytes of a pool that running jobs have been granted and not used yet."""
        return self._services.pools.reserved(vg_uuid, pool)

    # -- verbs ---------------------------------------------------------------------------------

    def rescan(self, done: Callable[[P2vdError | None], None], scsi: str = "") -> None:
        """Scan the host, then call `done` on another thread.

        `scsi`: first have the kernel look for LUNs there, see discovery.scsi_scan.
        """
        if not scsi:
            self._services.inventory.request(done)
            return

        def look() -> None:
            problem: P2vdError | None = None
            try:
                self._services.look_for_luns(scsi)
            except (InvalidArgument, NotFound) as error:
                done(error)  # nothing was done: there is nothing to look at
                return
            except P2vdError as error:
                problem = error
            self._services.inventory.request(lambda error: done(problem or error))

        # The kernel takes its time with devices that do not answer.
        threading.Thread(target=look, name="scsi-scan", daemon=True).start()

    def doctor(self) -> tuple[Finding, ...]:
        """What is not as it should be on this host. Raises StillLooking: ask again."""
        return diagnose(
            self._checkup.facts(_DOCTOR_S),
            self._services.inventory.current(),
            self._policies.current(),
            keeps_unknown=self._services.config.quarantine is QuarantineMode.UNKNOWN,
        )

    def reload(self) -> tuple[str, ...]:
        """Read the policy files again; with errors the old ones stay in force. Returns the errors."""
        errors = self._policies.reload()
        self._board.publish(PolicyErrorsChanged())
        # Before the first scan nothing is known, and least of all which maps are the host's own.
        if self._services.inventory.scanned:
            self.inventory_changed(self._services.inventory.current())
        return errors

    def inventory_changed(self, inventory: Inventory, changed: Difference | None = None) -> None:
        """Put every source that a policy matches into quarantine, look at it, and tell the subscribers.

        Where `changed` says so, of the changed sources only. Of a stale inventory nothing but the news
        follows: it does not say who uses what now. All sources get their turn with the next current one.
        """
        if inventory.stale_since_us:
            self._overlooked = True
        else:
            self._act_on(inventory, None if self._overlooked else changed)
            self._overlooked = False
        self._board.publish(InventoryChanged(changed))

    def _act_on(self, inventory: Inventory, changed: Difference | None) -> None:
        self._keep_unknown(inventory)
        sources = [s for s in inventory.sources if changed is None or s.id in changed.sources]
        matched = [source for source in sources if self._may_touch(source)]
        self._services.quarantine.add_sources(matched)
        with self._lock:  # no job shall begin in between: its source is its own
            held = self._held_sources()
            wanted = [source for source in matched if source.id not in held]
            self._services.contents.want(wanted, held, None if changed is None else changed.sources)

    def contents_changed(self, source_ids: frozenset[str]) -> None:
        """Tell the subscribers that more is known of what is on these sources."""
        self._board.publish(InventoryChanged(Difference(sources=source_ids)))

    def _may_touch(self, source: Source, machine_name: str = "") -> bool:
        """Whether a policy matches a source that nobody uses: any other is never touched."""
        return not source.reasons and first_match(self._policies.current(), source, machine_name) is not None

    def _held_sources(self) -> frozenset[str]:
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
        touchable = not inventory.stale_since_us and self._may_touch(source, machine_name)
        if source.id in self._held_sources() or not touchable:
            return
        if not self._services.contents.refresh(source, _LOOK_AGAIN_S, max_age_s):
            raise Refused(f"Source {source}", (under_examination(source),))

    def _keep_unknown(self, inventory: Inventory) -> None:
        quarantine = self._services.quarantine
        if self._services.config.quarantine is not QuarantineMode.UNKNOWN:
            quarantine.release_unknown()
            return
        own = target_maps(inventory, self._policies.current())
        # What the host uses is its own only as long as nothing can have been taken hold of by mistake.
        if not quarantine.keeps_unknown():
            own |= maps_in_use(inventory)
        quarantine.quarantine_unknown(own)

    def plan(self, source_ids: Sequence[str], options: Mapping[str, object], caller: Caller) -> Plan:
        """Return what would be done, and keep it. Raises InvalidArgument, NotFound, Refused."""
        if len(source_ids) != 1:
            raise InvalidArgument("sources", "name exactly one source: machines of many disks come later")
        request = PlanRequest(
            source_id=source_ids[0],
            machine_name=str(options.get("name", "")),
            source_offline=bool(options.get("source-offline", False)),
        )
        self._look_again(request.source_id, request.machine_name)
        plan = make_plan(request, self.inventory(), self._policies.current())
        self._refuse_second_job(plan)
        return self._services.store.put_plan(plan)

    def migrate(self, plan_id: str, options: Mapping[str, object], caller: Caller) -> Machine:
        """Start what the plan says. Raises NotFound, PlanOutdated, Refused."""
        plan = self._services.store.plan(plan_id)
        self._look_again(plan.source.id, plan.machine_name, FRESH_S)
        with self._lock:
            self._refuse_second_job(plan)
            recheck(plan, self.inventory(), self._policies.current())
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
            self._crew.nudge(job_uuid)
        self._schedule()
        return machine

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

    def pause(self, uuid: str, caller: Caller) -> None:
        """Hold the job until `resume`, also over a restart. Raises NotFound, IllegalTransition."""
        self._expect_unfinished(uuid, "pause")
        self._board.hold(uuid, Hold.USER)
        self._crew.nudge(uuid)
        self._schedule()

    def resume(self, uuid: str, caller: Caller) -> None:
        """End the administrator's hold. Raises NotFound, IllegalTransition."""
        self._expect_unfinished(uuid, "resume")
        self._board.release(uuid, Hold.USER)
        self._schedule()
        self._crew.nudge(uuid)

    def _expect_unfinished(self, uuid: str, verb: str) -> None:
        job = self._board.job(uuid)
        if job.stage in TERMINAL or job.stage is Stage.CANCELLING:
            raise IllegalTransition(f"Job {uuid}", job.stage.value, verb)

    def retry(self, uuid: str, caller: Caller) -> None:
        """Re-enter the stage that failed, or a failed registration. Raises NotFound, IllegalTransition."""
        job = self._board.job(uuid)
        machine = self._board.machine(job.machine_uuid)
        if not (job.stage is Stage.PROVEN and machine.state is MachineState.READY):
            self._board.advance(uuid, JobEvent.RETRY)
        self._schedule()
        self._crew.nudge(uuid)

    def cancel(self, uuid: str, keep_target: bool, caller: Caller) -> None:
        """End the job and keep or remove its target. Raises NotFound, IllegalTransition."""
        self._board.cancel(uuid, keep_target=keep_target)
        self._crew.nudge(uuid)
        self._schedule()

    def remove(self, uuid: str, caller: Caller) -> None:
        """Take a finished job off the bus. Raises NotFound, IllegalTransition."""
        self._departures.remove(uuid, now_us())

    def tidy(self) -> None:
        """Take the jobs off the bus that have been finished for long. Once an hour is enough."""
        self._departures.leave(now_us())

    def set_bandwidth(self, uuid: str, bytes_per_s: int) -> None:
        """Limit a running copy, 0: not at all. Lasts until the daemon restarts. Raises NotFound."""
        self._expect_unfinished(uuid, "set bandwidth")
        self._crew.set_bandwidth(uuid, bytes_per_s)
