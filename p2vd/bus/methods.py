"""What p2vd's methods do: each runs on a thread of its own, calls the engine, and names what changed."""

import threading
from collections.abc import Callable, Collection, Mapping

from p2vd.bus import views, views_work
from p2vd.bus.call import Answer, Call
from p2vd.bus.collector import INVENTORY, WORK, Collector, Topic
from p2vd.bus.errors import Failed, PolicyInvalid
from p2vd.bus.fabric import fabric
from p2vd.bus.names import (
    ACTION_MANAGE_PORTALS,
    ACTION_REMOVE_TARGET,
    JOB,
    MACHINE,
    MANAGER,
    PASSPORT,
    PORTAL,
    SOURCE,
    VOLUME_GROUP,
    object_path,
)
from p2vd.bus.policies import rule_match, rule_view
from p2vd.bus.port import EnginePort
from p2vd.bus.records import records_methods
from p2vd.bus.verifications import verification_methods
from p2vd.bus.waves import waves_methods
from p2vd.jobs.portal_request import PortalRequest
from p2vd.model.codec import to_json
from p2vd.model.cutover import CutoverRequest
from p2vd.model.errors import IllegalTransition, InvalidArgument, NotFound, P2vdError
from p2vd.model.job import Job, Stage

REPLY_S = 0.9  # a call is answered within a second

# What is read again after a call that failed: it may have done a part of its work.
AFTER_FAILURE: Mapping[str, Collection[Topic]] = {
    MANAGER: ((MANAGER, ""), (PORTAL, "")),
    SOURCE: (),
    VOLUME_GROUP: (),
    MACHINE: WORK,
    JOB: WORK,
    PORTAL: ((PORTAL, ""),),
    PASSPORT: ((PASSPORT, ""),),
}

_ENDED = frozenset({Stage.PROVEN, Stage.FAILED, Stage.CANCELLING, Stage.CANCELLED})


def action_of(declared: str, options: Mapping[str, object]) -> str:
    """The polkit action for a call: removing a target is more than managing a job, a scan than a look."""
    if options.get("scsi"):
        return ACTION_MANAGE_PORTALS
    return ACTION_REMOVE_TARGET if options.get("target") == "remove" else declared


