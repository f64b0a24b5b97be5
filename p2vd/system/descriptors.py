"""JSON messages and open descriptors over a SOCK_SEQPACKET pair: one packet, one message."""

import array
import contextlib
import json
import os
import select
import socket
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

# A packet lives in the sender's socket buffer: Linux's default (net.core.wmem_default) is 208 KiB.
_PACKET_BYTES = 128 << 10
_MAX_FDS = 16
_FD_BYTES = array.array("i").itemsize


class SeqpacketChannel:
    """One end of the pair. It owns its descriptor.

    One thread may send while another receives; two senders need a lock of their own.
    """

    def __init__(self, sock: socket.socket):
        self._socket = sock

    @classmethod
    def from_fd(cls, fd: int) -> Self:
        """Take over the inherited descriptor `fd`. Raises OSError if it is no socket."""
        sock = socket.socket(fileno=fd)
        sock.set_inheritable(False)
        sock.setblocking(True)
        return cls(sock)

    @classmethod
    def pair(cls) -> tuple[Self, Self]:
        """Return both ends of a new channel; neither is inherited by a child unless passed on."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(ours), cls(theirs)

    def fileno(self) -> int:
        """The descriptor, for poll and for handing it to a child."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close this end; the peer sees the end of the conversation."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def send(
        self, message: Mapping[str, Any], fds: Sequence[int] = (), *, timeout_s: float | None = 10.0
    ) -> None:
        """Send `message`, and copies of `fds`: the caller still has to close its own.

        Raises BrokenPipeError when the peer is gone, TimeoutError when it does not read its
        messages, ValueError when the message does not fit a packet.
        """
        data = json.dumps(message, separators=(",", ":")).encode()
        if len(data) > _PACKET_BYTES:
            raise ValueError(f"a message of {len(data)} bytes does not fit a packet of {_PACKET_BYTES}")
        self._wait(select.POLLOUT, timeout_s)
        try:
            socket.send_fds(self._socket, [data], list(fds), socket.MSG_NOSIGNAL)
        except ConnectionResetError as error:
            raise BrokenPipeError(error.errno, "the peer closed the channel") from error

    def receive(self, timeout_s: float | None = None) -> tuple[dict[str, Any], list[int]] | None:
        """Return the next message and its descriptors (now the caller's), or None at the end.

        Raises TimeoutError after `timeout_s`, ValueError on a packet that is no JSON object (its
        descriptors are closed).
        """
        self._wait(select.POLLIN, timeout_s)
        try:
            data, ancillary, flags = self._receive()
        except ConnectionResetError:
            # A peer that closed with messages of ours unread: the kernel tells that once, and before what
            # the peer had sent until then (net/core/datagram.c, __skb_try_recv_datagram).
            data, ancillary, flags = self._receive()
        # Not socket.recv_fds: Python 3.11's drops its flags, and the descriptors become inheritable.
        fds = array.array("i")
        for level, kind, body in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(body[: len(body) // _FD_BYTES * _FD_BYTES])
        if not data and not fds:
            return None
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise ValueError("a packet or its descriptors were cut off")
            message = json.loads(data)
            if not isinstance(message, dict):  # a wrong packet is a wrong value to the caller
                raise ValueError(f"a message must be a JSON object, not {type(message).__name__}")  # noqa: TRY004 - as above
        except ValueError:
            close_all(fds)
            raise
        except RecursionError as error:  # "[[[[...": no sender of ours makes it, and it is a wrong packet
            close_all(fds)
            raise ValueError("a message is nested too deep") from error
        return message, list(fds)

    def peer_is_gone(self) -> bool:
        """Whether the other end is closed: nobody hears what is sent from now on."""
        poll = select.poll()
        poll.register(self._socket, 0)  # POLLHUP is told in any case
        return bool(poll.poll(0))

    def _receive(self) -> tuple[bytes, Sequence[tuple[int, int, bytes]], int]:
        size = socket.CMSG_SPACE(_MAX_FDS * _FD_BYTES)
        data, ancillary, flags, _ = self._socket.recvmsg(_PACKET_BYTES, size, socket.MSG_CMSG_CLOEXEC)
        return data, ancillary, flags

    def _wait(self, events: int, timeout_s: float | None) -> None:
        poll = select.poll()
        poll.register(self._socket, events)
        if not poll.poll(None if timeout_s is None else max(0, round(timeout_s * 1000))):
            raise TimeoutError(f"no message could pass within {timeout_s} s")


def close_all(fds: Sequence[int]) -> None:
    """Close every descriptor of `fds`; one that is closed already is passed over."""
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
