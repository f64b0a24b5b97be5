"""Files that a power cut leaves whole: the old contents or the new ones, never a part."""

import os
from pathlib import Path


def create(path: Path, text: str, mode: int = 0o644) -> None:
    """Make a file that is there with all of `text`, or not at all. Raises FileExistsError, OSError.

    A name that somebody else takes in the same moment is theirs.
    """
    temporary = _written(path, text, mode)
    try:
        os.link(temporary, path)
    finally:
        temporary.unlink()
    sync_directory(path.parent)


def replace(path: Path, text: str, mode: int = 0o644) -> None:
    """Put `text` in place of what a file holds, if it is there. Raises OSError."""
    _written(path, text, mode).replace(path)
    sync_directory(path.parent)


def remove(path: Path) -> None:
    """Remove a file, if it is there. Raises OSError."""
    path.unlink(missing_ok=True)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make names that came or went in `directory` durable. Raises OSError."""
    _sync(directory, os.O_DIRECTORY)


def sync(path: Path) -> None:
    """Make durable what somebody else wrote into a file, or the names in a directory. Raises OSError."""
    _sync(path, 0)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _written(path: Path, text: str, mode: int) -> Path:
    temporary = path.with_name(f".{path.name}.p2vd-new")
    temporary.unlink(missing_ok=True)  # of a crash
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123  (of a descriptor)
        os.fchmod(descriptor, mode)  # whatever the umask is
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    return temporary
