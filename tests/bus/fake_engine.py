"""An engine in memory that does nothing by itself: tests move its jobs. It records what it was asked."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from p2vd.bus.errors import Failed
from p2vd.jobs.events import (
    Event,
    InventoryChanged,
    JobAdded,
    JobChanged,
    JobRemoved,
    MachineAdded,
    MachineChanged,
    PolicyErrorsChanged,
    PortalChanged,
)
from p2vd.jobs.lun_use import PortalInUse
from p2vd.jobs.passports import Passports
from p2vd.jobs.portal_request import PortalRequest
from p2vd.jobs.store import Store
from p2vd.model.boot_test import BootState, BootTest, Sign
from p2vd.model.contents import UNDER_EXAMINATION, Findings
from p2vd.model.copying import Progress
from p2vd.model.disk import Source
from p2vd.model.doctor import Finding, Severity
from p2vd.model.errors import (
    IllegalTransition,
    NotFound,
    P2vdError,
    PlanOutdated,
    Reason,
    Refused,
    StillLooking,
)
from p2vd.model.inventory import Inventory
from p2vd.model.job import Activity, Caller, Hold, Job, JobError, Machine, MachineState, Stage
from p2vd.model.limits import Waiting
from p2vd.model.lvm import PoolUse
from p2vd.model.plan import Plan
from p2vd.model.portal import PortalState, PortalView, RescanReport
from p2vd.model.rule import RuleMatch, RuleView
from tests.bus import values
from tests.bus.fake_bandwidth import FakeBandwidth
from tests.bus.fake_handover import FakeHandover
from tests.bus.fake_records import FakeRecords
from tests.bus.fake_verifications import FakeVerifications
from tests.bus.fake_waves import FakeWaves

_ENDED = (Stage.PROVEN, Stage.FAILED, Stage.CANCELLED)


class FakePortals:
    """Satisfies PortalsPort: remembers what it was asked, and what the descriptors held."""

    def __init__(self, engine: "FakeEngine") -> None:
        self._engine = engine
        self.portals: dict[str, PortalView] = {}

    def views(self) -> tuple[PortalView, ...]:
        return tuple(self.portals.values())

    def view(self, portal_id: str) -> PortalView:
        if portal_id not in self.portals:
            raise NotFound("portal", portal_id)
        return self.portals[portal_id]

    def add(self, request: PortalRequest) -> str:
        record, chap = request.read()
        secrets = [chap.secret.reveal(), chap.secret_in.reveal() if chap.secret_in else ""] if chap else []
        self._engine.asked.append(["add_portal", record.id, list(record.targets), secrets])
        self.portals[record.id] = PortalView(record, PortalState.CONNECTING)
        self._engine.tell(PortalChanged(record.id))
        return record.id

    def remove(self, text: str, done: Callable[[P2vdError | None], None]) -> None:
        self._engine.asked.append(["remove_portal", text])
        if text not in self.portals:
            raise NotFound("portal", text)
        if self.portals[text].luns:
            done(PortalInUse(text, ("/dev/mapper/mpathb is mounted on /mnt.",)))
            return
        del self.portals[text]
        done(None)

    def rescan(self, text: str, hct: str, done: Callable[[P2vdError | None], None]) -> None:
        self._engine.asked.append(["rescan_portal", text, hct])
        report = RescanReport(1, new=("36001405d",), left_alone=("36001405e is in use.",))
        self.portals[text] = replace(self.portals[text], rescan=report)
        done(None)


class FakeEngine(FakeVerifications, FakeHandover):
    """Satisfies EnginePort. The second half is what tests steer it by."""

    def __init__(self) -> None:
        self._inventory = values.INVENTORY
        self._jobs: dict[str, Job] = {}
        self._machines: dict[str, Machine] = {}
        self._activity: dict[str, tuple[Activity, str]] = {}
        self._waiting: dict[str, Waiting] = {}
        self._errors: tuple[str, ...] = ()
        self._listeners: list[Callable[[Event], None]] = []
        self._scans: list[Callable[[P2vdError | None], None]] = []
        self._scan_by_itself = True
        self._free = threading.Event()
        self._free.set()
        self.asked: list[list[object]] = []
        self.bandwidth = FakeBandwidth(self.asked)
        self._looks_left = 0
        self._findings: tuple[Finding, ...] = ()
        self._rules: tuple[RuleView, ...] = values.RULES
        self.portals = FakePortals(self)
        self.passports = Passports(Store(Path(":memory:")), self.tell, self.inventory)
        self.records = FakeRecords()
        self.waves = FakeWaves(self.asked)

    def inventory(self) -> Inventory:
        return self._inventory

    def matched_policy(self, source: Source) -> str:
        return "lab" if source.wwid else ""

    def findings(self, source: Source) -> Findings:
        return Findings(source.reasons, source.warnings)

    def policy_errors(self) -> tuple[str, ...]:
        return self._errors

    def policy_rules(self) -> tuple[RuleView, ...]:
        return self._rules

    def explain_policy(self, source_id: str, machine_name: str) -> tuple[RuleMatch, ...]:
        self.asked.append(["explain_policy", source_id, machine_name])
        source = self._inventory.source(source_id)
        lab, other = values.RULES
        failed = () if self.matched_policy(source) else ("wwid is unknown, which does not fit 3600*",)
        return (
            RuleMatch(other.name, other.path, other.line, ("transport is iscsi, not fc",), chosen=False),
            RuleMatch(lab.name, lab.path, lab.line, failed, chosen=not failed),
        )

    def pool_use(self, vg_uuid: str, pool: str) -> PoolUse:
        return PoolUse(reserved_bytes=4096, others_bytes=8192)

    def auto_said(self, source_id: str) -> str:
        return "It is started when the record of its machine is imported."

    def rescan(self, done: Callable[[P2vdError | None], None], scsi: str) -> None:
        self.asked.append(["rescan", *([scsi] if scsi else [])])
        if scsi == "host99":
            done(NotFound("SCSI host", scsi))
        elif self._scan_by_itself:
            done(None)
        else:
            self._scans.append(done)

    def doctor(self) -> tuple[Finding, ...]:
        self.asked.append(["doctor"])
        if self._looks_left:
            self._looks_left -= 1
            raise StillLooking("this host's settings")
        return self._findings

    def reload(self) -> tuple[str, ...]:
        self.asked.append(["reload"])
        return self._errors

    def plan(self, source_ids: Sequence[str], options: Mapping[str, object], caller: Caller) -> Plan:
        self._free.wait()
        self.asked.append(["plan", list(source_ids), dict(options), caller.uid])
        source = self._inventory.source(source_ids[0] if source_ids else values.WWID)
        if self._looks_left:
            self._looks_left -= 1
            raise Refused(f"Source {source.id}", (Reason("under-examination", f"It {UNDER_EXAMINATION}."),))
        if source.reasons:
            raise Refused(f"Source {source.id}", source.reasons)
        if source.id == values.LOCAL_SOURCE.id:
            raise RuntimeError("a fault\0of the engine")
        return values.PLAN

    def migrate(self, plan_id: str, options: Mapping[str, object], caller: Caller) -> Machine:
        self.asked.append(["migrate", plan_id, dict(options), caller.uid])
        if plan_id == "old":
            raise PlanOutdated(plan_id, "the source's size is 5 GiB, it was 4 GiB.")
        if plan_id != values.PLAN_ID:
            raise NotFound("plan", plan_id)
        self.add(values.JOB_UUID, values.MACHINE_UUID, caller.uid)
        return self._machines[values.MACHINE_UUID]

    def jobs(self) -> tuple[Job, ...]:
        return tuple(self._jobs.values())

    def job(self, uuid: str) -> Job:
        if uuid not in self._jobs:
            raise NotFound("job", uuid)
        return self._jobs[uuid]

    def activity(self, job_uuid: str) -> Activity:
        return self._activity.get(job_uuid, (Activity.IDLE, ""))[0]

    def stalled(self, job_uuid: str) -> str:
        return self._activity.get(job_uuid, (Activity.IDLE, ""))[1]

    def waiting(self, job_uuid: str) -> Waiting:
        return self._waiting.get(job_uuid, Waiting(job_uuid, 0, ""))

    def machines(self) -> tuple[Machine, ...]:
        return tuple(self._machines.values())

    def machine(self, uuid: str) -> Machine:
        if uuid not in self._machines:
            raise NotFound("machine", uuid)
        return self._machines[uuid]

    def pause(self, job_uuid: str, caller: Caller) -> None:
        self.asked.append(["pause", job_uuid])
        job = self.job(job_uuid)
        if job.stage in _ENDED:
            raise IllegalTransition(f"Job {job_uuid}", job.stage.value, "pause")
        self._change(replace(job, holds=job.holds | {Hold.USER}))

    def resume(self, job_uuid: str, caller: Caller) -> None:
        self.asked.append(["resume", job_uuid])
        job = self.job(job_uuid)
        self._change(replace(job, holds=job.holds - {Hold.USER}))

    def ignore_window(self, job_uuid: str, caller: Caller) -> None:
        self.asked.append(["ignore_window", job_uuid, caller.uid])

    def retry(self, job_uuid: str, caller: Caller) -> None:
        self.asked.append(["retry", job_uuid])
        job = self.job(job_uuid)
        if job.stage is not Stage.FAILED:
            raise IllegalTransition(f"Job {job_uuid}", job.stage.value, "retry")
        self._change(replace(job, stage=Stage.COPYING, failed_stage=None, error=None))

    def cancel(self, job_uuid: str, keep_target: bool, caller: Caller) -> None:
        self.asked.append(["cancel", job_uuid, keep_target])
        self._change(replace(self.job(job_uuid), stage=Stage.CANCELLED))

    def remove(self, job_uuid: str, caller: Caller) -> None:
        self.asked.append(["remove", job_uuid])
        if self.job(job_uuid).stage not in _ENDED:
            raise IllegalTransition(f"Job {job_uuid}", self.job(job_uuid).stage.value, "removal")
        self.forget(job_uuid)

    def set_bandwidth(self, job_uuid: str, bytes_per_s: int) -> None:
        self.asked.append(["set_bandwidth", job_uuid, bytes_per_s])
        self.job(job_uuid)

    def boot_test(self, machine_uuid: str, options: Mapping[str, object], caller: Caller) -> None:
        self.asked.append(["boot_test", machine_uuid, dict(options), caller.uid])
        self._boot(self.machine(machine_uuid), BootTest(BootState.RUNNING, 1))

    def _boot(self, machine: Machine, test: BootTest) -> None:
        self._machines[machine.uuid] = replace(machine, boot_test=test)
        self.tell(MachineChanged(machine.uuid))

    def subscribe(self, listener: Callable[[Event], None]) -> None:
        self._listeners.append(listener)

    # What tests call, by name, over the standard input of the process (face.py).

    def add(self, job_uuid: str, machine_uuid: str, uid: int = 0) -> None:
        self._machines[machine_uuid] = values.machine(machine_uuid, (job_uuid,))
        self.tell(MachineAdded(machine_uuid))
        self._jobs[job_uuid] = values.job(job_uuid, machine_uuid, Caller(uid))
        self.tell(JobAdded(job_uuid))

    def stage(self, job_uuid: str, stage: str, error: str = "") -> None:
        job = self.job(job_uuid)
        failure = JobError("WriteFailed", error) if error else None
        failed_stage = job.stage if error else None
        self._change(replace(job, stage=Stage(stage), error=failure, failed_stage=failed_stage))

    def progress(self, job_uuid: str, counters: dict[str, int], activity: str = "running") -> None:
        self._activity[job_uuid] = (Activity(activity), "")
        job = self.job(job_uuid)
        self._change(replace(job, progress=Progress(**counters)))

    def stall(self, job_uuid: str, where: str) -> None:
        self._activity[job_uuid] = (Activity.STALLED, where)
        self.tell(JobChanged(job_uuid))

    def make_wait(self, job_uuid: str, place: int, reason: str) -> None:
        self._waiting[job_uuid] = Waiting(job_uuid, place, reason)
        job = self.job(job_uuid)
        self._change(replace(job, holds=job.holds | {Hold.SLOT}))

    def forget(self, job_uuid: str) -> None:
        del self._jobs[job_uuid]
        self.tell(JobRemoved(job_uuid, "done"))

    def machine_state(self, uuid: str, state: str, domain: str = "", error: str = "") -> None:
        failure = JobError("RegistrationFailed", error) if error else None
        changed = replace(self.machine(uuid), state=MachineState(state), domain_uuid=domain, error=failure)
        self._machines[uuid] = changed
        self.tell(MachineChanged(uuid))

    def end_boot_test(self, uuid: str, result: dict[str, str]) -> None:
        values = {**result, "state": BootState(result["state"]), "sign": Sign(result.get("sign", ""))}
        self._boot(self.machine(uuid), BootTest(started_us=1, ended_us=2, **values))  # type: ignore[arg-type]

    def unplug(self, source_id: str) -> None:
        sources = tuple(source for source in self._inventory.sources if source.id != source_id)
        self._inventory = replace(self._inventory, sources=sources)
        self.tell(InventoryChanged())

    def portal(self, portal_id: str, state: str, luns: int = 0, error: str = "") -> None:
        view = replace(values.PORTAL, record=self.portals.portals[portal_id].record, luns=luns)
        named = "LoginRefused" if error else ""
        view = replace(view, state=PortalState(state), error_name=named, error=error)
        self.portals.portals[portal_id] = view
        self.tell(PortalChanged(portal_id))

    def lose_portal(self, portal_id: str) -> None:
        del self.portals.portals[portal_id]
        self.tell(PortalChanged(portal_id))

    def no_rules(self) -> None:
        self._rules = ()

    def break_policies(self, *errors: str) -> None:
        self._errors = errors
        self.tell(PolicyErrorsChanged())

    def find(self, severity: str, code: str, text: str) -> None:
        self._findings = (*self._findings, Finding(Severity(severity), Reason(code, text)))

    def look_slowly(self, times: int) -> None:
        self._looks_left = times

    def examine_slowly(self, times: int) -> None:
        self._looks_left = times

    def scan_slowly(self) -> None:
        self._scan_by_itself = False

    def end_scans(self, error: str = "") -> None:
        for done in self._scans:
            done(Failed(f"{error} cannot be read.") if error else None)
        self._scans.clear()

    def block(self, blocked: bool) -> None:
        if blocked:
            self._free.clear()
        else:
            self._free.set()

    def receipt(self, receipt: dict[str, Any], problem: str = "") -> None:
        self.records.put(receipt, problem)

    def fill_the_disk(self, full: bool) -> None:
        self.records.audit.full = full

    def verify_slowly(self, times: int) -> None:
        self.records.audit.looks_left = times

    def harm_the_audit(self, *findings: str) -> None:
        self.records.audit.findings = findings

    def what_was_recorded(self) -> list[list[Any]]:
        return self.records.audit.told

    def what_was_asked(self) -> list[list[object]]:
        return self.asked

    def has_jobs(self) -> bool:
        return bool(self._jobs)

    def _change(self, job: Job) -> None:
        self._jobs[job.uuid] = job
        self.tell(JobChanged(job.uuid))

    def tell(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)
