"""What the bus needs of the engine and of whoever authorizes. Fakes of both are the tests' seam."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from p2vd.jobs.events import Event
from p2vd.jobs.portal_request import PortalRequest
from p2vd.model.audit import AuditEvent, AuditPage, AuditQuestion, AuditVerdict, Request, Subject
from p2vd.model.bandwidth import Grant
from p2vd.model.contents import Findings
from p2vd.model.cutover import CutoverChoice, CutoverRequest
from p2vd.model.disk import Source
from p2vd.model.doctor import Finding
from p2vd.model.errors import P2vdError
from p2vd.model.inventory import Inventory
from p2vd.model.job import Activity, Caller, Job, Machine
from p2vd.model.limits import Waiting
from p2vd.model.lvm import PoolUse
from p2vd.model.passport import Guess, Passport
from p2vd.model.plan import Plan
from p2vd.model.portal import PortalView
from p2vd.model.receipt import ReceiptNote
from p2vd.model.report import Report
from p2vd.model.rule import RuleMatch, RuleView
from p2vd.model.verification import Verification
from p2vd.model.wave import Wave, WaveEntry


class PortalsPort(Protocol):
    """The iSCSI portals as the bus sees them. Called on threads of the bus; nothing waits for a network."""

    def views(self) -> tuple[PortalView, ...]:
        """Every portal as it is now."""
        ...

    def view(self, portal_id: str, /) -> PortalView:
        """One portal as it is now. Raises NotFound."""
        ...

    def add(self, request: PortalRequest, /) -> str:
        """Remember a portal and log in to it; returns its id. The descriptors become the portals' own."""
        ...

    def remove(self, text: str, done: Callable[[P2vdError | None], None], /) -> None:
        """Log out and forget; `done` is called on any thread when it is over. Raises NotFound."""
        ...

    def rescan(self, text: str, hct: str, done: Callable[[P2vdError | None], None], /) -> None:
        """Look for LUNs behind a portal; `done` is called on any thread when it is over."""
        ...


class PassportsPort(Protocol):
    """The records of physical machines as the bus sees them. Called on threads of the bus."""

    def all(self) -> tuple[Passport, ...]:
        """Every record."""
        ...

    def get(self, name: str, /) -> Passport:
        """The record of a machine. Raises NotFound."""
        ...

    def take_in(self, fd: int, name: str, *, replace: bool) -> Passport:
        """Keep the record that a descriptor holds, and return it; the descriptor becomes theirs."""
        ...

    def remove(self, name: str, /) -> None:
        """Forget a record. Raises NotFound."""
        ...

    def guess(self, source_ids: Sequence[str], name: str, /) -> Guess:
        """The record that disks speak for. Raises NotFound, Refused, InvalidArgument, StillLooking."""
        ...


class BandwidthPort(Protocol):
    """What copies may read a second."""

    @property
    def total(self) -> int:
        """What all of them may together; 0: there is no limit."""
        ...

    def set_total(self, bytes_per_s: int, /) -> None:
        """Change that. Raises InvalidArgument."""
        ...

    def granted(self, job: Job, /) -> Grant:
        """What one job may, and why."""
        ...


class AuditPort(Protocol):
    """The audit as the bus sees it. Called on threads of the bus, but for `denied`."""

    def asked(self, request: Request, /) -> AuditEvent:
        """Record, durably, what is going to be done; returns what `ended` wants. Raises AuditUnwritable."""
        ...

    def ended(self, asked: AuditEvent, subject: Subject, error: P2vdError | None, /) -> None:
        """Record how it ended."""
        ...

    def denied(self, request: Request, action: str, reason: str, /) -> None:
        """Record that it was not permitted. Called on the GLib thread; never blocks it."""
        ...

    def problem(self) -> str:
        """Why the audit cannot be written now, or ""."""
        ...

    def search(self, question: AuditQuestion, /) -> AuditPage:
        """A page of entries."""
        ...

    def verify(self) -> AuditVerdict:
        """Whether the whole audit is as it was written. Raises StillLooking."""
        ...