class Methods:
    """The table of methods. Every one may raise P2vdError."""

    def __init__(self, engine: EnginePort, collector: Collector) -> None:
        self._engine = engine
        self._collector = collector
        self._scan_lock = threading.Lock()
        self.table: Mapping[tuple[str, str], Callable[[Call], Answer]] = {
            (MANAGER, "Rescan"): self._rescan,
            (MANAGER, "GetFabric"): self._fabric,
            (MANAGER, "Plan"): self._plan,
            (MANAGER, "Migrate"): self._migrate,
            (MANAGER, "SetBandwidth"): self._set_bandwidth,
            (MANAGER, "Reload"): self._reload,
            (MANAGER, "Doctor"): self._doctor,
            (MANAGER, "GetPolicy"): self._policy,
            (MANAGER, "GetPolicyMatches"): self._policy_matches,
            (MANAGER, "AddPortal"): self._add_portal,
            (MANAGER, "RemovePortal"): self._remove_portal,
            (MANAGER, "ImportMachine"): self._import_machine,
            (MANAGER, "GuessMachine"): self._guess_machine,
            **records_methods(engine),
            **verification_methods(engine),
            **waves_methods(engine),
            (PORTAL, "Rescan"): self._rescan_portal,
            (PASSPORT, "GetRecord"): self._record,
            (PASSPORT, "Remove"): self._remove_passport,
            (SOURCE, "GetPaths"): self._paths,
            (VOLUME_GROUP, "GetVolumes"): self._volumes,
            (MACHINE, "Pause"): self._machine_pause,
            (MACHINE, "Resume"): self._machine_resume,
            (MACHINE, "Cancel"): self._machine_cancel,
            (MACHINE, "Cutover"): self._machine_cutover,
            (MACHINE, "PlanCutover"): self._machine_plan_cutover,
            (MACHINE, "Rollback"): self._machine_rollback,
            (MACHINE, "Accept"): self._machine_accept,
            (MACHINE, "BootTest"): self._boot_test,
            (JOB, "Pause"): self._job_pause,
            (JOB, "Resume"): self._job_resume,
            (JOB, "Retry"): self._job_retry,
            (JOB, "Cancel"): self._job_cancel,
            (JOB, "SetBandwidth"): self._job_bandwidth,
            (JOB, "Remove"): self._job_remove,
        }

    def _rescan(self, call: Call) -> Answer:
        finished = threading.Event()
        errors: list[P2vdError] = []
        scans = self._collector.scans

        def done(error: P2vdError | None) -> None:
            with self._scan_lock:
                scans.running -= 1
                if not isinstance(error, InvalidArgument | NotFound):  # else nothing was looked at
                    scans.problem = str(error) if error else ""
            if error is not None:
                errors.append(error)
            finished.set()
            self._collector.want(INVENTORY)

        with self._scan_lock:
            scans.running += 1
        self._engine.rescan(done, str(call.options.get("scsi", "")))
        if finished.wait(REPLY_S) and errors:
            raise errors[0]
        return Answer(changed=INVENTORY)

    def _plan(self, call: Call) -> Answer:
        (sources,) = call.arguments
        ids = tuple(str(item) for item in sources) if isinstance(sources, list) else ()
        if not ids and not call.options.get("machine"):
            raise InvalidArgument(
                "sources", "name at least one source (Source objects have an Id), or a record by `machine`."
            )
        plan = self._engine.plan(ids, call.options, call.caller)
        return Answer((plan.id, views_work.plan_page(plan)))

    def _migrate(self, call: Call) -> Answer:
        (plan_id,) = call.arguments
        machine = self._engine.migrate(str(plan_id), call.options, call.caller)
        return Answer((object_path(MACHINE, machine.uuid),), WORK)

    def _set_bandwidth(self, call: Call) -> Answer:
        (total,) = call.arguments
        if not isinstance(total, int):
            raise Failed(f"bytes_per_second is not a number: {total!r}")
        self._engine.bandwidth.set_total(int(total))
        return Answer(changed=((MANAGER, ""), (JOB, "")))

    def _reload(self, _: Call) -> Answer:
        problems = self._engine.reload()
        if problems:
            raise PolicyInvalid(tuple(problems))
        return Answer(changed=INVENTORY)

    def _doctor(self, _: Call) -> Answer:
        return Answer((tuple(views.finding(finding) for finding in self._engine.doctor()),))

    def _policy(self, _: Call) -> Answer:
        return Answer((tuple(rule_view(rule) for rule in self._engine.policy_rules()),))

    def _policy_matches(self, call: Call) -> Answer:
        (source,) = call.arguments
        found = self._engine.explain_policy(str(source), str(call.options.get("name", "")))
        return Answer((tuple(rule_match(match) for match in found),))

    def _add_portal(self, call: Call) -> Answer:
        (portal,) = call.arguments
        options = call.options
        request = PortalRequest(
            str(portal),
            targets=_strings(options.get("targets", ())),
            chap_user=str(options.get("chap-user", "")),
            chap_secret=_descriptor(options.get("chap-secret")),
            chap_user_in=str(options.get("chap-user-in", "")),
            chap_secret_in=_descriptor(options.get("chap-secret-in")),
            discovery_chap=bool(options.get("discovery-chap", False)),
        )
        portal_id = self._engine.portals.add(request)
        return Answer((object_path(PORTAL, portal_id),), ((PORTAL, portal_id),))

    def _import_machine(self, call: Call) -> Answer:
        (record,) = call.arguments
        fd = _descriptor(record)
        if fd is None:
            raise InvalidArgument("record", "it is no descriptor.")
        name, replace = str(call.options.get("name", "")), bool(call.options.get("replace", False))
        passport = self._engine.passports.take_in(fd, name, replace=replace)
        return Answer((object_path(PASSPORT, passport.name),), ((PASSPORT, passport.name),))

    def _guess_machine(self, call: Call) -> Answer:
        (sources,) = call.arguments
        guess = self._engine.passports.guess(_source_ids(sources), str(call.options.get("name", "")))
        return Answer((to_json(guess.passport), guess.notes))

    def _record(self, call: Call) -> Answer:
        return Answer((to_json(self._engine.passports.get(call.object_id)),))

    def _remove_passport(self, call: Call) -> Answer:
        self._engine.passports.remove(call.object_id)
        return Answer(changed=((PASSPORT, call.object_id),))

    def _remove_portal(self, call: Call) -> Answer:
        (portal,) = call.arguments
        return self._soon(lambda done: self._engine.portals.remove(str(portal), done), "")

    def _rescan_portal(self, call: Call) -> Answer:
        hct = str(call.options.get("hct", ""))
        return self._soon(lambda done: self._engine.portals.rescan(call.object_id, hct, done), call.object_id)

    @staticmethod
    def _soon(begin: Callable[[Callable[[P2vdError | None], None]], None], portal_id: str) -> Answer:
        """Begin something at a portal and answer when it is over, or after a second while it goes on."""
        finished = threading.Event()
        errors: list[P2vdError] = []

        def done(error: P2vdError | None) -> None:
            if error is not None:
                errors.append(error)
            finished.set()

        begin(done)
        if finished.wait(REPLY_S) and errors:
            raise errors[0]
        return Answer(changed=((PORTAL, portal_id),))

    def _paths(self, call: Call) -> Answer:
        source = self._engine.inventory().source(call.object_id)
        return Answer((tuple(views.scsi_path(path) for path in source.paths),))

    def _fabric(self, _: Call) -> Answer:
        return Answer((fabric(self._engine.inventory()),))

    def _volumes(self, call: Call) -> Answer:
        vg = self._engine.inventory().volume_group(call.object_id)
        return Answer((tuple(views.volume(lv) for lv in vg.lvs),))

    def _job_pause(self, call: Call) -> Answer:
        self._engine.pause(call.object_id, call.caller)
        return self._job_changed(call)

    def _job_resume(self, call: Call) -> Answer:
        self._resume(call.object_id, call)
        return self._job_changed(call)

    def _resume(self, uuid: str, call: Call) -> None:
        if call.options.get("ignore-window"):
            self._engine.ignore_window(uuid, call.caller)
        self._engine.resume(uuid, call.caller)

    def _job_retry(self, call: Call) -> Answer:
        self._engine.retry(call.object_id, call.caller)
        return self._job_changed(call)

    def _job_cancel(self, call: Call) -> Answer:
        self._engine.cancel(call.object_id, _keep_target(call), call.caller)
        return self._job_changed(call)

    def _job_bandwidth(self, call: Call) -> Answer:
        (limit,) = call.arguments
        if not isinstance(limit, int):
            raise Failed(f"bytes_per_second is not a number: {limit!r}")
        self._engine.set_bandwidth(call.object_id, int(limit))
        return self._job_changed(call)

    def _job_remove(self, call: Call) -> Answer:
        self._engine.remove(call.object_id, call.caller)
        return Answer(changed=WORK)

    @staticmethod
    def _job_changed(call: Call) -> Answer:
        return Answer(changed=((JOB, call.object_id), (MACHINE, "")))

    def _machine_pause(self, call: Call) -> Answer:
        jobs = self._jobs(call, "pause", lambda job: job.stage not in _ENDED)
        return self._each(jobs, lambda job: self._engine.pause(job.uuid, call.caller))

    def _machine_resume(self, call: Call) -> Answer:
        jobs = self._jobs(call, "resume", lambda job: job.stage not in _ENDED)
        return self._each(jobs, lambda job: self._resume(job.uuid, call))

    def _machine_cancel(self, call: Call) -> Answer:
        keep = _keep_target(call)
        jobs = self._jobs(call, "cancel", lambda job: job.stage not in (Stage.CANCELLING, Stage.CANCELLED))
        return self._each(jobs, lambda job: self._engine.cancel(job.uuid, keep, call.caller))

    def _machine_cutover(self, call: Call) -> Answer:
        self._engine.cutover(call.object_id, cutover_request(call.options), call.caller)
        return Answer(changed=((MACHINE, call.object_id),))

    def _machine_plan_cutover(self, call: Call) -> Answer:
        choice = self._engine.plan_cutover(call.object_id, cutover_request(call.options))
        return Answer((views_work.cutover_choice(choice),))

    def _machine_rollback(self, call: Call) -> Answer:
        self._engine.rollback(call.object_id, call.caller)
        return Answer(changed=((MACHINE, call.object_id),))

    def _machine_accept(self, call: Call) -> Answer:
        self._engine.accept(call.object_id, call.caller)
        return Answer(changed=((MACHINE, call.object_id),))

    def _boot_test(self, call: Call) -> Answer:
        self._engine.boot_test(call.object_id, call.options, call.caller)
        return Answer(changed=((MACHINE, call.object_id),))

    def _jobs(self, call: Call, verb: str, wanted: Callable[[Job], bool]) -> tuple[Job, ...]:
        machine = self._engine.machine(call.object_id)
        jobs = tuple(job for job in map(self._engine.job, machine.jobs) if wanted(job))
        if not jobs:
            raise IllegalTransition(f"Machine {machine.name}", machine.state.value, verb)
        return jobs

    @staticmethod
    def _each(jobs: Collection[Job], act: Callable[[Job], None]) -> Answer:
        """Act on every job, on the later ones too where one refuses; raises the first refusal."""
        refusals = []
        for job in jobs:
            try:
                act(job)
            except P2vdError as error:
                refusals.append(error)
        if refusals:
            raise refusals[0]
        return Answer(changed=WORK)


def _descriptor(value: object) -> int | None:
    """Take over a descriptor that came as an option."""
    take = getattr(value, "take", None)
    return int(take()) if take is not None else None


def cutover_request(options: Mapping[str, object]) -> CutoverRequest:
    """What the options of a cutover say."""
    start, convert = options.get("start"), options.get("convert")
    return CutoverRequest(
        start=None if start is None else bool(start),
        convert=None if convert is None else bool(convert),
        policy=bool(options.get("policy", False)),
    )


def _source_ids(value: object) -> tuple[str, ...]:
    ids = tuple(str(item) for item in value) if isinstance(value, list) else ()
    if not ids:
        raise InvalidArgument("sources", "name at least one source; Source objects have an Id.")
    return ids


def _strings(value: object) -> tuple[str, ...]:
    return tuple(value) if isinstance(value, tuple) else ()


def _keep_target(call: Call) -> bool:
    target = call.options.get("target", "")
    if target not in ("keep", "remove"):
        raise InvalidArgument(
            "option target", "say what shall become of the volume: keep, or remove what the job made."
        )
    return target == "keep"
