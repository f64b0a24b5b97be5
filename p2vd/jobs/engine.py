"""The daemon's face towards the bus: every verb, and everything that can be seen.

Each call returns at once: work happens on the jobs' own threads and on the scanning thread.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from p2vd.config import QuarantineMode
from p2vd.jobs.auto import AutoStart
from p2vd.jobs.boot_test import BootTests
from p2vd.jobs.checkup import Checkup
from p2vd.jobs.crew import Crew
from p2vd.jobs.departures import Departures
from p2vd.jobs.events import Event, InventoryChanged, PolicyErrorsChanged
from p2vd.jobs.fills import Fills
from p2vd.jobs.host_look import HostLook
from p2vd.jobs.machine_desk import MachineDesk
from p2vd.jobs.passports import Passports
from p2vd.jobs.planner import Planner
from p2vd.jobs.policies import PolicyKeeper
from p2vd.jobs.portals import Portals
from p2vd.jobs.rates import Rates
from p2vd.jobs.records import Records
from p2vd.jobs.rescans import Rescans
from p2vd.jobs.scheduler import Scheduler
from p2vd.jobs.services import Services
from p2vd.jobs.source_care import SourceCare
from p2vd.jobs.store import STORE_FAILURES
from p2vd.jobs.transitions import TERMINAL, JobEvent
from p2vd.jobs.verification import Verifications
from p2vd.jobs.waking import Recovery
from p2vd.jobs.waves import Waves
from p2vd.jobs.windows import WindowKeeper
from p2vd.model.contents import Findings
from p2vd.model.cutover import CutoverRequest
from p2vd.model.disk import Source
from p2vd.model.doctor import Finding
from p2vd.model.errors import IllegalTransition, P2vdError
from p2vd.model.inventory import Difference, Inventory
from p2vd.model.job import Activity, Caller, Hold, Job, Machine, MachineState, Stage
from p2vd.model.limits import Waiting
from p2vd.model.lvm import PoolUse
from p2vd.model.plan import Plan
from p2vd.model.rule import RuleMatch, RuleView
from p2vd.model.verification import Verification
from p2vd.planning.contents import findings
from p2vd.planning.doctor import diagnose
from p2vd.policy.match import first_match
from p2vd.system.clock import now_us

log = logging.getLogger(__name__)

# A call is answered within a second.
_DOCTOR_S = _PLAN_S = 0.9

_DESK_STOP_S = 0.5


class Engine:
    """Plans, starts and steers jobs. Thread-safe."""

    def __init__(
        self, services: Services, policies: PolicyKeeper, portals: Portals, records: Records
    ) -> None:
        self.portals = portals
        self.passports = Passports(services.store, services.board.publish, self.inventory)
        self.records = records
        self._services = services
        self._board = services.board
        self._policies = policies
        self._lock = threading.RLock()
        self._planner = Planner(services, self._lock)
        again = services.again
        self._desk = MachineDesk(services, again=again)
        self.plan_cutover, self.hypervisor = self._desk.plan_cutover, self._desk.hypervisor
        self._crew = Crew(services, self._job_ended, again)
        self._scheduler = Scheduler(
            services.board, services.inventory, services.config.all_limits, self._crew.nudge, again
        )
        self._windows = WindowKeeper(services.board, services.clock, self._crew.nudge)
        # In this order: a job that comes outside its window never takes a place.
        self._board.subscribe(self._windows.hear)
        self._board.subscribe(self._scheduler.hear)
        self.bandwidth = services.bandwidth
        self.bandwidth.watch(services.board)
        self._rates = Rates(services)
        self._fills = Fills(services, self._planner)
        self._board.subscribe(self._rates.hear)
        self._care = SourceCare(services, self._planner, self._lock)
        self._rescans = Rescans(services, self._care.rescanned)
        self._checkup = Checkup(HostLook(services).facts)
        self._boot_tests = BootTests(services)
        self._verifications = Verifications(services)
        self._waking = Recovery(services)
        self._stopping = threading.Lock()
        self._stopped = False
        self._auto = AutoStart(services, self._planner, records.audit.note_auto, self._made)
        self._board.subscribe(self._auto.hear)
        self.waves = Waves(services, self._planner, self._made)
        self._board.subscribe(self.waves.hear)
        self._departures = Departures(services.board, services.config.keep_finished_days)
        services.board.subscribe(records.audit.hear)

    # -- life ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Look at the host, and go on with every job that was running, without being asked."""
        self._services.inventory.start()
        self.portals.start()
        self._windows.start()
        self._schedule()
        self._boot_tests.recover()
        self._verifications.recover()
        self._waking.start()
        for job in self._board.jobs():
            if job.stage not in TERMINAL or self._unfinished(job):
                log.info("job %s: resumed in stage %s", job.uuid, job.stage.value)
                self._crew.nudge(job.uuid)
        self._desk.start()
        self._auto.start()
        self.waves.go()

    def _unfinished(self, job: Job) -> bool:
        if job.stage is not Stage.PROVEN or job.finished:
            return bool(job.source_set_read_only) or self._board.is_over(job.machine_uuid)
        state = self._board.machine(job.machine_uuid).state
        return state in (MachineState.PLANNED, MachineState.COPYING)

    def _job_ended(self, uuid: str) -> None:
        self._desk.job_ended(uuid)
        self._schedule()

    def stop(self) -> None:
        """Have every worker commit a checkpoint and end; give up on those stuck in the kernel.

        Returns within the configured stop timeout and two seconds. A second call waits for the first.
        """
        with self._stopping:
            if not self._stopped:
                self._stop_all()
            self._stopped = True

    def _stop_all(self) -> None:
        self._services.inventory.stop()
        self._services.contents.stop()
        self._services.images.stop()
        self._services.exports.stop()
        self.portals.stop()
        self._windows.stop()
        self._waking.stop()
        others = (self._auto.stop, self.waves.stop, self._boot_tests.stop, self._verifications.stop)
        for stop in others:
            stop(0.0)
        timeout_s = self._services.config.stop_timeout_s
        until = time.monotonic() + timeout_s
        self._crew.stop(timeout_s)
        # Told before, they end beside the workers; each may wait for a read that does not come back.
        for stop in others:
            stop(max(0.0, until - time.monotonic()))
        self._desk.stop(_DESK_STOP_S)

    def _schedule(self) -> None:
        """Let as many jobs work as the limits allow; the others wait with the hold `slot`."""
        self._scheduler.decide()

    # -- what there is -------------------------------------------------------------------------

    def subscribe(self, listener: Callable[[Event], None]) -> None:
        """Call `listener` with every event, on whatever thread it happens."""
        self._board.subscribe(listener)

    def inventory(self) -> Inventory:
        """What the last scan saw, with what is known of the disks' contents."""
        return self._planner.inventory()

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

    def policy_rules(self) -> tuple[RuleView, ...]:
        """The rules in force, in the order in which they are asked."""
        return self._policies.rules()

    def explain_policy(self, source_id: str, machine_name: str) -> tuple[RuleMatch, ...]:
        """What every rule in force says to a source. Raises NotFound, and Refused for one path of a LUN."""
        return self._policies.explain(self._services.inventory.current().source(source_id), machine_name)

    def jobs(self) -> tuple[Job, ...]:
        """All jobs on the bus, oldest first."""
        return tuple(map(self._verifications.shown, self._departures.jobs()))

    def job(self, uuid: str) -> Job:
        """One job on the bus. Raises NotFound."""
        return self._verifications.shown(self._departures.job(uuid))

    def activity(self, uuid: str) -> Activity:
        """What a job does at this moment."""
        return self._board.activity(uuid)[0]

    def stalled(self, uuid: str) -> str:
        """Why and since when a job waits or is stalled; empty when it is well."""
        return self._board.activity(uuid)[1]

    def waiting(self, uuid: str) -> Waiting:
        """What a job waits for that could work otherwise, and its place in the queue; empty: it does not."""
        window = self._windows.waiting(self._board.job(uuid))
        return self._scheduler.waiting(uuid) or Waiting(uuid, 0, window)

    def machines(self) -> tuple[Machine, ...]:
        """All machines on the bus, oldest first."""
        return tuple(self._desk.shown(machine) for machine in self._departures.machines())

    def machine(self, uuid: str) -> Machine:
        """One machine on the bus, with what keeps it from going on. Raises NotFound."""
        return self._desk.shown(self._departures.machine(uuid))

    def pool_use(self, vg_uuid: str, pool: str) -> PoolUse:
        """What running jobs were granted of a pool and have not used, and what others took meanwhile."""
        return self._services.pools.use(vg_uuid, pool)

    def auto_said(self, source_id: str) -> str:
        """What p2vd does with a source by itself, or why not; "" where no policy wants it to."""
        return self._auto.said(source_id)

    # -- verbs ---------------------------------------------------------------------------------

    def rescan(self, done: Callable[[P2vdError | None], None], scsi: str = "") -> None:
        """Scan the host, then call `done`; first for LUNs, where `scsi` says. See Rescans."""
        self._rescans.begin(done, scsi)

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
        self._services.exports.reconfigured()
        self._services.images.reconfigured()
        # Before the first scan nothing is known, and least of all which maps are the host's own.
        if self._services.inventory.scanned:
            self.inventory_changed(self._services.inventory.current())
        return errors

    def inventory_changed(self, inventory: Inventory, changed: Difference | None = None) -> None:
        """Take care of what was seen, and tell the subscribers. `changed`: nothing else has."""
        self._care.inventory_changed(inventory, changed)
        self._board.publish(InventoryChanged(changed))

    def contents_changed(self, source_ids: frozenset[str]) -> None:
        """Tell the subscribers that more is known of what is on these sources."""
        self._board.publish(InventoryChanged(Difference(sources=source_ids)))

    def plan(self, source_ids: Sequence[str], options: Mapping[str, object], caller: Caller) -> Plan:
        """Return what would be done, and keep it. Raises InvalidArgument, NotFound, Refused, StillLooking."""
        end_s = time.monotonic() + _PLAN_S
        plan = self._planner.plan(source_ids, options)
        plan = self._fills.told(plan, sample=bool(options.get("sample", False)), end_s=end_s)
        return self._rates.estimated(plan)

    def migrate(self, plan_id: str, options: Mapping[str, object], caller: Caller) -> Machine:
        """Start what the plan says. Raises NotFound, PlanOutdated, Refused."""
        machine = self._planner.make_machine(plan_id, caller)
        self._made(machine)
        return machine

    def _made(self, machine: Machine) -> None:
        for job_uuid in machine.jobs:
            self._crew.nudge(job_uuid)
        self._schedule()

    def pause(self, uuid: str, caller: Caller) -> None:
        """Hold the job until `resume`, also over a restart. Raises NotFound, IllegalTransition."""
        self._expect_unfinished(uuid, "pause")
        self._board.hold(uuid, Hold.USER)
        self._crew.nudge(uuid)
        self._schedule()

    def resume(self, uuid: str, caller: Caller) -> None:
        """End the administrator's hold, and that of a hook. Raises NotFound, IllegalTransition."""
        if not self._board.release_hook(uuid):
            self._expect_unfinished(uuid, "resume")
        self._board.release(uuid, Hold.USER)
        self._schedule()
        self._crew.nudge(uuid)

    def ignore_window(self, uuid: str, caller: Caller) -> None:
        """Let the job run at any time from now on. Raises NotFound, IllegalTransition."""
        self._expect_unfinished(uuid, "ignore the window")
        log.info("job %s: its window is ignored from now on, as uid %d wants", uuid, caller.uid)
        self._board.change(uuid, lambda job: replace(job, ignores_window=True))

    def _expect_unfinished(self, uuid: str, verb: str) -> None:
        job = self._board.job(uuid)
        if job.stage in TERMINAL or job.stage is Stage.CANCELLING:
            raise IllegalTransition(f"Job {uuid}", job.stage.value, verb)

    def retry(self, uuid: str, caller: Caller) -> None:
        """Re-enter the stage that failed, a hook that did, or a registration. Raises as `resume`."""
        job = self._board.job(uuid)
        machine = self._board.machine(job.machine_uuid)
        registers = job.stage is Stage.PROVEN and self._desk.retry(machine)
        if not registers and not self._board.release_hook(uuid):
            self._board.advance(uuid, JobEvent.RETRY)
        self._schedule()
        self._crew.nudge(uuid)

    def cancel(self, uuid: str, keep_target: bool, caller: Caller) -> None:
        """End the job and keep or remove its target. Raises NotFound, IllegalTransition."""
        job = self._board.cancel(uuid, keep_target=keep_target)
        # They have the volume open; the removal waits for them.
        self._verifications.end(uuid, 0.0)
        self._boot_tests.end(job.machine_uuid, 0.0)
        self._crew.nudge(uuid)
        self._schedule()

    def cutover(self, machine_uuid: str, request: CutoverRequest, caller: Caller) -> None:
        """Register a machine that is ready. Raises NotFound, and as jobs.cutover.choose does."""
        self._desk.cutover(machine_uuid, request, caller)

    def rollback(self, machine_uuid: str, caller: Caller) -> None:
        """Take a registered machine back from the hypervisor. Raises NotFound, IllegalTransition."""
        self._desk.rollback(machine_uuid, caller)

    def accept(self, machine_uuid: str, caller: Caller) -> None:
        """End a registered machine's way back. Raises NotFound, IllegalTransition."""
        self._desk.accept(machine_uuid, caller)

    def boot_test(self, machine_uuid: str, options: Mapping[str, object], caller: Caller) -> None:
        """Start a machine for a test and return. Raises NotFound, IllegalTransition, InvalidArgument."""
        log.info("machine %s: boot test, asked for by uid %d", machine_uuid, caller.uid)
        self._boot_tests.start(machine_uuid, options)

    def free_volumes(self, machine_uuid: str) -> None:
        """End a machine's boot test and verifications, if any run, and wait until its volumes are free."""
        self._boot_tests.end(machine_uuid)
        self._verifications.end(machine_uuid)

    def verify(self, job_uuid: str, caller: Caller) -> None:
        """Begin to prove a finished job's volume again, and return. Raises NotFound, IllegalTransition."""
        log.info("job %s: verification, asked for by uid %d", job_uuid, caller.uid)
        self._verifications.start(job_uuid, caller)

    def verification(self, job_uuid: str) -> Verification | None:
        """The latest one of a job, also of one that left the bus. Raises NotFound."""
        return self._verifications.shown(self._board.job(job_uuid)).verification

    def remove(self, uuid: str, caller: Caller) -> None:
        """Take a finished job off the bus. Raises NotFound, IllegalTransition."""
        self._departures.remove(uuid, now_us())

    def tidy(self) -> None:
        """Take the jobs off the bus that have been finished for long. Once an hour is enough."""
        try:
            self._departures.leave(now_us())
        except STORE_FAILURES as error:  # in an hour, then
            log.error("finished jobs cannot leave the bus: %s", error)  # noqa: TRY400 - the disk, no defect

    def set_bandwidth(self, uuid: str, bytes_per_s: int) -> None:
        """Limit a copy, 0: not at all. Lasts until the daemon restarts. Raises NotFound."""
        self._expect_unfinished(uuid, "set bandwidth")
        self.bandwidth.limit(self._board.job(uuid), bytes_per_s)