class RecordsPort(Protocol):
    """What happened, as the bus sees it."""

    @property
    def audit(self) -> AuditPort:
        """The audit."""
        ...

    def receipt(self, job_uuid: str, /) -> str:
        """The receipt of a job as JSON, also of one that left the bus. Raises NotFound, ReceiptDamaged."""
        ...

    def verifications(self, job_uuid: str, /) -> tuple[str, ...]:
        """What later verifications of a job found, oldest first, as JSON. Raises as `receipt`."""
        ...

    def report(self, since_us: int, /) -> Report:
        """What happened since then, also to jobs that left the bus."""
        ...

    def find_receipts(self, text: str, /) -> tuple[ReceiptNote, ...]:
        """The receipts that `text` names: by a job's UUID, a WWID, their beginning, or a machine's name."""
        ...


class WavesPort(Protocol):
    """The waves as the bus sees them. Called on threads of the bus."""

    def plan(self, entries: Sequence[WaveEntry], /) -> Wave:
        """What would become of the machines. Raises InvalidArgument, StillLooking."""
        ...

    def all(self) -> tuple[Wave, ...]:
        """Every wave that was planned, oldest first."""
        ...

    def start(self, wave_id: str, at_us: int, caller: Caller, /) -> Wave:
        """Have a wave start, at a time or, 0, at once. Raises NotFound, IllegalTransition, Refused."""
        ...

    def cancel(self, wave_id: str, caller: Caller, /) -> Wave:
        """Begin no more of its machines. Raises NotFound, IllegalTransition."""
        ...


