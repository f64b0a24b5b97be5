"""The stages `copying` and `verifying`: one worker at a time, watched until it ends."""

import logging
import time
from dataclasses import dataclass, field, replace

import tenacity

from p2vd.copying.controls import COMMITTING, READING
from p2vd.copying.errors import ExitCode
from p2vd.copying.protocol import Bandwidth, Credit, NeedCredit, Phase, ProgressReport, Stalled, Stop
from p2vd.copying.protocol import Pause as PauseWorker
from p2vd.copying.protocol import Resume as ResumeWorker
from p2vd.copying.terms import Report
from p2vd.jobs import mistrust, old_worker, source_guard, target_watch
from p2vd.jobs.control import (
    Interrupted,
    MustWait,
    PathReplaced,
    PoolBroken,
    TargetChanged,
    TargetInUse,
    TryAgain,
    WorkerFailed,
)
from p2vd.jobs.job_target import JobLun, JobTarget
from p2vd.jobs.path_watch import PathWatch
from p2vd.jobs.services import Services
from p2vd.jobs.session import OpenFailed, WorkerSession, ask_opener
from p2vd.jobs.signals import Signals
from p2vd.jobs.target_watch import Glances
from p2vd.jobs.targets import devices_of, find_source, find_target, may_have_written
from p2vd.jobs.transitions import JobEvent
from p2vd.jobs.worker_start import PROBES_END_S, open_devices, request, start_message
from p2vd.model.copying import Verify
from p2vd.model.disk import Source
from p2vd.model.errors import IdentityChanged, P2vdError
from p2vd.model.job import Activity, Hold, Job, JobError, Stage
from p2vd.model.size import format_size
from p2vd.provisioning.errors import FileStepFailed
from p2vd.system.command import CommandTimedOut
from p2vd.system.descriptors import close_all

log = logging.getLogger(__name__)

# The worker itself checks size and identity at each commit; the table and who else has the target open
# are looked at this often, and on a host where that takes long no more than a fifth of the time.
_CHECK_INTERVAL_S = 3.0
_CHECK_SHARE = 5
_HELD_BY_FAILURE = {
    "PoolFull": Hold.POOL,
    "CheckpointUnwritable": Hold.CHECKPOINT_STORE,
    "ConnectionLost": Hold.SOURCE_ABSENT,
    "TargetLocked": Hold.OLD_WORKER,
}


@dataclass
class _Copy:
    """What one attempt knows; used by one thread."""

    job: Job
    source: Source
    target: JobTarget
    table: str
    paths: PathWatch
    report: Report | None = None
    committed_bytes: int = 0
    stopping: bool = False
    paused: bool = False
    bandwidth: int = 0
    credit_wanted: int = 0
    glances: Glances = field(default_factory=Glances)
    spoiled: P2vdError | None = None
    """What was seen meanwhile that ends the copy."""


def copy(services: Services, signals: Signals, job: Job) -> None:
    """Copy, verify and prove, from wherever the checkpoint stands.

    Ends with a transition; or raises MustWait, TryAgain, Interrupted, or what fails the job.
    """
    if job.mistrust is not None:
        services.board.advance(job.uuid, JobEvent.FAIL, job.mistrust)
        return
    old_worker.hold_while_one_lives(job.uuid)
    # As uevents keep it: what counts is asked of the devices themselves, by the helper that opens them.
    source = find_source(services.inventory.scanned_once(), job)
    target = find_target(services, job)
    target_watch.make_ready(services, signals, job, target)
    services.quarantine.add_source(source)
    attempt, session = _begin(services, signals, job, source, target)
    try:
        log.info("job %s: worker %d copies %s to %s", job.uuid, session.pid, source, target.devnode)
        services.board.release(job.uuid, Hold.OLD_WORKER)
        services.board.release(job.uuid, Hold.SOURCE_ABSENT)
        services.board.release(job.uuid, Hold.TARGET_ABSENT)
        services.board.set_activity(job.uuid, Activity.RUNNING)
        code = _supervise(services, signals, attempt, session)
    finally:
        services.pools.forget(job.uuid)
        services.directories.forget(job.uuid)
        session.close()
        services.board.set_activity(job.uuid, Activity.IDLE)
    _conclude(services, signals, attempt, code)


