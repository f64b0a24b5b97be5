"""One running worker, and the descriptors it is started with."""

import contextlib
import logging
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Self

from p2vd.copying.opening import OpenReply, OpenRequest
from p2vd.copying.protocol import VERSION, Hello, Start, ToDaemon, ToWorker, decode, encode
from p2vd.jobs import disposable
from p2vd.model.codec import from_dict, to_dict
from p2vd.model.errors import P2vdError
from p2vd.system.command import CommandKilled
from p2vd.system.descriptors import SeqpacketChannel, close_all
from p2vd.system.process import ChildProcess, Spawn, hand_over

log = logging.getLogger(__name__)

_POLL_S = 0.25
_OPENER = "The helper that opens devices"
_ABSENT = frozenset({"DeviceAbsent", "ReservationUnknown"})
# It asked a command, and that said nothing: this host is short of something, or a device hangs.
_PASSING = frozenset({"CommandNotStarted", "CommandKilled", "CommandTimedOut"})


@dataclass(eq=False)
class OpenFailed(P2vdError):
    """The helper could not open or did not accept a device; `error_name` is the cause's class name."""

    error_name: str
    message: str
    template: ClassVar[str] = "{message}"

    @property
    def name(self) -> str:
        """The cause's name: what a job's error shows."""
        return self.error_name

    @property
    def absent(self) -> bool:
        """Whether the device cannot be asked now, and that ends by itself: the job waits for it."""
        return self.error_name in _ABSENT

    @property
    def passing(self) -> bool:
        """Whether the helper learned nothing, of no device: it is asked again."""
        return self.error_name in _PASSING


@dataclass(frozen=True)
class Opened:
    """What the helper hands over: the descriptors of source and target, and which paths did not answer it."""

    descriptors: list[int]
    silent_paths: tuple[str, ...] = ()


@dataclass(eq=False)
class ProtocolError(P2vdError):
    """A helper or worker said what this daemon does not understand."""

    what: str
    template: ClassVar[str] = "{what} Was p2vd upgraded while it ran? Restart p2vd.service."

    @classmethod
    def of(cls, who: str, error: ValueError) -> Self:
        """The error for what `who` said, of which `error` tells why it is none of its messages."""
        return cls(f"{who} said what is not understood: {error}.")


def ask_opener(spawn: Spawn, request: OpenRequest, keep_waiting: Callable[[float], bool]) -> Opened:
    """Have a disposable helper probe and open devices; return source and target descriptors.

    The helper may hang in the kernel: `keep_waiting(seconds so far)` is asked several times a second
    and ends the wait by returning False; then the helper is left to itself and TimeoutError raised.
    Raises OpenFailed with the helper's own error, ProtocolError.
    """
    with disposable.started(spawn, "p2vd.copying.opener") as (ours, child):
        try:
            ours.send(to_dict(request))
            reply, descriptors = _answer(ours, child, keep_waiting)
        finally:
            child.poll()
    if reply.ok and reply.error is None:
        return Opened(descriptors, reply.silent_paths)
    close_all(descriptors)
    if reply.error is None:
        raise ProtocolError(f"{_OPENER} says neither that it did nor why not.")
    raise OpenFailed(reply.error.name, reply.error.message)


def _answer(
    channel: SeqpacketChannel, child: ChildProcess, keep_waiting: Callable[[float], bool]
) -> tuple[OpenReply, list[int]]:
    """Return the helper's answer, and descriptors, now the caller's.

    Raises TimeoutError, ProtocolError, and OpenFailed where it was killed.
    """
    waited = 0.0
    while True:
        try:
            packet = channel.receive(_POLL_S)
            break
        except TimeoutError:
            waited += _POLL_S
            if not keep_waiting(waited):
                raise
        except ValueError as error:
            raise ProtocolError.of(_OPENER, error) from error
    if packet is None:
        raise _without_answer(child)
    data, descriptors = packet
    try:
        return from_dict(OpenReply, data), descriptors
    except ValueError as error:
        close_all(descriptors)
        raise ProtocolError.of(_OPENER, error) from error


def _without_answer(child: ChildProcess) -> P2vdError:
    with contextlib.suppress(TimeoutError):
        if child.wait(_POLL_S) == -signal.SIGKILL:
            killed = (
                f"{_OPENER} was killed before it answered; where the kernel did that for want of memory, its "
                "log says so (journalctl -k)."
            )
            return OpenFailed(CommandKilled.__name__, killed)
    return ProtocolError(f"{_OPENER} ended without an answer.")


class WorkerSession:
    """A worker process and the channel to it. Used by one thread."""

    def __init__(self, child: ChildProcess, channel: SeqpacketChannel) -> None:
        self._child = child
        self._channel = channel

    @classmethod
    def start(cls, spawn: Spawn, start: Start, descriptors: list[int]) -> "WorkerSession":
        """Spawn a worker and hand it `descriptors`, which are closed here: the worker is the fence.

        They are closed also where none starts. Raises OSError.
        """

        def program(channel_fd: int) -> list[str]:
            words = [sys.executable, "-m", "p2vd.copying.worker", "--daemon", str(channel_fd)]
            return [*words, "--job", start.binding.job]

        return cls(*hand_over(spawn, program, encode(start), descriptors))

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._child.pid

    def send(self, message: ToWorker) -> None:
        """Tell the worker; one that is gone already is no error: its exit says more."""
        try:
            self._channel.send(encode(message))
        except (BrokenPipeError, ConnectionResetError):
            log.debug("worker %d is gone", self.pid)

    def receive(self) -> ToDaemon | None:
        """Return the next message, None after a quarter of a second without one.

        Raises EOFError, ProtocolError.
        """
        try:
            packet = self._channel.receive(_POLL_S)
            if packet is None:
                raise EOFError
            data, descriptors = packet
            close_all(descriptors)  # it is asked for none
            message = decode(data)
        except TimeoutError:
            return None
        except ConnectionResetError:
            raise EOFError from None
        except ValueError as error:
            raise ProtocolError.of("The worker", error) from error
        if isinstance(message, Hello) and message.version != VERSION:
            raise ProtocolError(f"The worker speaks version {message.version}, this daemon {VERSION}.")
        return message  # type: ignore[return-value]  # decode() serves both directions

    def exit_code(self, timeout_s: float) -> int | None:
        """Return the exit code (negative: the signal), or None where it has not ended in time."""
        try:
            return self._child.wait(timeout_s)
        except TimeoutError:
            return None

    def close(self) -> None:
        """Close the channel: a worker that still lives commits a checkpoint and exits."""
        self._channel.close()
