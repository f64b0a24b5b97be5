"""Makes, names and removes the files that disks become (design: §4.1, §4.6 as of an LV).

The job's UUID is durable before its file is there, and in the file's name until the disk is proven: what a
crash left is found by it. A file is ours by that name while it is empty, and by its file id from then on.
"""

import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from p2vd.model.directory import TargetDirectory
from p2vd.model.forms import TargetFormat
from p2vd.model.plan import FileTarget
from p2vd.provisioning.errors import FileNameTaken, FileNotOurs, FileStepFailed
from p2vd.system.command import CommandFailed, CommandNotStarted, Commands, CommandTimedOut
from p2vd.system.image_file import FileSeen

log = logging.getLogger(__name__)

_STEP_S = 30.0
_MODULE = "p2vd.system.image_file"
_READ_ONLY = (
    "p2vd may not write to {directory}: its unit may to /srv and /var/lib/libvirt/images alone. Where the "
    "filesystem itself is not read-only, let it: systemctl edit p2vd, and in [Service] "
    "ReadWritePaths=-{directory}; systemctl restart p2vd; then plan again."
)


class Files:
    """The files of jobs. Thread-safe: it keeps no state. `root`: where the paths of policies begin.

    Methods raise FileStepFailed where the filesystem refuses, CommandTimedOut where it does not answer.
    """

    def __init__(self, commands: Commands, root: Path = Path("/")) -> None:
        self._commands = commands
        self._root = root

    def look_at(self, directory: str, timeout_s: float = _STEP_S) -> TargetDirectory:
        """Return what a directory is; what keeps files out of it is its `problem`."""
        try:
            seen = self._ask("look", directory, timeout_s)["seen"]
        except FileStepFailed as error:
            problem = (
                f"{directory} cannot be used: {error.problem}. Make it (mkdir) or mount it, then plan again."
            )
            return TargetDirectory(directory, problem=problem)
        except CommandNotStarted as error:  # no fault of the directory's
            return TargetDirectory(directory, problem=f"{directory} cannot be looked at: {error}")
        except CommandTimedOut:
            problem = f"{directory} gives no answer: look at its file server or its disk. Then plan again."
            return TargetDirectory(directory, problem=problem)
        if not seen.pop("writable"):
            return TargetDirectory(directory, problem=_READ_ONLY.format(directory=directory))
        return TargetDirectory(directory, **{**seen, "names": frozenset(seen["names"])})

    def adopt(self, job_uuid: str, target: FileTarget) -> FileSeen | None:
        """Return the file that a crash left between its making and the job's memory of it; None: none.

        It has the job's own name, and nothing was written to it. Raises FileNotOurs.
        """
        path = temporary_path(target, job_uuid)
        found = self._ask("find", path)["seen"]
        if found is None:
            return None
        seen = FileSeen(**found)
        if not seen.blank:
            raise FileNotOurs(path, job_uuid)
        if seen.size_bytes != created_bytes(target):
            size = created_bytes(target)
            seen = FileSeen(**self._ask("resize", path, file_id=seen.file_id, size_bytes=size)["seen"])
        return seen

    def locate(self, job_uuid: str, target: FileTarget, file_id: str) -> tuple[str, FileSeen] | None:
        """Return where the file of that id is, by the name that it has while it is made or after."""
        for path in (temporary_path(target, job_uuid), target.path):
            found = self._ask("find", path)["seen"]
            if found is not None and found["file_id"] == file_id:
                return path, FileSeen(**found)
        return None

    def file_id(self, path: str) -> str:
        """Return what tells the file of that name from others that come to have it; "" for none."""
        argv = ["stat", "--printf=%i@%.9W", "--", self._below(path)]  # the same words as block.file_id
        answer = self._commands.query(argv, timeout_s=_STEP_S, ok=(0, 1))
        if answer.returncode and not answer.stderr.rstrip().endswith("No such file or directory"):
            raise FileStepFailed("look at", path, answer.stderr.strip(), "OSError")
        return answer.stdout

    def space(self, directory: str) -> tuple[str, int, int]:
        """Return a name of the directory's filesystem, its size and what this user may take, in bytes."""
        argv = ["stat", "--file-system", "--printf=%i %S %b %a", "--", self._below(directory)]
        try:
            name, *numbers = self._commands.query(argv, timeout_s=_STEP_S).stdout.split()
            block_bytes, blocks, free = map(int, numbers)
        except (CommandFailed, ValueError) as error:
            raise FileStepFailed("measure", directory, str(error), type(error).__name__) from error
        return name, blocks * block_bytes, free * block_bytes

    def create(self, job_uuid: str, target: FileTarget) -> FileSeen:
        """Make the job's file: sparse, of the disk's size, readable by nobody else. Raises FileNameTaken."""
        if self._ask("find", target.path)["seen"] is not None:
            raise FileNameTaken(target.path)
        path = temporary_path(target, job_uuid)
        log.info("job %s: creates %s", job_uuid, path)
        return FileSeen(
            **self._ask("create", path, size_bytes=created_bytes(target), mount=target.mount)["seen"]
        )

    def finish(self, job_uuid: str, target: FileTarget, file_id: str) -> None:
        """Give the proven file its owner, mode and name. Idempotent. Raises FileNameTaken."""
        try:
            self._ask(
                "publish",
                temporary_path(target, job_uuid),
                name=self._below(target.path),
                file_id=file_id,
                owner=target.owner,
                group=target.group,
                mode=target.mode,
            )
        except FileStepFailed as error:
            if error.error == "FileExistsError":
                raise FileNameTaken(target.path) from error
            raise

    def remove(self, job_uuid: str, target: FileTarget, file_id: str) -> None:
        """Remove the job's file by whichever of its names it has; any other file stays. Idempotent."""
        for path in (temporary_path(target, job_uuid), target.path):
            try:
                self._ask("remove", path, file_id=file_id)
            except FileStepFailed as error:
                if error.error != "FileExistsError":  # no plain file, so none that was made
                    raise

    def _ask(self, step: str, path: str, timeout_s: float = _STEP_S, **more: object) -> Mapping[str, Any]:
        request = json.dumps({"step": step, "path": self._below(path), **more})
        argv = [sys.executable, "-m", _MODULE, request]
        try:
            answer: dict[str, Any] = json.loads(self._commands.query(argv, timeout_s=timeout_s).stdout)
        except (CommandFailed, ValueError) as error:
            raise FileStepFailed(step, path, str(error), type(error).__name__) from error
        if "error" in answer:
            raise FileStepFailed(step, path, answer["text"], answer["error"])
        return answer

    def _below(self, path: str) -> str:
        return str(self._root / path.lstrip("/"))


def temporary_path(target: FileTarget, job_uuid: str) -> str:
    """Return where the job's file is until it is proven: beside its place, named after its job."""
    return f"{target.directory.rstrip('/')}/.{target.name}.p2vd-{job_uuid}"


def created_bytes(target: FileTarget) -> int:
    """Return the size with which the file is made: the disk's; a format with its own header begins empty."""
    return target.size_bytes if target.format is TargetFormat.RAW else 0