def _begin(
    services: Services, signals: Signals, job: Job, source: Source, target: JobTarget
) -> tuple[_Copy, WorkerSession]:
    """Open the devices and start a worker, which has them alone: where none starts, nobody has them open."""
    luns = (source, *((target.lun,) if isinstance(target, JobLun) else ()))
    try:
        opened = open_devices(services, signals, job, source, target)
    except OpenFailed as error:
        if error.error_name == IdentityChanged.__name__ and may_have_written(services, job):
            for lun in luns:
                mistrust.expect_own_paths(services, job, lun)
        raise
    try:
        source_guard.protect(services, job, source)
        table = target_watch.table_of(services, target)
        # The credits of a pool count from the start of a worker.
        services.board.progress(job.uuid, replace(services.board.job(job.uuid).progress, allocated_bytes=0))
        paths = PathWatch(services.commands, luns, opened.silent_paths, time.monotonic())
        attempt = _Copy(services.board.job(job.uuid), source, target, table, paths)
        attempt.bandwidth = services.bandwidth.granted(attempt.job).bytes_per_s
        start = start_message(services, attempt.job, source, target, attempt.bandwidth)
    except BaseException:
        # Held open here, they would keep out every later attempt, until a restart.
        close_all(opened.descriptors)
        raise
    return attempt, WorkerSession.start(services.spawn, start, opened.descriptors)


def _supervise(services: Services, signals: Signals, attempt: _Copy, session: WorkerSession) -> int | None:
    """Follow the worker to its end and return its exit code; None: it does not end, we stop waiting."""
    next_check = 0.0
    while True:
        try:
            message = session.receive()
        except EOFError:
            break
        match message:
            case Phase():
                _note_phase(services, attempt, session, message.phase)
            case NeedCredit():
                attempt.credit_wanted = message.total_bytes
                next_check = 0.0
            case ProgressReport():
                attempt.committed_bytes = max(attempt.committed_bytes, message.progress.committed_bytes)
                services.board.progress(attempt.job.uuid, message.progress)
            case Stalled():
                _note_stall(services, attempt, message)
            case Report():
                attempt.report = message
                services.board.progress(attempt.job.uuid, message.progress)
        _obey(services, signals, attempt, session)
        attempt.paths.note(services.inventory.current())
        began = time.monotonic()
        if began >= next_check and attempt.report is None:
            _watch_source(services, attempt, session)
            _watch_target(services, attempt, session)
            took = time.monotonic() - began
            # Sooner, while it is open to somebody who may only look at it.
            interval_s = target_watch.GLANCE_S if attempt.glances.count else _CHECK_INTERVAL_S
            next_check = began + max(interval_s, _CHECK_SHARE * took)
        if signals.gave_up_waiting():
            return None
    while (code := session.exit_code(1.0)) is None:
        if signals.gave_up_waiting():
            return None
    return code


def _note_phase(services: Services, attempt: _Copy, session: WorkerSession, phase: str) -> None:
    job = services.board.job(attempt.job.uuid)
    if not job.checkpoint_begun:
        # The worker has committed to its checkpoint: from now on one that is missing was lost, and
        # what the target holds cannot be known.
        services.board.change(job.uuid, lambda stored: replace(stored, checkpoint_begun=True))
    if phase == "verifying" and job.stage is Stage.COPYING:
        services.board.advance(job.uuid, JobEvent.COPIED)
        if (
            seen := attempt.glances.latest
        ) is not None:  # and not seen to have closed it before it was read back
            _spoil(services, attempt, session, seen)


def _note_stall(services: Services, attempt: _Copy, stall: Stalled) -> None:
    if stall.since_us == 0:
        services.board.set_activity(attempt.job.uuid, Activity.RUNNING)
        return
    if stall.operation == COMMITTING:
        what = f"commit of the checkpoint in {services.job_directory(attempt.job)}"
    else:
        device = str(attempt.source) if stall.operation == READING else attempt.target.devnode
        what = f"{stall.operation} of {device} at offset {stall.offset}"
    since = time.strftime("%H:%M:%S", time.localtime(stall.since_us / 1e6))
    services.board.set_activity(attempt.job.uuid, Activity.STALLED, f"{what} outstanding since {since}")


