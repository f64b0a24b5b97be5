"""Before a worker runs: its two devices opened and proven, and what it is told."""

from dataclasses import replace

import tenacity

from p2vd.copying.opening import OpenRequest, SourceToOpen
from p2vd.copying.protocol import Start, start_version
from p2vd.copying.terms import Binding, SourceForm, TargetForm
from p2vd.jobs import old_worker
from p2vd.jobs.control import Interrupted, MustWait, TryAgain
from p2vd.jobs.export_known import server_of
from p2vd.jobs.job_target import JobFile, JobLv, JobTarget
from p2vd.jobs.services import Services
from p2vd.jobs.session import Opened, OpenFailed, ask_opener
from p2vd.jobs.signals import Signals
from p2vd.jobs.targets import may_have_written
from p2vd.model.copying import Verify
from p2vd.model.disk import Source, Transport
from p2vd.model.forms import QEMU_IMAGES
from p2vd.model.job import Activity, Hold, Job

_OPEN_DEADLINE_S = 30.0
_IN_USE = "DeviceInUse"
# udev's probes of a device that was just activated or closed are over by then.
PROBES_END_S = 10.0


def request(source: Source, target: JobTarget | None, *, fresh: bool = False) -> OpenRequest:
    """Return what the helper shall open and prove; without a target it only reads the WWIDs again.

    An NBD export is not opened: the worker connects to it, and proves it.

    `fresh`: the job has written nothing to the target yet.
    """
    return OpenRequest(
        source=None
        if source.export is not None
        else SourceToOpen(
            devnode=source.devnode,
            # The file's own size says nothing of the disk in it, which the worker proves.
            size_bytes=source.size_bytes if source.is_plain else 0,
            sector_size=source.sector_size,
            dm_uuid=source.dm_uuid,
            wwid=source.wwid,
            path_devices=tuple(path.device for path in source.paths),
            image=source.transport is Transport.IMAGE,
            transport=source.transport,
            id=source.id,
            file_id=source.file_id,
            locked_by_user=source.format in QEMU_IMAGES,
        ),
        target=None if target is None else target.to_open(fresh=fresh),
    )


def open_devices(services: Services, signals: Signals, job: Job, source: Source, target: JobTarget) -> Opened:
    """Return the descriptors of source and target, and the paths that did not answer.

    Raises MustWait, TryAgain, Interrupted, OpenFailed.
    """

    def keep_waiting(seconds: float) -> bool:
        if seconds >= _OPEN_DEADLINE_S:
            services.board.set_activity(
                job.uuid, Activity.STALLED, f"opening {source} and {target.devnode} since {seconds:.0f} s"
            )
        return not signals.interrupted(services.board, job.uuid)

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(
            lambda error: isinstance(error, OpenFailed) and error.error_name == _IN_USE
        ),
        stop=tenacity.stop_after_delay(PROBES_END_S),
        wait=tenacity.wait_fixed(1),
        sleep=signals.pause,
        reraise=True,
    )
    try:
        wanted = request(source, target, fresh=not may_have_written(services, job))
        return retrying(ask_opener, services.spawn, wanted, keep_waiting)
    except TimeoutError:
        raise Interrupted from None
    except OpenFailed as error:
        if error.absent:
            absent = Hold.TARGET_ABSENT if target.devnode in error.message else Hold.SOURCE_ABSENT
            raise MustWait(absent, error.message) from error
        if error.passing:
            raise TryAgain(error.message) from error
        if error.error_name == _IN_USE:
            old_worker.hold_while_one_lives(job.uuid)
        raise


def start_message(
    services: Services, job: Job, source: Source, target: JobTarget, bandwidth_bytes_per_s: int
) -> Start:
    """Return what a worker is told, and make the directory for its checkpoint."""
    plan, traits = job.plan, target.traits()
    # A LUN that is unmapped in pieces takes nothing of a pool.
    shared = traits.credit_chunk_bytes or (traits.thin_chunk_bytes and isinstance(target, JobLv))
    # What the plan saw of it, not what it was when it was asked last: that may be a while ago.
    nbd = None if source.export is None else replace(server_of(source.export), edges=plan.source.file_id)
    source_form = SourceForm(source.format, nbd)
    form = target.form() if isinstance(target, JobFile) else TargetForm()
    directory = services.job_directory(job)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    uid, gid = services.worker_ids
    return Start(
        version=start_version(source_form, form),
        source_form=source_form,
        target_form=form,
        binding=Binding(
            job=job.uuid,
            generation=job.generation,
            source_id=source.id,
            source_size_bytes=source.size_bytes,
            source_sector_size=source.sector_size,
            target_id=target.id,
        ),
        checkpoint_path=str(directory / "checkpoint"),
        target=traits,
        verify=_verify(job),
        read_back_anew=job.read_back_anew,
        queue_depth=plan.copy.queue_depth,
        bandwidth_bytes_per_s=bandwidth_bytes_per_s,
        credit_bytes=0 if shared else -1,
        resume=job.checkpoint_begun,
        bad_sectors=plan.copy.bad_sectors,
        max_latency_us=plan.copy.max_latency_us,
        commit_interval_s=services.config.commit_interval_s,
        worker_uid=uid,
        worker_gid=gid,
    )


def _verify(job: Job) -> Verify:
    """Return how it is verified: at least read back, where somebody else may have written to the target."""
    wanted = job.plan.copy.verify
    return Verify.READ_BACK if job.read_back_anew and wanted is Verify.NONE else wanted
