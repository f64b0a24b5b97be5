"""Later verifications: a finished job's volume is read again and compared with its receipt.

Each runs on a thread of its own, like a boot test: begun durably, kept in the job when it ends, and beside
the receipt as a record. The volume is opened for reading alone, by the disposable helper, and read by a
process without rights; nothing is read here.
"""

import contextlib
import json
import logging
import threading
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from p2vd.copying.opening import OpenRequest, SourceToOpen
from p2vd.copying.verification import VERSION, VerifyReport, VerifyStart
from p2vd.jobs.control import MustWait, TryAgain
from p2vd.jobs.cutover import options_of
from p2vd.jobs.events import JobChanged, JobVerified
from p2vd.jobs.job_target import JobLv
from p2vd.jobs.services import Services
from p2vd.jobs.session import OpenFailed, ask_opener
from p2vd.jobs.takers import taker
from p2vd.jobs.targets import read_vg
from p2vd.jobs.verify_errors import (
    VerifyCannotRun,
    VerifyFailed,
    VerifyInterrupted,
    VerifyMachineRuns,
    VolumeBusy,
    VolumeUsedMeanwhile,
)
from p2vd.jobs.verify_result import conclude
from p2vd.jobs.verify_worker import read_again
from p2vd.jobs.volume_history import ran_now
from p2vd.jobs.waking import awake
from p2vd.model.codec import from_dict
from p2vd.model.errors import IllegalTransition, P2vdError
from p2vd.model.job import Caller, Job, Machine, MachineState, Stage
from p2vd.model.plan import LvTarget
from p2vd.model.verification import Verification, VerifyState
from p2vd.records.receipt import versions
from p2vd.records.receipts import read_receipt
from p2vd.records.verifications import read_verifications, write_verification
from p2vd.system.clock import now_us
from p2vd.system.threads import join_all, start

log = logging.getLogger(__name__)

_AT_ONCE = 2
_OPEN_S = 30.0
_STOP_S = 8.0
_LAST_S = 2.0  # of the daemon's stop, which the copies' last checkpoints need more
_TELL_US = 2_000_000
_UNDER_WAY = (MachineState.REGISTERING, MachineState.ROLLING_BACK, MachineState.ACCEPTING)


@dataclass
class _Running:
    """One that runs now; `stop` ends it early. `shown`: how it stands at this moment, not stored."""

    machine_uuid: str
    shown: Verification
    stop: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None
    told_us: int = 0