def _obey(services: Services, signals: Signals, attempt: _Copy, session: WorkerSession) -> None:
    """Pass on what the administrator wants now, and what bandwidth the copy has."""
    job = services.board.job(attempt.job.uuid)
    if not attempt.stopping and (signals.stopping or job.stage is Stage.CANCELLING):
        session.send(Stop())
        attempt.stopping = True
    paused = bool(job.holds & {Hold.USER, Hold.WINDOW, Hold.SLOT})
    if Hold.POOL in job.holds and not target_watch.waits_for_credit(attempt.target):
        paused = True
    if paused is not attempt.paused:
        session.send(PauseWorker() if paused else ResumeWorker())
        attempt.paused = paused
        services.board.set_activity(job.uuid, Activity.IDLE if paused else Activity.RUNNING)
    wanted = services.bandwidth.granted(job).bytes_per_s
    if wanted != attempt.bandwidth:
        session.send(Bandwidth(wanted))
        attempt.bandwidth = wanted


def _watch_source(services: Services, attempt: _Copy, session: WorkerSession) -> None:
    """See that each path of source and target leads where it did, and the source's to no writer."""
    inventory = services.inventory.current()
    if (elsewhere := attempt.paths.look(inventory, time.monotonic())) is not None:
        _spoil(services, attempt, session, elsewhere)
    # A path that was logged in again is a new device, and writable.
    if (seen := inventory.by_id.get(attempt.source.id)) is not None and seen.device:
        source_guard.protect(services, attempt.job, replace(seen, paths=attempt.paths.sound(seen)))


def _spoil(services: Services, attempt: _Copy, session: WorkerSession, error: P2vdError) -> None:
    """End the copy for what was seen."""
    attempt.spoiled = attempt.spoiled or error
    try:
        if not attempt.stopping:  # first: each moment more may read or write another disk
            session.send(Stop())
            attempt.stopping = True
    finally:
        match error:
            case PathReplaced():
                mistrust.mistrust(services, attempt.job, error)
            case TargetInUse():
                mistrust.read_back_anew(services, attempt.job, error)


def _watch_target(services: Services, attempt: _Copy, session: WorkerSession) -> None:
    """See that the target is ours alone and unchanged, and renew the credits of its pool."""
    try:
        target_watch.expect_ours(services, attempt.target, attempt.table, 1)
        attempt.glances = Glances()
        _renew_credit(services, attempt, session)
    except (CommandTimedOut, FileStepFailed) as error:
        log.warning("job %s: %s", attempt.job.uuid, error)
    except TargetInUse as error:
        job = services.board.job(attempt.job.uuid)
        # What he writes behind the place that is read back nothing would find.
        found_later = job.stage is Stage.COPYING and job.plan.copy.verify is not Verify.NONE
        if attempt.glances.are_over(error, time.monotonic()) or not found_later:
            _spoil(services, attempt, session, error)
        else:
            log.warning("job %s: looked at again: %s", attempt.job.uuid, error)
    except (TargetChanged, PoolBroken) as error:
        _spoil(services, attempt, session, error)


def _renew_credit(services: Services, attempt: _Copy, session: WorkerSession) -> None:
    job = services.board.job(attempt.job.uuid)
    granted = target_watch.credit_of(services, job, attempt.target)
    if granted is None:
        if (
            Hold.POOL in job.holds
        ):  # an array, or what is under a thick volume, had no space, and has some again
            services.board.release(job.uuid, Hold.POOL)
        return
    credit, why = granted
    session.send(Credit(credit.total_bytes))
    if credit.short:
        why = " ".join(filter(None, (why, services.extend_pool(job))))
    # What is left may be less than the next write takes, which the worker then asks for.
    enough = max(job.progress.allocated_bytes + 1, attempt.credit_wanted)
    if credit.short and credit.total_bytes < enough:
        services.board.set_activity(job.uuid, Activity.IDLE, why)  # first: no hold is without its words
        services.board.hold(job.uuid, Hold.POOL)
    elif Hold.POOL in job.holds:
        services.board.release(job.uuid, Hold.POOL)
        services.board.set_activity(job.uuid, Activity.RUNNING)


