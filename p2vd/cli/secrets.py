"""CHAP secrets from a file, standard input or the terminal to a descriptor; never by the command line."""

import getpass
import os
import stat
import sys
from collections.abc import Callable
from typing import Any

import dbus

from p2vd.cli.client import CliError, Exit

_UNIX_FD: Callable[[int], Any] = dbus.types.UnixFd


class Descriptors:
    """Secrets as memory files, for the length of one call."""

    def __init__(self, secrets: dict[str, bytes | None]) -> None:
        self._files = {name: _memory_file(secret) for name, secret in secrets.items() if secret is not None}

    def __enter__(self) -> dict[str, object]:
        return {name: _UNIX_FD(fd) for name, fd in self._files.items()}

    def __exit__(self, *_: object) -> None:
        for fd in self._files.values():
            os.close(fd)


def _memory_file(secret: bytes) -> int:
    fd = os.memfd_create("chap")
    os.write(fd, secret)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def read_secret(user: str, path: str | None, prompt: str) -> bytes | None:
    """Return a secret from a file, standard input, or the terminal; None where there is no user.

    Never from the command line: every user of the host can read that. Raises CliError.
    """
    if not user:
        if path:
            raise CliError(
                "A secret needs the name that it belongs to: --chap-user, --chap-user-in.", Exit.USAGE
            )
        return None
    if path == "-":
        return sys.stdin.buffer.readline()
    if path is None:
        if not sys.stdin.isatty():
            raise CliError(
                f"The {prompt} is missing (--chap-secret-file, --chap-secret-in-file), "
                "and there is no terminal to ask on.",
                Exit.USAGE,
            )
        return getpass.getpass(f"{prompt} for {user}: ").encode()
    try:
        with open(path, "rb") as file:  # noqa: PTH123  (the mode is that of what was opened)
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISREG(mode) and mode & 0o077:
                raise CliError(f"Others may read {path}. Close it first: chmod 600 {path}", Exit.USAGE)
            return file.readline()
    except OSError as error:
        raise CliError(f"The {prompt} cannot be read from {path}: {error.strerror}.", Exit.USAGE) from error
