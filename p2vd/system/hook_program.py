"""Running the administrator's programs as the daemon's user: only those that nobody else can have put there.

A hook has the time that it is given and no more. Its input is a file in memory, so that one that does not
read it blocks nobody; of what it writes the first part is kept and the rest read away.
"""

import contextlib
import os
import re
import select
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from p2vd.model.errors import P2vdError

OUTPUT_BYTES = 4096
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
_POLL_MS = 200
_GRACE_S, _STOP_GRACE_S = 2.0, 0.2
# A process in an uninterruptible read survives SIGKILL: wait this long for it, then leave it behind.
_REAP_S = 1.0


@dataclass(eq=False)
class ProgramRefused(P2vdError):
    """A program must not be run, because of what it is or where it lies."""

    path: str
    why: str
    template: ClassVar[str] = "{path} {why}"


class ProgramStopped(Exception):
    """The wait for a program was given up; it and its process group were ended."""


@dataclass(frozen=True)
class Ended:
    """How a program ended. `returncode` negative: by that signal; `late`: at the end of its time."""

    returncode: int
    output: str
    seconds: float
    late: bool = False

    @property
    def how(self) -> str:
        """It in words; "" where it ended well."""
        if self.late:
            return f"did not end within {self.seconds:.0f} s and was ended"
        if self.returncode < 0:
            return f"was ended by signal {-self.returncode}"
        return f"failed with exit status {self.returncode}" if self.returncode else ""