def _conclude(services: Services, signals: Signals, attempt: _Copy, code: int | None) -> None:
    """Turn the end of a worker into a transition, or raise."""
    uuid = attempt.job.uuid
    if services.board.job(uuid).stage is Stage.CANCELLING:
        raise Interrupted
    if attempt.spoiled is not None:
        raise attempt.spoiled
    progressed = attempt.committed_bytes > attempt.job.progress.committed_bytes
    if progressed:
        services.board.change(uuid, lambda job: replace(job, fruitless_exits=0))
    failure = attempt.report.failure if attempt.report else None
    if code in (ExitCode.DONE, ExitCode.BAD_SECTORS) and attempt.report is not None:
        # The worker counts bad sectors against the policy's limit: with more of them it does not end so.
        if attempt.report.bad_ranges:
            bad = format_size(attempt.report.progress.bad_bytes)
            log.warning("job %s: %s of %s could not be read, and are zero", uuid, bad, attempt.source)
        _prove(services, signals, attempt, attempt.report)
        return
    if code is None or attempt.stopping:
        raise Interrupted
    if code in (ExitCode.REFUSED, ExitCode.MISMATCH):
        error = JobError(failure.name, failure.message) if failure else _unreported(attempt, code)
        services.board.advance(uuid, JobEvent.FAIL, error)
        return
    if failure is not None and failure.name in _HELD_BY_FAILURE:
        if attempt.source.export is not None:
            services.exports.doubt(attempt.source.id)
        raise MustWait(_HELD_BY_FAILURE[failure.name], failure.message)
    error = JobError(failure.name, failure.message) if failure else _unreported(attempt, code)
    log.warning("job %s: %s", uuid, error.message)
    if not progressed:
        services.board.advance(uuid, JobEvent.INTERRUPTED, error)
    signals.pause(1.0)


def _unreported(attempt: _Copy, code: int) -> JobError:
    how = f"was ended by signal {-code}" if code < 0 else f"exited with {code} and left no report"
    error = WorkerFailed(str(attempt.source), how)
    return JobError(error.name, str(error))


def _prove(services: Services, signals: Signals, attempt: _Copy, report: Report) -> None:
    """The last look before `proven`: the same LUN on every path, the same LV, nobody else at it."""
    job = attempt.job
    names = devices_of(services.inventory.scanned_once(), job)
    source = find_source(services.inventory.fresh(names=names), job)
    target = find_target(services, job)
    _ask_who_it_is(services, signals, job, source)
    nobody_else = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(TargetInUse),
        stop=tenacity.stop_after_delay(PROBES_END_S),
        wait=tenacity.wait_fixed(1),
        sleep=signals.pause,
        reraise=True,
    )
    try:
        nobody_else(target_watch.expect_ours, services, target, attempt.table, 0)
    except TargetInUse as error:
        mistrust.read_back_anew(services, job, error)
        raise
    try:
        target_watch.expect_same_lun(services, target)
    except TargetChanged as error:
        mistrust.mistrust(services, job, error)
        raise
    services.board.change(
        job.uuid,
        lambda stored: replace(
            stored,
            digest=report.digest,
            source_stable=report.source_stable,
            bad_ranges=report.bad_ranges,
            progress=report.progress,
            read_back_anew=False,
        ),
    )
    services.board.advance(job.uuid, JobEvent.PROVEN)


def _ask_who_it_is(services: Services, signals: Signals, job: Job, source: Source) -> None:
    """See that the source still is who it was. Raises MustWait, TryAgain, Interrupted, OpenFailed.

    Of an export its worker has just read the first and last MiB again, and nothing else names it.
    """
    if source.export is not None:
        return
    try:
        ask_opener(
            services.spawn,
            request(source, None),
            lambda _: not signals.interrupted(services.board, job.uuid),
        )
    except TimeoutError:
        raise Interrupted from None
    except OpenFailed as error:
        if error.absent:
            raise MustWait(Hold.SOURCE_ABSENT, error.message) from error
        if error.passing:
            raise TryAgain(error.message) from error
        if error.error_name == IdentityChanged.__name__:
            mistrust.expect_own_paths(services, job, source)
        raise
