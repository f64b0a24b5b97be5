"""What was seen of source or target that an attempt to come must know of: durable before it begins."""

import logging

from p2vd.jobs import path_watch
from p2vd.jobs.control import TargetInUse
from p2vd.jobs.services import Services
from p2vd.jobs.store import STORE_FAILURES
from p2vd.model.disk import Source
from p2vd.model.errors import P2vdError
from p2vd.model.job import Job, JobError

log = logging.getLogger(__name__)


def mistrust(services: Services, job: Job, error: P2vdError) -> None:
    """Note for good why what was copied is not to be gone on with: the first reason stays."""
    _keep(services, job, error, mistrust=JobError(error.name, str(error)))


def read_back_anew(services: Services, job: Job, error: TargetInUse) -> None:
    """Note that what was read back of the target, also to its end, proves nothing any more."""
    _keep(services, job, error, read_back_anew=True)


def expect_own_paths(services: Services, job: Job, source: Source) -> None:
    """Find the path that leads elsewhere, as the copy may have used it. Raises PathReplaced."""
    if (elsewhere := path_watch.elsewhere(services.commands, source)) is not None:
        mistrust(services, job, elsewhere)
        raise elsewhere


def _keep(services: Services, job: Job, error: P2vdError, **fields: object) -> None:
    try:
        services.board.keep(job.uuid, **fields)
    except STORE_FAILURES as unwritable:
        # The board has it all the same: attempts begin by what it shows, and the job's next change stores it.
        log.error("job %s: %s: %s", job.uuid, error, unwritable)  # noqa: TRY400 - the host lacks something