def list_programs(
    directory: Path, subdirectory: str, known: Mapping[str, object], owner: int, *, may_be_absent: bool = True
) -> list[Path]:
    """Return what is to be run of `directory/subdirectory`, by name; hidden files are none of it.

    `known`: all that may lie in `directory`. `owner`: the uid that programs and directories must belong to,
    or root. A directory that is not there has no programs, where it `may_be_absent`. Raises ProgramRefused,
    with the first reason why not all of it may be run: nothing is left out silently.
    """
    try:
        entries = sorted(path.name for path in directory.iterdir())
    except FileNotFoundError as error:
        if may_be_absent:
            return []
        raise ProgramRefused(str(directory), "is not there (mkdir it, or mend hooks_dir)") from error
    except OSError as error:
        raise ProgramRefused(str(directory), f"cannot be read ({error.strerror})") from error
    for parent in reversed(directory.absolute().parents):
        _check(parent, owner, sticky=True)
    _check(directory, owner)
    for name in entries:
        if name not in known and not name.startswith("."):
            names = ", ".join(known)
            raise ProgramRefused(str(directory / name), f"is of no step: here may be {names}")
    if subdirectory not in entries:
        return []
    step = directory / subdirectory
    _check(step, owner)
    try:
        programs = sorted(path for path in step.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise ProgramRefused(str(step), f"cannot be read ({error.strerror})") from error
    for program in programs:
        _check_program(program, owner)
    return programs


def _check_program(path: Path, owner: int) -> None:
    if _NAME.fullmatch(path.name) is None:
        raise ProgramRefused(str(path), "has a name that is not of letters, digits, _ and - alone")
    mode = _check(path, owner, kind=stat.S_IFREG)
    if not mode & stat.S_IXUSR:
        raise ProgramRefused(str(path), "is not executable (chmod 0755)")


def _check(path: Path, owner: int, *, kind: int = stat.S_IFDIR, sticky: bool = False) -> int:
    """Refuse what another user could put or write there; `sticky`: as in /tmp, others may add to it."""
    try:
        found = path.lstat()
    except OSError as error:
        raise ProgramRefused(str(path), f"cannot be looked at ({error.strerror})") from error
    if stat.S_IFMT(found.st_mode) != kind:
        what = "program: a regular file" if kind == stat.S_IFREG else "directory"
        raise ProgramRefused(str(path), f"is no {what}, and symbolic links are not followed")
    if found.st_uid not in (0, owner):
        raise ProgramRefused(str(path), f"belongs to uid {found.st_uid} and not to root (chown root)")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not (sticky and found.st_mode & stat.S_ISVTX):
        raise ProgramRefused(str(path), "may be written by others than its owner (chmod go-w)")
    return found.st_mode


def run(program: Path, text: str, limit_s: float, keep_going: Callable[[], bool] = lambda: True) -> Ended:
    """Run a program with `text` as its standard input, in a process group of its own, for `limit_s` at most.

    `keep_going` is asked several times a second, and ends it too. What it leaves behind in its group is ended
    with it. No shell; of the environment PATH and LC_ALL; / as its directory. Raises ProgramRefused where it
    cannot be started or watched, ProgramStopped.
    """
    began = time.monotonic()
    try:
        running = _begin(program, text)
    except OSError as error:
        raise ProgramRefused(str(program), f"cannot be started ({error.strerror})") from error
    with running:
        while not running.follow():
            late = time.monotonic() - began >= limit_s
            if late or not keep_going():
                code = running.end(_GRACE_S if late else _STOP_GRACE_S)
                if late:
                    return Ended(code, running.text(), limit_s, late=True)
                raise ProgramStopped(str(program))
        code = running.end(0.0)
        return Ended(code, running.text(), time.monotonic() - began)


def _begin(program: Path, text: str) -> "_Running":
    with contextlib.ExitStack() as opened:
        source = os.memfd_create("p2vd-hook")
        opened.callback(os.close, source)
        os.write(source, text.encode())
        os.lseek(source, 0, os.SEEK_SET)
        ours, theirs = os.pipe()
        opened.callback(os.close, theirs)
        unused = opened.enter_context(contextlib.ExitStack())
        unused.callback(os.close, ours)
        child = subprocess.Popen(
            [str(program)],
            stdin=source,
            stdout=theirs,
            stderr=subprocess.STDOUT,
            env=_ENVIRONMENT,
            cwd="/",
            start_new_session=True,
        )
        unused.callback(child.wait)
        unused.callback(os.killpg, child.pid, signal.SIGKILL)
        try:
            running = _Running(child, ours)
        except OSError as error:
            why = f"was started, cannot be watched ({error.strerror}), and was ended"
            raise ProgramRefused(str(program), why) from error
        unused.pop_all()
        return running


class _Running:
    """A child that was started, and the first part of what it writes."""

    def __init__(self, child: "subprocess.Popen[bytes]", out: int) -> None:
        self._child = child
        self._out = out
        os.set_blocking(self._out, False)
        self._pidfd = os.pidfd_open(child.pid)
        self._poll = select.poll()
        self._poll.register(self._pidfd, select.POLLIN)
        self._poll.register(self._out, select.POLLIN)
        self._kept = bytearray()
        self._more = False

    def __enter__(self) -> "_Running":
        return self

    def __exit__(self, *_: object) -> None:
        if self._child.returncode is None:
            self.end(0.0)
        os.close(self._pidfd)
        os.close(self._out)

    def follow(self) -> bool:
        """Read what there is, or wait a moment for it; return whether the child has ended."""
        ready = [descriptor for descriptor, _ in self._poll.poll(_POLL_MS)]
        if self._out in ready:
            self._read()
        return self._pidfd in ready

    def _read(self) -> bool:
        """Keep what fits of the next piece; False: there is none now, or there never will be."""
        try:
            piece = os.read(self._out, 65536)
        except BlockingIOError:
            return False
        if not piece:
            with contextlib.suppress(KeyError):
                self._poll.unregister(self._out)
            return False
        room = OUTPUT_BYTES - len(self._kept)
        self._kept += piece[:room]
        self._more = self._more or len(piece) > room
        return True

    def end(self, grace_s: float) -> int:
        """End the whole process group, politely for `grace_s`; return the child's status, as Popen has it."""
        if grace_s and not self._gone():
            self._signal(signal.SIGTERM)
            until = time.monotonic() + grace_s
            while time.monotonic() < until and not self.follow():
                pass
        # Before the child is waited for: until then its number, which is the group's, is nobody else's.
        self._signal(signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(_REAP_S)
        for _ in range(OUTPUT_BYTES // 1024):  # what is left in the pipe; a grandchild may write for ever
            if not self._read():
                break
        return -signal.SIGKILL if self._child.returncode is None else self._child.returncode

    def _gone(self) -> bool:
        return any(descriptor == self._pidfd for descriptor, _ in self._poll.poll(0))

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, number)

    def text(self) -> str:
        """What it wrote, as far as that is kept."""
        said = self._kept.decode("utf-8", "replace").strip()
        return f"{said} ..." if self._more else said
