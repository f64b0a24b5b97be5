"""Children that read what strangers wrote (disk images): without privileges, with limits, not outliving us.

They are given open descriptors and no names. Linux calls the limits setrlimit(2), and ends such a child
with the thread that started it (PR_SET_PDEATHSIG): start them on the main thread.
"""

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from p2vd.system import life_line
from p2vd.system.command import CommandFailed, CommandKilled, CommandTimedOut, Result, unstarted
from p2vd.system.process import Child

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_KEPT_BYTES = 4096
_POLL_S = 0.25
_libc = ctypes.CDLL(None, use_errno=True)


class GivenUp(Exception):
    """A child was ended because its answer is no longer wanted."""


@dataclass(frozen=True)
class Limits:
    """What a child may use. 0: no limit; `file_bytes` -1: as large as it likes."""

    memory_bytes: int = 4 << 30
    processor_s: int = 0
    file_bytes: int = -1
    open_files: int = 64


@dataclass(frozen=True)
class User:
    """Whose the child is. None in its place: the caller's own."""

    uid: int
    gid: int


class Sandboxed(Child):
    """A child in a sandbox; `said` is what it wrote to standard error, at least the end of it."""

    def __init__(self, process: "subprocess.Popen[bytes]", stderr: int):
        super().__init__(process)
        self._stderr = stderr

    def said(self) -> str:
        """Its last words until now."""
        return " ".join(_end_of(self._stderr).split())

    def end(self, within_s: float) -> int:
        """Send SIGTERM, wait, and return the exit status; one that does not end in time is killed."""
        self.terminate()
        try:
            code = self.wait(within_s)
        except TimeoutError:
            self.kill()
            code = self.wait(within_s)
        with contextlib.suppress(OSError):
            os.close(self._stderr)
        return code


def start(argv: Sequence[str], fds: Sequence[int], limits: Limits, user: User | None = None) -> Sandboxed:
    """Start a child that inherits `fds` under their numbers.

    Raises CommandFailed where it cannot be, CommandNotStarted where this host cannot start it now.
    """
    stderr = _memory_file(argv)
    try:
        process = _popen(argv, fds, limits, user, subprocess.DEVNULL, stderr)
    except BaseException:
        os.close(stderr)
        raise
    return Sandboxed(process, stderr)


def run(
    argv: Sequence[str],
    fds: Sequence[int],
    limits: Limits,
    *,
    timeout_s: float,
    ok: Sequence[int] = (0,),
    user: User | None = None,
    ended: Callable[[], bool] = lambda: False,
    environment: Mapping[str, str] = MappingProxyType({}),
    kept_bytes: int = _KEPT_BYTES,
) -> Result:
    """Run a child to its end. Raises CommandFailed, and CommandTimedOut after it was killed.

    Of these CommandNotStarted where this host cannot start it now, CommandKilled where somebody else killed
    it: the kernel, for want of memory or at the limit of its processor time.

    `environment`: more variables for it. `kept_bytes`: so much of the end of its standard error is returned.

    `ended` is asked several times a second; a child whose answer is no longer wanted is killed: GivenUp.
    """
    words = tuple(argv)
    # A file, for which the limits hold, not a pipe: of a hostile image a line may be said for each entry.
    said = _memory_file(words)
    try:
        process = _popen(words, fds, limits, user, subprocess.PIPE, said, environment)
        until = time.monotonic() + timeout_s
        while True:
            try:
                stdout, _ = process.communicate(timeout=max(0.0, min(_POLL_S, until - time.monotonic())))
                break
            except subprocess.TimeoutExpired as error:
                late, given_up = time.monotonic() >= until, ended()
                if not late and not given_up:
                    continue
                process.kill()
                process.communicate()
                if given_up:
                    raise GivenUp(words[0]) from error
                raise CommandTimedOut(words, timeout_s) from error
        answer = Result(
            words, process.returncode, stdout.decode("utf-8", "replace"), _end_of(said, kept_bytes)
        )
    finally:
        os.close(said)
    if answer.returncode == -signal.SIGKILL:
        raise CommandKilled(words, timeout_s, signal.SIGKILL)
    if answer.returncode not in ok:  # another signal is its own end, by what it read: it may say why
        raise CommandFailed(words, answer.returncode, answer.stderr)
    return answer


def _memory_file(argv: Sequence[str]) -> int:
    """What a child says on standard error, in memory."""
    try:
        return os.memfd_create("p2vd-stderr")
    except OSError as error:
        raise unstarted(tuple(argv), error) from error


def _end_of(descriptor: int, most: int = _KEPT_BYTES) -> str:
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, most, max(0, size - most)).decode("utf-8", "replace")


def _popen(
    argv: Sequence[str],
    fds: Sequence[int],
    limits: Limits,
    user: User | None,
    stdout: int,
    stderr: int,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            pass_fds=(*fds, *life_line.handed_down()),
            start_new_session=True,
            env={"LC_ALL": "C", "PATH": os.environ.get("PATH", os.defpath), **environment},
            preexec_fn=_confine(limits, os.getpid()),
            user=None if user is None else user.uid,
            group=None if user is None else user.gid,
            extra_groups=None if user is None else [],
        )
    except OSError as error:
        raise unstarted(tuple(argv), error) from error


def _confine(limits: Limits, parent: int) -> Callable[[], None]:
    """What the child does between fork and exec, when it already is who it shall be."""

    def confine() -> None:
        _libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), 0, 0, 0)
        _libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for kind, value in (
            (resource.RLIMIT_AS, limits.memory_bytes),
            (resource.RLIMIT_CPU, limits.processor_s),
            (resource.RLIMIT_NOFILE, limits.open_files),
        ):
            if value:
                resource.setrlimit(kind, (value, value))
        if limits.file_bytes >= 0:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limits.file_bytes, limits.file_bytes))

    return confine
