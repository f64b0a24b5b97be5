"""QEMU's monitor: QMP as its specification has it, over a stream socket."""

import json
import socket
from collections import deque
from dataclasses import dataclass
from typing import Any, ClassVar

from p2vd.model.errors import P2vdError

_TIMEOUT_S = 60.0
_PART = 65536
_MAX_LINE = 4 << 20


@dataclass(eq=False)
class MonitorFailed(P2vdError):
    """QEMU refused a command of its monitor, or closed it; `message` is its own."""

    doing: str
    message: str
    template: ClassVar[str] = "QEMU failed at {doing}: {message}."


class Monitor:
    """A connection to the monitor of one QEMU. Used by one thread. All raise MonitorFailed."""

    def __init__(self, connection: socket.socket) -> None:
        """Take over a connected socket, and greet."""
        self._socket = connection
        self._buffer = b""
        self._events: deque[str] = deque()
        self._socket.settimeout(_TIMEOUT_S)
        self._line("greeting")
        self.execute("qmp_capabilities")

    def fileno(self) -> int:
        """The descriptor, for select: readable when there may be events."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    # Any: replies differ by command, and are QEMU's
    def execute(self, command: str, **arguments: object) -> Any:
        """Run a command and return what it returned; events that come meanwhile are kept."""
        words = {name.replace("_", "-"): value for name, value in arguments.items()}
        line = json.dumps({"execute": command, "arguments": words}) + "\n"
        try:
            self._socket.sendall(line.encode())
        except OSError as error:
            raise MonitorFailed(command, f"its monitor is closed ({error})") from error
        while True:
            reply = self._line(command)
            if "error" in reply:
                raise MonitorFailed(command, str(reply["error"].get("desc", reply["error"])))
            if "return" in reply:
                return reply["return"]

    def events(self) -> list[str]:
        """Return the names of events that came since the last call; waits for none."""
        self._socket.setblocking(False)
        try:
            while part := self._socket.recv(_PART):
                self._buffer += part
            raise MonitorFailed("running the guest", "it ended")
        except BlockingIOError:
            pass
        finally:
            self._socket.settimeout(_TIMEOUT_S)
        while b"\n" in self._buffer:
            self._parse("an event")
        seen = list(self._events)
        self._events.clear()
        return seen

    def _line(self, doing: str) -> dict[str, Any]:
        """Return the next line that is no event's own."""
        while True:
            while b"\n" not in self._buffer:
                try:
                    part = self._socket.recv(_PART)
                except OSError as error:
                    raise MonitorFailed(doing, f"its monitor does not answer ({error})") from error
                if not part or len(self._buffer) > _MAX_LINE:
                    raise MonitorFailed(doing, "it closed its monitor")
                self._buffer += part
            if (reply := self._parse(doing)) is not None:
                return reply

    def _parse(self, doing: str) -> dict[str, Any] | None:
        """Take one line off the buffer: a reply is returned, an event kept."""
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            message = json.loads(line)
        except ValueError as error:
            raise MonitorFailed(doing, f"its monitor says {line[:80]!r}") from error
        if not isinstance(message, dict):
            raise MonitorFailed(doing, f"its monitor says {line[:80]!r}")
        if "event" in message:
            self._events.append(str(message["event"]))
            return None
        return message
