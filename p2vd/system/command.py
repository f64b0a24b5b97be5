"""Running commands: queries that may be killed, changes that never are (design: §4.8).

A change runs in a transient unit of systemd, so that neither the end of the daemon nor a deadline
kills it: a killed lvextend left a thin pool suspended. Its output goes to memory files and not to
pipes, because a pipe whose reader died would make LVM's next message fail in mid-change.
"""

import contextlib
import errno
import json
import logging
import os
import re
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

from p2vd.model.errors import P2vdError
from p2vd.system import life_line

log = logging.getLogger(__name__)

UNIT_PREFIX = "p2vd-change-"
UNIT_SUFFIX = ".service"

# A process in an uninterruptible read survives SIGKILL: wait this long for it, then leave it behind.
_REAP_SECONDS = 1.0

_UNIT_NAME = re.compile(r"[A-Za-z0-9_.-]{1,200}")

# SIGCONT does nothing to a running process: not even a shutdown interrupts a change; systemd waits
# for it as long as DefaultTimeoutStopSec says, and SendSIGKILL=no keeps it from more.
_UNIT_PROPERTIES = ("KillSignal=SIGCONT", "SendSIGKILL=no", "TimeoutStartSec=infinity", "OOMScoreAdjust=-900")

# Type=oneshot would know it, too, and lose the exit status, and not wait for a unit that is stopped.
_EXITED = "p2vd: it exited with 0\n"
_TELL_EXIT = ("sh", "-c", f'"$@" || exit; echo "{_EXITED.rstrip()}"', "sh")
_ENDED_BY_SIGNAL = 255  # as systemd-run says it of the signals that it takes for a failure

# Units in any other state have ended.
_LIVE_STATES = "active,activating,deactivating,reloading"

# What a host may lack for a moment: memory, processes, open files.
_LACKS = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})


