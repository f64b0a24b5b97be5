"""What p2vd's methods do: each runs on a thread of its own, calls the engine, and names what changed."""

import threading
from collections.abc import Callable, Collection, Mapping

from p2vd.bus import views
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
    PORTAL,
    SOURCE,
    VOLUME_GROUP,
    object_path,
)
from p2vd.bus.port import EnginePort
from p2vd.bus.records import records_methods
from p2vd.jobs.portal_request import PortalRequest
from p2vd.model.errors import IllegalTransition, InvalidArgument, P2vdError
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
            (MANAGER, "Reload"): self._reload,
            (MANAGER, "Doctor"): self._doctor,
            (MANAGER, "AddPortal"): self._add_portal,
            (MANAGER, "RemovePortal"): self._remove_portal,
            **records_methods(engine),
            (PORTAL, "Rescan"): self._rescan_portal,
            (SOURCE, "GetPaths"): self._paths,
            (VOLUME_GROUP, "GetVolumes"): self._volumes,
            (MACHINE, "Pause"): self._machine_pause,
            (MACHINE, "Resume"): self._machine_resume,
            (MACHINE, "Cancel"): self._machine_cancel,
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
        if not ids:
            raise InvalidArgument("sources", "name at least one source; Source objects have an Id.")
        plan = self._engine.plan(ids, call.options, call.caller)
        return Answer((plan.id, views.plan_page(plan)))

    def _migrate(self, call: Call) -> Answer:
        (plan_id,) = call.arguments
        machine = self._engine.migrate(str(plan_id), call.options, call.caller)
        return Answer((object_path(MACHINE, machine.uuid),), WORK)

    def _reload(self, _: Call) -> Answer:
        problems = self._engine.reload()
        if problems:
            raise PolicyInvalid(tuple(problems))
        return Answer(changed=INVENTORY)

    def _doctor(self, _: Call) -> Answer:
        return Answer((tuple(views.finding(finding) for finding in self._engine.doctor()),))

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
        self._engine.resume(call.object_id, call.caller)
        return self._job_changed(call)

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
        return self._each(jobs, lambda job: self._engine.resume(job.uuid, call.caller))

    def _machine_cancel(self, call: Call) -> Answer:
        keep = _keep_target(call)
        jobs = self._jobs(call, "cancel", lambda job: job.stage not in (Stage.CANCELLING, Stage.CANCELLED))
        return self._each(jobs, lambda job: self._engine.cancel(job.uuid, keep, call.caller))

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


def _strings(value: object) -> tuple[str, ...]:
    return tuple(value) if isinstance(value, tuple) else ()


def _keep_target(call: Call) -> bool:
    target = call.options.get("target", "")
    if target not in ("keep", "remove"):
        raise InvalidArgument(
            "option target", "say what shall become of the volume: keep, or remove what the job made."
        )
    return target == "keep"
