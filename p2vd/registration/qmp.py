"""QEMU's monitor: QMP as its specification has it, over a stream socket.

Nothing is waited for that a guest can delay: an emulated processor that is busy with devices keeps QEMU from
answering for a minute and more (seen), so a question is one call, and its answer comes with another.
"""

import contextlib
import json
import socket
import time
from dataclasses import dataclass
from typing import Any, ClassVar

from p2vd.model.errors import P2vdError

_PART = 65536
_MAX_LINE = 4 << 20


@dataclass(eq=False)
class MonitorFailed(P2vdError):
    """QEMU refused a command of its monitor, or closed it; `message` is its own."""

    doing: str
    message: str
    template: ClassVar[str] = "QEMU failed at {doing}: {message}."


@dataclass(frozen=True)
class Event:
    """Something that QEMU tells by itself, such as RESET."""

    name: str


@dataclass(frozen=True)
class Answer:
    """What a command returned; `problem` is QEMU's own word where it refused it."""

    command: str
    value: Any  # answers differ by command
    problem: str = ""


class Monitor:
    """A connection to the monitor of one QEMU. Used by one thread. All raise MonitorFailed."""

    def __init__(self, connection: socket.socket) -> None:
        """Take over a connected socket."""
        self._socket = connection
        self._buffer = b""
        self._kept: list[Event | Answer] = []
        self._asked: list[str] = []

    def fileno(self) -> int:
        """The descriptor, for select: readable when `heard` has something new."""
        return self._socket.fileno()

    @property
    def waits(self) -> bool:
        """Whether a command has not been answered yet."""
        return bool(self._asked)

    def ask(self, command: str, **arguments: object) -> None:
        """Send a command; QEMU answers commands in the order in which they came."""
        line = json.dumps({"execute": command, "arguments": arguments}) + "\n"
        self._socket.settimeout(None)  # a line is far less than what a socket holds
        try:
            self._socket.sendall(line.encode())
        except OSError as error:
            raise MonitorFailed(command, f"its monitor is closed ({error})") from error
        self._asked.append(command)

    def heard(self) -> list[Event | Answer]:
        """Return what came since the last call; waits for nothing."""
        self._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while self._read():
                pass
        heard, self._kept = self._kept, []
        return heard

    def execute(self, command: str, timeout_s: float, **arguments: object) -> Any:  # Any: as Answer.value
        """Run a command and return what it returned; what else comes meanwhile is kept for `heard`."""
        self.ask(command, **arguments)
        end_s = time.monotonic() + timeout_s
        while True:
            for index, one in enumerate(self._kept):
                if isinstance(one, Answer) and one.command == command and not self.waits:
                    del self._kept[index]
                    if one.problem:
                        raise MonitorFailed(command, one.problem)
                    return one.value
            self._socket.settimeout(max(0.01, end_s - time.monotonic()))
            try:
                self._read()
            except TimeoutError as error:
                raise MonitorFailed(command, f"no answer in {timeout_s:g} s") from error

    def _read(self) -> bool:
        """Take what is there, as the socket's timeout says. Raises BlockingIOError, TimeoutError."""
        try:
            part = self._socket.recv(_PART)
        except (BlockingIOError, TimeoutError):
            raise
        except OSError as error:
            raise MonitorFailed(self._doing(), f"its monitor broke ({error})") from error
        if not part or len(self._buffer) > _MAX_LINE:
            raise MonitorFailed(self._doing(), "it closed its monitor")
        *lines, self._buffer = (self._buffer + part).split(b"\n")
        for line in lines:
            self._parse(line)
        return True

    def _doing(self) -> str:
        return self._asked[0] if self._asked else "running the guest"

    def _parse(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            raise MonitorFailed(self._doing(), f"its monitor says {line[:80]!r}")
        if "event" in message:
            self._kept.append(Event(str(message["event"])))
        elif "return" in message or "error" in message:
            command = self._asked.pop(0) if self._asked else "?"
            error = message.get("error")
            problem = str(error.get("desc", error)) if isinstance(error, dict) else ""
            self._kept.append(Answer(command, message.get("return"), problem))