class Verifications:
    """Starts and ends them. Thread-safe."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._lock = threading.Lock()
        self._running: dict[str, _Running] = {}
        self._unstored: dict[str, Verification] = {}
        self._places = threading.Semaphore(_AT_ONCE)
        self._stopped = False

    def recover(self) -> None:
        """Of those that an earlier daemon began: keep what it had recorded, else say that they ended so."""
        for job in self._services.board.jobs():
            if job.verification is not None and job.verification.state is VerifyState.RUNNING:
                self._keep(
                    job, _recorded(self._services, job) or _ended(job, VerifyInterrupted(_volume(job)))
                )

    def start(self, uuid: str, caller: Caller) -> None:
        """Begin one and return at once, for a job that has its receipt, whether it is on the bus or not.

        Raises NotFound, IllegalTransition, ReceiptDamaged, VerifyCannotRun.
        """
        board = self._services.board
        job = board.job(uuid)
        if job.stage is not Stage.PROVEN or not job.finished:
            raise IllegalTransition(f"Job {uuid}", job.stage.value, "verification")
        _lv_target(job)
        machine = board.machine(job.machine_uuid)
        _refuse_under_way(machine)
        receipt = json.loads(read_receipt(self._services.config.state_dir / "jobs", uuid))
        if ":" not in receipt["proof"]["digest"]:
            raise VerifyCannotRun(_volume(job), "its receipt has no digest to compare it with.")
        begun = Verification(
            VerifyState.RUNNING, now_us(), started_by=caller.uid, bytes_total=receipt["target"]["size_bytes"]
        )
        with self._lock:
            if self._stopped or uuid in self._running:
                raise IllegalTransition(f"Job {uuid}", "being verified", "another verification")
            self._unstored.pop(uuid, None)
            running = self._running[uuid] = _Running(machine.uuid, begun)

        def begin(stored: Job) -> Job:
            if stored.stage is not Stage.PROVEN:  # it was cancelled since: its volume is about to go
                raise IllegalTransition(f"Job {uuid}", stored.stage.value, "verification")
            return replace(stored, verification=begun)

        try:
            # Once more: who takes the volumes for the machine from here on, ends this one.
            _refuse_under_way(board.machine(machine.uuid))
            board.change(uuid, begin)
            with self._lock:  # whoever ends it waits for its thread, or there is none
                if running.stop.is_set():
                    wanted = "wanted otherwise by now"
                    raise IllegalTransition(f"Machine {machine.name}", wanted, "verification")
                running.thread = start(partial(self._run, job, receipt, running), f"verify-{uuid[:8]}")
        except BaseException:  # the store's disk is full, or there are no threads: another may be asked for
            with self._lock:
                del self._running[uuid]
            with contextlib.suppress(Exception):
                board.change(uuid, lambda stored: replace(stored, verification=job.verification))
            raise

    def end(self, uuid: str, wait_s: float = _STOP_S) -> None:
        """End the verification of a job, or all of a machine, and wait until the volumes are free."""
        with self._lock:
            # One that is about to start sees it, or has its thread by now.
            found = [one for key, one in self._running.items() if uuid in (key, one.machine_uuid)]
            for one in found:
                one.stop.set()
            threads = [one.thread for one in found if one.thread is not None]
        for thread in threads if wait_s else ():
            thread.join(wait_s)

    def stop(self, wait_s: float = _LAST_S) -> None:
        """End all, none begins any more; wait for all of them together at most so long.

        No more than two seconds: one may be stuck in the kernel.
        """
        with self._lock:
            self._stopped = True
            for one in self._running.values():
                one.stop.set()
            threads = [one.thread for one in self._running.values() if one.thread is not None]
        join_all(threads, min(wait_s, _LAST_S))

    def shown(self, job: Job) -> Job:
        """Return the job with its verification as it stands at this moment."""
        with self._lock:
            running = self._running.get(job.uuid)
            shown = running.shown if running is not None else self._unstored.get(job.uuid)
        return job if shown is None else replace(job, verification=shown)

    # -- one, on its thread ---------------------------------------------------------------------

    def _run(self, job: Job, receipt: dict[str, Any], running: _Running) -> None:
        try:
            self._wait_for_place(job, running)
            try:
                outcome = self._verify(job, receipt, running)
            finally:
                self._places.release()
        except P2vdError as error:
            outcome = _ended(self.shown(job), error)
        except Exception as error:  # a defect of ours: whoever waits must not wait for ever
            log.exception("job %s: the verification failed", job.uuid)
            fault = f"p2vd has a fault ({type(error).__name__}: {error}): see journalctl -u p2vd."
            outcome = _ended(self.shown(job), VerifyFailed(_volume(job), fault))
        if outcome.state is not VerifyState.FAILED:
            outcome = self._record(job, outcome)
        self._keep(job, outcome)

    def _wait_for_place(self, job: Job, running: _Running) -> None:
        told = False
        while not self._places.acquire(timeout=0.2):
            if running.stop.is_set():
                raise VerifyInterrupted(_volume(job))
            if not told:
                told = True
                self._note(job, running, 0, f"It waits: {_AT_ONCE} verifications run already.")

    def _verify(self, job: Job, receipt: dict[str, Any], running: _Running) -> Verification:
        services = self._services
        machine = services.board.machine(job.machine_uuid)
        self._refuse_running(machine)
        target = self._find(job, receipt)
        with awake(services, job, target) as target:
            start = self._message(job, receipt, target)  # before it is open: nothing may go wrong in between
            report = read_again(
                services.spawn,
                _volume(job),
                start,
                self._open(job, target, running),
                running.stop,
                lambda read, hangs: self._note(job, running, read, hangs),
            )
        self._refuse_written(job, report)
        machine = services.board.machine(job.machine_uuid)  # it may have been seen to run meanwhile
        return conclude(self.shown(job), machine, receipt, report, target.lv.size_bytes)

    def _refuse_running(self, machine: Machine) -> None:
        options = options_of(self._services, machine)
        if machine.domain_uuid and taker(self._services, options).is_running(machine.domain_uuid):
            self._services.board.change_machine(machine.uuid, ran_now)
            raise VerifyMachineRuns(machine.name, options.uri)

    def _find(self, job: Job, receipt: dict[str, Any]) -> JobLv:
        """Return the job's LV, by UUID and tag. Raises VerifyCannotRun."""
        try:
            vg = read_vg(self._services, _lv_target(job))
        except (MustWait, TryAgain) as error:
            raise VerifyCannotRun(_volume(job), f"{error.why}.") from error
        lv = vg.lv(receipt["target"]["lv_uuid"])
        if lv is None or f"p2vd.job={job.uuid}" not in lv.tags:
            why = f"the LV {job.lv_uuid} with the tag p2vd.job={job.uuid} is no longer in {vg.name}."
            raise VerifyCannotRun(_volume(job), why)
        if lv.size_bytes < receipt["target"]["size_bytes"]:
            raise VerifyCannotRun(
                _volume(job),
                f"it has {lv.size_bytes} bytes by now, the receipt says {receipt['target']['size_bytes']}: "
                "somebody reduced it, and what was beyond is lost.",
            )
        return JobLv(vg, lv)

    def _open(self, job: Job, target: JobLv, running: _Running) -> list[int]:
        """Return the volume's descriptor, for reading alone. Raises VerifyInterrupted, or what refuses."""
        request = OpenRequest(
            SourceToOpen(target.devnode, target.lv.size_bytes, target.vg.sector_size, target.dm_uuid),
            source_alone=True,
        )

        def keep_waiting(seconds: float) -> bool:
            if seconds >= _OPEN_S:
                self._note(job, running, 0, f"Opening it has taken {seconds:.0f} s.")
            return not running.stop.is_set()

        try:
            return ask_opener(self._services.spawn, request, keep_waiting).descriptors
        except TimeoutError:
            raise VerifyInterrupted(_volume(job)) from None
        except OpenFailed as error:
            if error.error_name == "DeviceInUse":
                raise VolumeBusy(_volume(job), target.devnode) from error
            if error.error_name == "DeviceAbsent":
                raise VerifyCannotRun(_volume(job), f"{target.devnode} is not there.") from error
            raise

    def _message(self, job: Job, receipt: dict[str, Any], target: JobLv) -> VerifyStart:
        uid, gid = self._services.worker_ids
        return VerifyStart(
            version=VERSION,
            job=job.uuid,
            generation=receipt["proof"]["generation"],
            size_bytes=receipt["target"]["size_bytes"],
            source_bytes=receipt["source"]["size_bytes"],
            digest=receipt["proof"]["digest"],
            checkpoint_path=str(self._services.job_directory(job) / "checkpoint"),
            dm_uuid=target.dm_uuid,
            threads=job.plan.copy.queue_depth,
            bandwidth_bytes_per_s=job.plan.copy.bandwidth_bytes_per_s,
            worker_uid=uid,
            worker_gid=gid,
        )

    @staticmethod
    def _refuse_written(job: Job, report: VerifyReport) -> None:
        written = report.writes_after - report.writes_before
        if report.writes_before >= 0 and written > 0:
            raise VolumeUsedMeanwhile(_volume(job), written)

    # -- what is kept of it ---------------------------------------------------------------------

    def _note(self, job: Job, running: _Running, read: int, seen: str) -> None:
        """Show how far it is; nothing of that is stored, and the bus hears of it now and then."""
        running.shown = replace(running.shown, bytes_read=read, seen=seen)
        now = now_us()
        if now - running.told_us >= _TELL_US:
            running.told_us = now
            self._services.board.publish(JobChanged(job.uuid))

    def _record(self, job: Job, outcome: Verification) -> Verification:
        """Put it beside the receipt, before the store knows of it: what is there is found by `recover`."""
        try:
            write_verification(self._services.job_directory(job), job.uuid, outcome, versions())
        except OSError as error:
            log.exception("job %s: its verification cannot be recorded", job.uuid)
            told = f"{outcome.seen} It could not be recorded beside the receipt: {error}."
            return replace(outcome, seen=told)
        return outcome

    def _keep(self, job: Job, outcome: Verification) -> None:
        level = logging.INFO if outcome.state is VerifyState.UNCHANGED else logging.WARNING
        log.log(level, "job %s: verification: %s: %s", job.uuid, outcome.state.value, outcome.seen)
        board = self._services.board
        try:
            board.change(job.uuid, lambda stored: replace(stored, verification=outcome))
            stored = True
        except Exception:  # the store's disk is full: its record is there, and the next start stores it
            log.exception("job %s: how its verification ended cannot be stored", job.uuid)
            stored = False
        with self._lock:  # before anybody hears of the end, and asks for another
            self._running.pop(job.uuid, None)
            if not stored:
                self._unstored[job.uuid] = outcome
        board.publish(JobVerified(job.uuid) if stored else JobChanged(job.uuid))


def _refuse_under_way(machine: Machine) -> None:
    if machine.state in _UNDER_WAY:
        raise IllegalTransition(f"Machine {machine.name}", machine.state.value, "verification")


def _lv_target(job: Job) -> LvTarget:
    """Raises VerifyCannotRun for what is no logical volume."""
    if isinstance(job.plan.target, LvTarget):
        return job.plan.target
    raise VerifyCannotRun(_volume(job), "it is no logical volume; only these are verified later.")


def _volume(job: Job) -> str:
    return job.plan.target.path


def _ended(job: Job, error: P2vdError) -> Verification:
    """A verification that says nothing of the volume, and why."""
    begun = job.verification or Verification(VerifyState.RUNNING, now_us())
    return replace(begun, state=VerifyState.FAILED, ended_us=now_us(), seen=str(error), error=error.name)


def _recorded(services: Services, job: Job) -> Verification | None:
    """What an earlier daemon recorded of the job's latest verification, before it could store it."""
    began_us = job.verification.started_us if job.verification else 0
    records = read_verifications(services.job_directory(job))
    found = [record for record in records if record.get("started_us") == began_us]
    return from_dict(Verification, found[-1]) if found else None
