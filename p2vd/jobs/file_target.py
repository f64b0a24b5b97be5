"""The life of a job's file: made or adopted, given its name, removed (design: §4.1).

| a crash comes after | what is there | what the next run does |
|---|---|---|
| the job is durable | nothing | makes the file |
| the file is made | an empty file, its job in its name | adopts it by its name, while it is empty |
| the job knows its file id | the file | finds it by its id, whatever was written |
| `proven` | the file by the job's name | gives it owner, mode and its own name, which nobody may have |
| the file has its own name | the file by either name or both | takes the job's name away |
"""

import logging
from dataclasses import replace

from p2vd.jobs.control import MustWait
from p2vd.jobs.services import Services
from p2vd.model.job import Hold, Job
from p2vd.model.plan import FileTarget

log = logging.getLogger(__name__)


def expect_mounted(services: Services, target: FileTarget) -> None:
    """See that the directory is there, on the filesystem that it must be on. Raises MustWait."""
    seen = services.image_files.look_at(target.directory)
    if seen.problem:
        raise MustWait(Hold.TARGET_ABSENT, seen.problem)
    if target.mount and seen.mount_point != target.mount:
        why = f"nothing is mounted at {target.mount}: {target.directory} is on {seen.mount_point}"
        raise MustWait(Hold.TARGET_ABSENT, why)


def adopt(services: Services, job: Job, target: FileTarget) -> bool:
    """Whether there is a file that an earlier run made, and had no time to remember. Raises FileNotOurs."""
    return bool(job.target_file_id) or services.image_files.adopt(job.uuid, target) is not None


def make(services: Services, job: Job, target: FileTarget) -> None:
    """Make the file, or go on with the one that there is; then the job knows its id.

    Raises FileNameTaken, FileNotOurs, FileStepFailed, CommandTimedOut.
    """
    if job.target_file_id:
        return
    files = services.image_files
    seen = files.adopt(job.uuid, target) or files.create(job.uuid, target)
    services.board.change(job.uuid, lambda stored: replace(stored, target_file_id=seen.file_id))


def finish(services: Services, job: Job, target: FileTarget) -> None:
    """Give the file its owner, mode and name. Idempotent. Raises FileNameTaken, FileStepFailed."""
    services.image_files.finish(job.uuid, target, job.target_file_id)


def remove(services: Services, job: Job, target: FileTarget) -> None:
    """Remove the file that this job made, by whichever name it has; nothing else. Idempotent.

    Raises MustWait where its filesystem is not there: it would be forgotten on it.
    """
    file_id = job.target_file_id
    if file_id:
        expect_mounted(services, target)
    else:
        seen = services.image_files.adopt(job.uuid, target)
        if seen is None:
            return
        file_id = seen.file_id
    services.image_files.remove(job.uuid, target, file_id)
