"""What happens in p2vd as entries of the audit: verbs before and after they act, and what becomes of jobs.

Nothing that changes something is begun that is not recorded: `asked` raises where the disk does not take it,
and the verb is refused. What happens by itself (a job that goes on, the end of a verb) cannot be refused: it
is owed then, and written before the next entry.
"""

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from p2vd.config import AuditOptions
from p2vd.jobs.audit_about import about, about_job, about_machine
from p2vd.jobs.audit_journal import AuditJournal, Journal
from p2vd.jobs.checkup import Checkup
from p2vd.jobs.denials import Denials
from p2vd.jobs.events import Event, JobAdded, JobChanged, JobVerified, MachineAdded, MachineChanged
from p2vd.jobs.store import Store
from p2vd.model.audit import (
    About,
    AuditEvent,
    AuditPage,
    AuditQuestion,
    AuditVerdict,
    Kind,
    Request,
    Subject,
)
from p2vd.model.errors import NotFound, P2vdError
from p2vd.model.job import Job, Machine
from p2vd.records.audit import AuditFile, AuditUnreadable, AuditUnwritable
from p2vd.records.chain import Link, parse
from p2vd.records.files import lines
from p2vd.records.search import search, verify
from p2vd.system.clock import Clock, SystemClock
from p2vd.system.threads import start

log = logging.getLogger(__name__)

_SEARCH_S = 0.6  # a call is answered within a second
_VERIFY_S = 0.9
_OWED = 10_000
_LOOK_BACK = 20_000  # entries in which a start looks for what is recorded of jobs already