@dataclass(frozen=True)
class Result:
    """What a command that ended said."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str


@dataclass(eq=False)
class CommandFailed(P2vdError):
    """A command ended with an exit status that means failure, or could not be started (127)."""

    argv: tuple[str, ...]
    returncode: int
    stderr: str
    template: ClassVar[str] = "The command {command} failed with exit status {returncode}: {reason}"

    def __str__(self) -> str:
        return self.template.format(
            command=command_line(self.argv),
            returncode=self.returncode,
            reason=" ".join(self.stderr.split()) or "it said nothing.",
        )


@dataclass(eq=False)
class ChangeUnknown(CommandFailed):
    """systemd-run ended, but not its unit: the change may still run. See `running_changes`."""

    template: ClassVar[str] = (
        "The outcome of {command} is unknown: systemd-run ended by signal (status {returncode}): {reason} "
        "The command goes on in its unit; look at it with systemctl status 'p2vd-change-*'."
    )


@dataclass(eq=False)
class CommandTimedOut(P2vdError):
    """A query did not end in time and was killed."""

    argv: tuple[str, ...]
    seconds: float

    def __str__(self) -> str:
        return (
            f"The command {command_line(self.argv)} gave no answer in {self.seconds:g} s and was killed; "
            "a disk or a device-mapper device may hang (dmsetup info, multipath -ll)."
        )


@dataclass(eq=False)
class CommandNotStarted(CommandTimedOut):
    """This host has no process, memory or open file for a command now: it has told and done nothing."""

    cause: str

    @property
    def why(self) -> str:
        """What happened to the command, without its line."""
        return f"could not be started: {self.cause}"

    def __str__(self) -> str:
        return (
            f"The command {command_line(self.argv)} {self.why}. This host is short "
            "of memory, processes or open files (free, systemctl status p2vd). Nothing was done."
        )


@dataclass(eq=False)
class CommandKilled(CommandTimedOut):
    """A query was ended by a signal, perhaps for want of memory: nothing is known."""

    signal: int

    @property
    def why(self) -> str:
        """What happened to the command, without its line."""
        return f"was ended by {_signal_name(self.signal)} before it answered"

    def __str__(self) -> str:
        return (
            f"The command {command_line(self.argv)} {self.why}; where the kernel did that for want of "
            "memory, its log says so (journalctl -k)."
        )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def command_line(argv: Sequence[str]) -> str:
    """Return `argv` for a reader; long device lists are cut."""
    return " ".join(word if len(word) <= 200 else word[:200] + "..." for word in argv)


def log_late(unit: str) -> None:
    """Say in the log that a change is past its deadline."""
    log.warning("change %s is past its deadline; it goes on and is not killed", unit)


class Commands(Protocol):
    """The door to external commands; tests put a fake here."""

    def query(self, argv: Sequence[str], *, timeout_s: float = 30.0, ok: Sequence[int] = (0,)) -> Result:
        """Run a command that changes nothing. Raises CommandFailed; CommandTimedOut: it gave no answer."""
        ...

    def change(
        self,
        argv: Sequence[str],
        *,
        unit: str,
        deadline_s: float = 60.0,
        on_late: Callable[[str], None] = log_late,
        ok: Sequence[int] = (0,),
        properties: Sequence[str] = (),
        must_exit: bool = False,
    ) -> Result:
        """Run a command that changes the host, to its end.

        `must_exit`: one that may be killed, and whose success nobody reads again afterwards. Raises
        CommandFailed, ChangeUnknown, CommandNotStarted: then nothing has changed.
        """
        ...

    def running_changes(self) -> frozenset[str]:
        """Return the `unit` names of changes that run now, also those of an earlier daemon."""
        ...


class SystemCommands:
    """Runs commands on this host. Thread-safe: it keeps no state."""

    def __init__(self, systemd_run: str = "systemd-run", systemctl: str = "systemctl") -> None:
        self._systemd_run = systemd_run
        self._systemctl = systemctl

    def query(self, argv: Sequence[str], *, timeout_s: float = 30.0, ok: Sequence[int] = (0,)) -> Result:
        """Run a command that changes nothing; it and its children are killed at `timeout_s`.

        It runs with LC_ALL=C and empty input. Raises CommandFailed where the exit status is not in
        `ok` or the program is missing; CommandTimedOut where it gave no answer, of these CommandNotStarted
        where this host cannot start it now, CommandKilled where a signal ended it.
        """
        words = tuple(argv)
        try:
            child = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=life_line.handed_down(),
                env=_environment(),
                start_new_session=True,
            )
        except OSError as error:
            raise unstarted(words, error) from error
        try:
            stdout, stderr = child.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            _kill(child)
            raise CommandTimedOut(words, timeout_s) from error
        except BaseException:
            _kill(child)
            raise
        if child.returncode < 0:
            raise CommandKilled(words, timeout_s, -child.returncode)
        return _checked(Result(words, child.returncode, _text(stdout), _text(stderr)), ok)

    def change(
        self,
        argv: Sequence[str],
        *,
        unit: str,
        deadline_s: float = 60.0,
        on_late: Callable[[str], None] = log_late,
        ok: Sequence[int] = (0,),
        properties: Sequence[str] = (),
        must_exit: bool = False,
    ) -> Result:
        """Run a command that changes LVM, dm, multipath or host state, and wait for its end.

        It runs in the transient unit `p2vd-change-{unit}.service`, is never killed, and outlives
        this process. Past `deadline_s` `on_late(unit)` is called once and the wait goes on. A unit
        of that name that runs already makes this fail: it never runs twice at a time. `properties`
        are the unit's own, besides those of every change (systemd.exec(5)).

        For systemd a service that SIGTERM, SIGINT, SIGHUP or SIGPIPE ends has ended cleanly
        (systemd.service(5), SuccessExitStatus=): systemd-run exits with 0. So whoever relies on a change
        reads what there is afterwards; where nothing can be read, `must_exit` makes such an end
        CommandFailed. A shell stands before the command then, which may be killed alone: only for units
        that systemd may clear with SIGKILL.

        Raises CommandFailed, ChangeUnknown, ValueError where `unit` is no name for a unit; and
        CommandNotStarted where this host cannot start it now: then nothing has changed.
        """
        if _UNIT_NAME.fullmatch(unit) is None:
            raise ValueError(f"{unit!r} is no name for a unit: use letters, digits and _ . -")
        words = tuple(argv)
        log.info("change %s: %s", unit, command_line(words))
        with contextlib.ExitStack() as files:
            try:
                stdout, stderr = (files.enter_context(_memory_file(name)) for name in ("stdout", "stderr"))
                child = subprocess.Popen(
                    self._unit_command((*_TELL_EXIT, *words) if must_exit else words, unit, properties),
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=stderr,
                    env=_environment(),
                )
            except OSError as error:
                raise unstarted(words, error) from error
            try:
                child.wait(deadline_s)
            except subprocess.TimeoutExpired:
                on_late(unit)
                child.wait()
            result = Result(words, child.returncode, _contents(stdout), _contents(stderr))
        if result.returncode < 0:
            raise ChangeUnknown(words, result.returncode, result.stderr)
        return _checked(_exited(result) if must_exit else result, ok)

    def running_changes(self) -> frozenset[str]:
        """Return the `unit` names of changes that run now, also those of an earlier daemon.

        Raises CommandFailed, CommandTimedOut.
        """
        pattern = f"{UNIT_PREFIX}*{UNIT_SUFFIX}"
        listed = self.query(
            [self._systemctl, "list-units", "--all", "--output=json", f"--state={_LIVE_STATES}", pattern]
        )
        names: list[str] = [str(entry["unit"]) for entry in json.loads(listed.stdout or "[]")]
        return frozenset(name.removeprefix(UNIT_PREFIX).removesuffix(UNIT_SUFFIX) for name in names)

    def _unit_command(self, words: tuple[str, ...], unit: str, properties: Sequence[str]) -> list[str]:
        return [
            self._systemd_run,
            "--wait",
            "--pipe",
            "--collect",
            "--quiet",
            f"--unit={UNIT_PREFIX}{unit}{UNIT_SUFFIX}",
            *(f"--property={value}" for value in (*_UNIT_PROPERTIES, *properties)),
            *(f"--setenv={name}={value}" for name, value in _FIXED_ENVIRONMENT.items()),
            "--",
            # systemd expands $NAME in the arguments of a service; $$ is a plain $.
            *(word.replace("$", "$$") for word in words),
        ]


# LVM warns about every descriptor it inherits unless told not to.
_FIXED_ENVIRONMENT = {"LC_ALL": "C", "LVM_SUPPRESS_FD_WARNINGS": "1"}


def _environment() -> dict[str, str]:
    return {**os.environ, **_FIXED_ENVIRONMENT}


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _checked(result: Result, ok: Sequence[int]) -> Result:
    if result.returncode not in ok:
        raise CommandFailed(result.argv, result.returncode, result.stderr)
    return result


def _exited(result: Result) -> Result:
    """What a command of `must_exit` said; a failure where it did not say that it came to its end."""
    if result.returncode:
        return result
    if result.stdout.endswith(_EXITED):
        return replace(result, stdout=result.stdout.removesuffix(_EXITED))
    said = f"{result.stderr}\nIt was ended by a signal before it was done (systemctl stop, kill)."
    return replace(result, returncode=_ENDED_BY_SIGNAL, stderr=said)


def unstarted(words: tuple[str, ...], error: OSError) -> P2vdError:
    """What it is that a command could not be started.

    CommandNotStarted: nothing that lasts. CommandFailed (127): it is not there, or may not be run.
    """
    if error.errno in _LACKS:
        return CommandNotStarted(words, 0.0, error.strerror or str(error))
    return CommandFailed(words, 127, str(error))


def _kill(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    for stream in (child.stdout, child.stderr):
        if stream is not None:
            stream.close()
    try:
        child.wait(_REAP_SECONDS)
    except subprocess.TimeoutExpired:
        log.warning("process %d of a timed-out query does not die; it is left behind", child.pid)


class _memory_file:  # noqa: N801  (a context manager, used like a function)
    """An anonymous file in memory, as a descriptor."""

    def __init__(self, name: str) -> None:
        self._descriptor = os.memfd_create(f"p2vd-{name}")

    def __enter__(self) -> int:
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def _contents(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    return _text(os.pread(descriptor, size, 0))
