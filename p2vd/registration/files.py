"""Hands machines over to hypervisors that take files: xl, Proxmox VE, KubeVirt.

The files go into a directory that the policy names. What is started with them, and where, is the
administrator's business: p2vd writes them, knows its own again by the mark in them, and takes them back.
"""

import errno
import logging
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from p2vd.model.definition_file import DefinitionFile
from p2vd.registration.errors import DefinitionUnwritable, FileNotOurs, StartedElsewhere
from p2vd.system import durable

log = logging.getLogger(__name__)

_MARKED_BYTES = 1024
"""The mark is in the first lines."""

_HOW = {
    "xl": "xl create {file}",
    "proxmox": "sh {file} on the Proxmox VE host, then qm start",
    "kubevirt": "kubectl apply -f {file}, then virtctl start",
}
"""What takes the files, by the policy's `domain.hypervisor`; of several files the one that runs is named."""


class FileHypervisor:
    """One directory of definitions. Thread-safe: it keeps no state."""

    def __init__(self, tool: str, directory: Path) -> None:
        """`tool`: xl, proxmox or kubevirt."""
        self._tool = tool
        self._how = _HOW[tool]
        self._directory = directory

    def define(self, files: Sequence[DefinitionFile], uuid: str) -> None:
        """Write the files of the machine `uuid`. Idempotent; what a crash left out is made by a repeat.

        Files of this machine that are there are brought up to date. Raises FileNotOurs where a name is taken,
        then nothing was written, and DefinitionUnwritable.
        """
        for file in files:
            if not _is_marked(file.text[:_MARKED_BYTES].encode(), uuid):
                raise ValueError(f"{file.name} has no mark of the machine {uuid}")
        paths = [(self._directory / file.name, file) for file in files]
        for path, _ in paths:
            if self._present(path) and not self._is_ours(path, uuid):
                raise FileNotOurs(str(path), uuid)
        for path, file in paths:
            self._write(path, file, uuid)

    def undefine(self, uuid: str) -> None:
        """Remove the files of the machine `uuid`, and no others. None there: nothing to do.

        Raises DefinitionUnwritable.
        """
        for path in self._of(uuid):
            with self._told(path):
                durable.remove(path)
            log.info("%s is removed", path)

    def start(self, uuid: str) -> None:
        """Refuse: nothing here can start it. Raises StartedElsewhere with what to run."""
        files = self._of(uuid)
        runs = [path for path in files if os.access(path, os.X_OK)]
        file = (runs or files or [self._directory])[0]
        raise StartedElsewhere(uuid, self._tool, self._how.format(file=file))

    def is_running(self, uuid: str) -> bool:
        """Return False: p2vd does not talk to the host where it would run."""
        return False

    def _write(self, path: Path, file: DefinitionFile, uuid: str) -> None:
        mode = 0o755 if file.runs else 0o644
        with self._told(path):
            if not self._present(path):
                self._create(path, file.text, mode, uuid)
            elif path.read_text(encoding="utf-8") != file.text:
                durable.replace(path, file.text, mode)
            else:
                return
        log.info("%s is written", path)

    @staticmethod
    def _create(path: Path, text: str, mode: int, uuid: str) -> None:
        try:
            durable.create(path, text, mode)
        except FileExistsError:
            raise FileNotOurs(str(path), uuid) from None

    def _present(self, path: Path) -> bool:
        with self._told(path):
            try:
                path.lstat()
            except FileNotFoundError:
                return False
            return True

    def _of(self, uuid: str) -> list[Path]:
        """Return the machine's files, by their marks: whatever they are called by now."""
        with self._told(self._directory):
            if not self._directory.is_dir():
                return []
            paths = sorted(self._directory.iterdir())
        return [path for path in paths if self._is_ours(path, uuid)]

    def _is_ours(self, path: Path, uuid: str) -> bool:
        with self._told(path):
            try:
                # A fifo would hang the open, a link lead elsewhere.
                if not stat.S_ISREG(path.lstat().st_mode):
                    return False
                with path.open("rb") as file:
                    return _is_marked(file.read(_MARKED_BYTES), uuid)
            except FileNotFoundError:
                return False

    @contextmanager
    def _told(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            remedy = _REMEDIES.get(error.errno or 0, "").format(directory=self._directory)
            raise DefinitionUnwritable(str(path), error.strerror or str(error), remedy) from error


_REMEDIES = {
    errno.ENOENT: "Make it (mkdir -p {directory}), then retry.",
    errno.EROFS: "p2vd.service may write to few places. Give it this one: systemctl edit p2vd, [Service] "
    "ReadWritePaths=-{directory}; systemctl restart p2vd; then retry.",
    errno.ENOSPC: "Make room (df {directory}), then retry.",
}


def _is_marked(start: bytes, uuid: str) -> bool:
    return f"{DefinitionFile.MARK} {uuid}".encode() in start