class AuditTrail:
    """Thread-safe. Every method but `denied` may wait for the disk: none other is for the GLib thread."""

    def __init__(
        self,
        store: Store,
        directory: Path,
        options: AuditOptions,
        unit_of: Callable[[int], str],
        journal: Journal | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`journal` None: there is none (a simulation)."""
        self._store = store
        self._directory = directory
        self._unit_of = unit_of
        self._journal = AuditJournal(journal)
        self._clock = clock or SystemClock()
        self._file = AuditFile(
            directory, self._clock.now_us, self._journal.tell, options.max_size, options.keep_days
        )
        self._lock = threading.Lock()
        self._owed: deque[AuditEvent] = deque(maxlen=_OWED)
        self._problem = ""
        self._known: dict[str, tuple[str, str]] = {}  # of jobs and machines: what was recorded last
        self._denials = Denials(self._record, self._clock)
        self._verdict = Checkup(self._verify, self._clock, "all of the audit")

    def start(self, version: str) -> None:
        """Record that the daemon starts; and soon, on another thread, what a crash left unrecorded."""
        self._record(AuditEvent(Kind.DAEMON, outcome="started", text=f"p2vd {version}"))
        start(self._catch_up, "audit-start")

    def _catch_up(self) -> None:
        with self._lock, contextlib.suppress(OSError):  # which the entry before has met and told
            self._read_known()
        for job in self._store.jobs():
            if not job.removed_us:
                self.hear(JobAdded(job.uuid))
        for machine in self._store.machines():
            self.hear(MachineAdded(machine.uuid))

    def stop(self) -> None:
        """Record that the daemon ends."""
        self._denials.stop()
        self._record(AuditEvent(Kind.DAEMON, outcome="stopped"))
        self._file.close()

    def problem(self) -> str:
        """Why the audit cannot be written now; "" where all is well."""
        return self._problem

    # -- verbs --------------------------------------------------------------------------------

    def asked(self, request: Request) -> AuditEvent:
        """Record, durably, that somebody may do and now does something; returns what `ended` wants.

        Raises AuditUnwritable: then it must not be done.
        """
        event = self._event(Kind.ASKED, request)
        with self._lock:
            link = self._append(event)
        return replace(event, kind=Kind.ENDED, asked=link.number, arguments={}, who=None)

    def ended(self, asked: AuditEvent, subject: Subject, error: P2vdError | None) -> None:
        """Record how it ended. `subject`: what is known more of it than when it was asked."""
        more = about(self._store, subject)
        merged = replace(
            asked.about,
            jobs=more.jobs or asked.about.jobs,
            wwids=more.wwids or asked.about.wwids,
            machine=more.machine or asked.about.machine,
            machine_name=more.machine_name or asked.about.machine_name,
            plan=more.plan or asked.about.plan,
        )
        outcome, text = ("answered", "") if error is None else (error.name, str(error))
        self._record(replace(asked, about=merged, outcome=outcome, text=text))

    def denied(self, request: Request, action: str, reason: str) -> None:
        """Have it recorded that polkit said no. Never waits; what is repeated is counted."""
        self._denials.add(
            (request.who.uid, request.verb),
            lambda: replace(
                self._event(Kind.DENIED, request), outcome="NotAuthorized", text=f"{action}: {reason}"
            ),
        )

    def _event(self, kind: Kind, request: Request) -> AuditEvent:
        who = replace(request.who, unit=self._unit_of(request.who.pid)) if request.who.pid else request.who
        return AuditEvent(kind, request.verb, who, request.arguments, about(self._store, request.subject))

    # -- what p2vd decides by itself ----------------------------------------------------------

    def note_pool(self, job: Job, pool: str, outcome: str, text: str) -> None:
        """Record that a job's pool (`vg/pool`) is being extended, by which policy, or how that ended.

        Raises AuditUnwritable for `begun`: then it must not be. An end that cannot be recorded now is later.
        """
        arguments = {"pool": pool, "policy": job.plan.policy}
        told = about_job(self._store, job)
        event = AuditEvent(Kind.POOL, arguments=arguments, about=told, outcome=outcome, text=text)
        self._note(event, begins=outcome == "begun")

    def note_auto(self, told: About, outcome: str, text: str) -> None:
        """Record that p2vd starts a machine by itself, or why not.

        Raises AuditUnwritable for `starting`, as `note_pool` does.
        """
        event = AuditEvent(Kind.AUTO, about=told, outcome=outcome, text=text)
        self._note(event, begins=outcome == "starting")

    def _note(self, event: AuditEvent, *, begins: bool) -> None:
        with self._lock:
            if begins:
                self._append(event)
            else:
                self._record_locked(event)

    def note_hook(self, machine: Machine, jobs: Sequence[Job], hook: str, outcome: str, text: str) -> None:
        """Record how a hook ended: of one job, or of a machine with all its jobs."""
        told = about_job(self._store, jobs[0]) if len(jobs) == 1 else about_machine(self._store, machine)
        self._record(AuditEvent(Kind.HOOK, arguments={"hook": hook}, about=told, outcome=outcome, text=text))

    # -- what becomes of jobs and machines ----------------------------------------------------

    def hear(self, event: Event) -> None:
        """Record a transition that just became durable; all other news is nothing to the audit."""
        try:
            match event:
                case JobAdded(uuid) | JobChanged(uuid):
                    job = self._store.job(uuid)
                    if self._known.get(uuid) != _state_of_job(job):  # not each step of its progress waits
                        with self._lock:
                            self._note_job(self._store.job(uuid))
                case JobVerified(uuid):
                    self._note_verification(self._store.job(uuid))
                case MachineAdded(uuid) | MachineChanged(uuid):
                    with self._lock:
                        self._note_machine(self._store.machine(uuid))
        except NotFound:
            log.debug("%s is gone", event)

    def _note_job(self, job: Job) -> None:
        state = outcome, text = _state_of_job(job)
        if self._known.get(job.uuid) != state:
            self._known[job.uuid] = state
            self._record_locked(
                AuditEvent(Kind.JOB, about=about_job(self._store, job), outcome=outcome, text=text)
            )

    def _note_verification(self, job: Job) -> None:
        if (found := job.verification) is not None:
            told = about_job(self._store, job)
            self._record(
                AuditEvent(Kind.VERIFICATION, about=told, outcome=found.state.value, text=found.seen)
            )

    def _note_machine(self, machine: Machine) -> None:
        state = outcome, text = _state_of_machine(machine)
        if self._known.get(machine.uuid) != state:
            self._known[machine.uuid] = state
            told = about_machine(self._store, machine)
            self._record_locked(AuditEvent(Kind.MACHINE, about=told, outcome=outcome, text=text))

    def _read_known(self) -> None:
        """Read what the newest entries say of jobs and machines."""
        for _, line in lines(self._directory, max(0, self._file.last.number - _LOOK_BACK)):
            if b'"kind":"job"' not in line and b'"kind":"machine"' not in line:
                continue
            try:
                entry = parse(line)
            except ValueError:
                continue
            uuids = entry.get("job", ()) if entry["kind"] == Kind.JOB.value else (entry.get("machine", ""),)
            for uuid in uuids:
                self._known[uuid] = (entry.get("outcome", ""), entry.get("text", ""))

    # -- entries ------------------------------------------------------------------------------

    def _record(self, event: AuditEvent) -> None:
        with self._lock:
            self._record_locked(event)

    def _record_locked(self, event: AuditEvent) -> None:
        try:
            self._append(event)
        except AuditUnwritable:
            when = replace(event, arguments={**event.arguments, "happened_us": self._clock.now_us()})
            self._owed.append(when)

    def _append(self, event: AuditEvent) -> Link:
        """Append what is owed, then `event`. Raises AuditUnwritable."""
        try:
            while self._owed:
                self._file.append(self._owed[0])
                self._owed.popleft()
            link = self._file.append(event)
        except AuditUnwritable as error:
            if self._problem != str(error):
                log.error("%s", error)  # noqa: TRY400  (its sentence says all)
            self._problem = str(error)
            raise
        self._problem = ""
        return link

    # -- questions ----------------------------------------------------------------------------

    def search(self, question: AuditQuestion) -> AuditPage:
        """Return a page of entries, within a second. Raises AuditUnreadable."""
        end = self._clock.monotonic() + _SEARCH_S
        try:
            return search(self._directory, question, lambda: self._clock.monotonic() > end)
        except OSError as error:
            raise AuditUnreadable(str(self._directory), error.strerror or str(error)) from error

    def verify(self) -> AuditVerdict:
        """Check the whole chain, against the journal too. Raises StillLooking: ask again."""
        return self._verdict.facts(_VERIFY_S)

    def _verify(self) -> AuditVerdict:
        newest, note = None, ""
        try:
            newest = self._journal.newest()
        except OSError as error:
            note = f"The journal cannot be read: {error}."
        verdict = verify(self._directory, newest)
        return replace(verdict, journal=note or verdict.journal)


def _state_of_job(job: Job) -> tuple[str, str]:
    return job.stage.value, f"{job.error.name}: {job.error.message}" if job.error else ""


def _state_of_machine(machine: Machine) -> tuple[str, str]:
    error = machine.error
    return machine.state.value, f"{error.name}: {error.message}" if error else ""
