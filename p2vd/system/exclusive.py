"""A directory that one process has for itself, for as long as it lives: by flock(2) of a file in it."""

import contextlib
import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from p2vd.model.errors import P2vdError

_NAME = "lock"


@dataclass(eq=False)
class DirectoryTaken(P2vdError):
    """Another process works with what is in the directory."""

    path: str
    holder: str
    template: ClassVar[str] = (
        "Another p2vd ({holder}) uses {path}: two would copy the same disks to the same volumes, so this one "
        "does nothing. See systemctl status p2vd; for a simulation name another --state-dir."
    )


@dataclass(eq=False)
class DirectoryUnusable(P2vdError):
    """The lock of the directory cannot be made or opened, so nothing in it can be worked with."""

    path: str
    problem: str
    template: ClassVar[str] = (
        "{path} cannot be opened: {problem}. Look at its filesystem (df, findmnt, dmesg) and at the rights "
        "of its directory."
    )


class Exclusive:
    """Holds a directory; the kernel lets go of it at the latest with the process, however that ends."""

    def __init__(self, directory: Path) -> None:
        """Take `directory`, made where it is not. Raises DirectoryTaken, DirectoryUnusable."""
        path = directory / _NAME
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            # No child inherits it (O_CLOEXEC): a worker may outlive the process, and would hold it.
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise DirectoryUnusable(str(path), error.strerror or str(error)) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._descriptor, 20, 0).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            name = f"process {holder}" if holder else "whose process is not known"
            raise DirectoryTaken(str(directory), name) from error
        except OSError as error:
            os.close(self._descriptor)
            raise DirectoryUnusable(str(path), error.strerror or str(error)) from error
        with contextlib.suppress(OSError):  # a full disk: only a sentence of another process knows less
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let go of it; the file stays."""
        os.close(self._descriptor)