class EnginePort(Protocol):
    """The engine as the bus sees it. Called on threads of the bus, never on the GLib thread.

    Which jobs and machines are on the bus is what `jobs()` and `machines()` list.
    """

    @property
    def portals(self) -> PortalsPort:
        """The iSCSI portals."""
        ...

    @property
    def passports(self) -> PassportsPort:
        """The records of physical machines."""
        ...

    @property
    def bandwidth(self) -> BandwidthPort:
        """The bandwidth of the copies."""
        ...

    @property
    def waves(self) -> WavesPort:
        """The waves."""
        ...

    @property
    def records(self) -> RecordsPort:
        """The audit and the receipts."""
        ...

    def inventory(self) -> Inventory:
        """What the last scan saw."""
        ...

    def matched_policy(self, source: Source, /) -> str:
        """The name of the first rule that matches, or "" where none does."""
        ...

    def auto_said(self, source_id: str, /) -> str:
        """What p2vd does with a source by itself, or why it does not; "" where no policy wants it to."""
        ...

    def findings(self, source: Source, /) -> Findings:
        """What speaks against a source, and what should be known of it."""
        ...

    def policy_errors(self) -> tuple[str, ...]:
        """What is wrong in policy files."""
        ...

    def policy_rules(self) -> tuple[RuleView, ...]:
        """The rules in force, in the order in which they are asked."""
        ...

    def explain_policy(self, source_id: str, machine_name: str, /) -> tuple[RuleMatch, ...]:
        """What every rule says to a source; an empty `machine_name`: the default one. Raises NotFound."""
        ...

    def pool_use(self, vg_uuid: str, pool: str, /) -> PoolUse:
        """What running jobs may still take of a thin pool, and what others took of it meanwhile."""
        ...

    def rescan(self, done: Callable[[P2vdError | None], None], scsi: str, /) -> None:
        """Scan soon; `done` is called on any thread when it is over.

        `scsi`: where the kernel shall look for LUNs first, "" for nowhere.
        """
        ...

    def doctor(self) -> tuple[Finding, ...]:
        """What is not as it should be on this host. Raises StillLooking."""
        ...

    def reload(self) -> tuple[str, ...]:
        """Read the policies again; returns their errors, with which the old ones stay in force."""
        ...

    def plan(self, source_ids: Sequence[str], options: Mapping[str, object], caller: Caller, /) -> Plan:
        """Make a plan and remember it. Options: `source-offline`, `sample` (bool), `name`, `machine`."""
        ...

    def migrate(self, plan_id: str, options: Mapping[str, object], caller: Caller, /) -> Machine:
        """Make the jobs of a plan, durably, and let them run."""
        ...

    def jobs(self) -> tuple[Job, ...]:
        """All jobs that belong on the bus, with the progress of this moment."""
        ...

    def job(self, uuid: str, /) -> Job:
        """One job. Raises NotFound."""
        ...

    def activity(self, job_uuid: str, /) -> Activity:
        """What a job does now."""
        ...

    def stalled(self, job_uuid: str, /) -> str:
        """Where and since when a job is stalled, or ""."""
        ...

    def waiting(self, job_uuid: str, /) -> Waiting:
        """What a job waits for and its place in the queue; an empty reason: it does not."""
        ...

    def machines(self) -> tuple[Machine, ...]:
        """All machines that belong on the bus."""
        ...

    def machine(self, uuid: str, /) -> Machine:
        """One machine. Raises NotFound."""
        ...

    def hypervisor(self, machine: Machine, /) -> str:
        """Who takes a machine, as policies name it; "" while its plan cannot be read."""
        ...

    def pause(self, job_uuid: str, caller: Caller, /) -> None:
        """Hold a job. Raises IllegalTransition, NotFound; so do the following."""
        ...

    def resume(self, job_uuid: str, caller: Caller, /) -> None:
        """Take the user's hold away."""
        ...

    def ignore_window(self, job_uuid: str, caller: Caller, /) -> None:
        """Let a job run outside its windows too."""
        ...

    def retry(self, job_uuid: str, caller: Caller, /) -> None:
        """Enter the stage that failed again."""
        ...

    def cancel(self, job_uuid: str, keep_target: bool, caller: Caller, /) -> None:
        """Give a job up."""
        ...

    def cutover(self, machine_uuid: str, request: CutoverRequest, caller: Caller, /) -> None:
        """Register a machine that is ready. Raises DomainImpossible, InvalidArgument, too."""
        ...

    def plan_cutover(self, machine_uuid: str, request: CutoverRequest, /) -> CutoverChoice:
        """The virtual machine that a cutover would come to. Raises as `cutover`."""
        ...

    def rollback(self, machine_uuid: str, caller: Caller, /) -> None:
        """Take a registered machine back from the hypervisor."""
        ...

    def accept(self, machine_uuid: str, caller: Caller, /) -> None:
        """End a registered machine's way back."""
        ...

    def remove(self, job_uuid: str, caller: Caller, /) -> None:
        """Take a finished job off the bus; the store and its receipt stay."""
        ...

    def set_bandwidth(self, job_uuid: str, bytes_per_s: int, /) -> None:
        """Limit a copy from now on; 0: no limit."""
        ...

    def boot_test(self, machine_uuid: str, options: Mapping[str, object], caller: Caller, /) -> None:
        """Start a machine for a test. Options: `expect` (str), `timeout` (seconds), `memory` (bytes)."""
        ...

    def verify(self, job_uuid: str, caller: Caller, /) -> None:
        """Begin to prove a finished job's volume again, whether the job is on the bus or not."""
        ...

    def verification(self, job_uuid: str, /) -> Verification | None:
        """The latest verification of a job, as it stands now. Raises NotFound."""
        ...

    def subscribe(self, listener: Callable[[Event], None], /) -> None:
        """Call `listener` with every event, on any thread."""
        ...


@dataclass(frozen=True)
class Verdict:
    """Who asked, whether they may, and if not, why not. `pid` 0: the bus does not say."""

    uid: int
    allowed: bool
    reason: str = ""
    pid: int = 0


class Authority(Protocol):
    """Decides who may do what. Called on the GLib thread, and never blocks it."""

    def authorize(
        self, sender: str, action: str, interactive: bool, done: Callable[[Verdict], None], /
    ) -> None:
        """Find out and call `done` on the GLib thread. An empty `action` asks only who it is."""
        ...
