"""One connection to an NBD server, by libnbd.

Every request is waited for with the interpreter lock released, and not for ever: whoever asks is looked
at once a second, because a server that hangs must not keep a copy from stopping.
"""

import contextlib
import errno
import os
import socket
import time
from collections.abc import Callable

import nbd

from p2vd.copying.controls import Interrupted
from p2vd.copying.nbd_errors import Lost

MAX_REQUEST = 32 << 20
"""What a server takes that says nothing of its limits (the NBD protocol, "Block size constraints")."""

_ANSWER_WITHIN_S = 20.0
_LOOK_MS = 1000
# A peer that is gone without a word is noticed within 10 + 3 x 10 s.
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 40_000),
)
_UNREACHED = "could not connect to remote host"
_GONE = {errno.ENOTCONN, errno.ESHUTDOWN, errno.ECONNRESET, errno.EPIPE}


class Connection:
    """An open connection. Used by one thread at a time; after Lost or Interrupted by none."""

    def __init__(self, handle: "nbd.NBD", ended: Callable[[], bool]):
        self._handle = handle
        self._ended = ended
        self.size_bytes = int(handle.get_size())
        self.least = max(1, int(handle.get_block_size(nbd.SIZE_MINIMUM)))
        self.most = int(handle.get_block_size(nbd.SIZE_MAXIMUM)) or MAX_REQUEST
        self.for_many = bool(handle.can_multi_conn())
        self.read_only = bool(handle.is_read_only())
        self.knows_extents = bool(handle.can_meta_context(nbd.CONTEXT_BASE_ALLOCATION))

    def see_through(self) -> None:
        """From now on wait for every answer, whatever is wanted: as for a write that is in the kernel.

        One that is not waited for may be done or not, and the last flush of a copy that stops is one.
        """
        self._ended = lambda: False

    def read(self, into: memoryview, offset: int) -> None:
        """Fill `into` from `offset`. Raises Lost, Interrupted, OSError with the server's answer."""
        self._run(lambda: self._handle.aio_pread(into, offset))

    def write(self, data: memoryview, offset: int) -> None:
        """Write `data` at `offset`. Raises as `read`."""
        self._run(lambda: self._handle.aio_pwrite(data, offset))

    def zero(self, length: int, offset: int) -> None:
        """Make a range zero; the server may make it a hole. Raises as `read`."""
        self._run(lambda: self._handle.aio_zero(length, offset))

    def flush(self) -> None:
        """Make durable what was answered, on whichever connection where `for_many`. Raises as `read`."""
        self._run(lambda: self._handle.aio_flush())

    def status(self, offset: int, length: int) -> list[tuple[int, bool]]:
        """Lengths from `offset` on, each with whether it is known to read as zeros. Raises as `read`."""
        found: list[tuple[int, bool]] = []

        def note(context: str, at: int, entries: list[int], _: object) -> int:
            if context == nbd.CONTEXT_BASE_ALLOCATION and at == offset:
                pairs = zip(entries[::2], entries[1::2], strict=True)
                found.extend((count, bool(flags & nbd.STATE_ZERO)) for count, flags in pairs)
            return 0

        self._run(lambda: self._handle.aio_block_status(length, offset, note))
        return found

    def close(self) -> None:
        """Tell the server that this is the end, if it still listens."""
        with contextlib.suppress(nbd.Error):
            self._handle.shutdown(nbd.SHUTDOWN_ABANDON_PENDING)

    def _run(self, send: Callable[[], int]) -> None:
        handle = self._handle
        try:
            cookie = send()
            while not handle.aio_command_completed(cookie):
                if handle.poll(_LOOK_MS) == 0 and self._ended():
                    raise Interrupted
        except nbd.Error as error:
            if error.errnum in _GONE or handle.aio_is_dead() or handle.aio_is_closed():
                raise Lost(cause_of(error)) from error
            raise OSError(error.errnum or errno.EIO, _server_said(error)) from error


def negotiate(handle: "nbd.NBD", start: Callable[[], None], ended: Callable[[], bool]) -> Connection:
    """Connect `handle` by `start` and have the export opened. Raises Lost with the reason, Interrupted."""
    until = time.monotonic() + _ANSWER_WITHIN_S
    try:
        handle.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
        # A buffer of a failed read is never looked at.
        handle.set_pread_initialize(False)
        start()
        while handle.aio_is_connecting():
            if ended():
                raise Interrupted
            if time.monotonic() >= until:
                raise Lost(f"no answer within {_ANSWER_WITHIN_S:g} s")
            handle.poll(_LOOK_MS)
        if not handle.aio_is_ready():
            raise Lost("the server ended the conversation")
        _keep_alive(handle.aio_get_fd())
        return Connection(handle, ended)
    except nbd.Error as error:
        raise Lost(cause_of(error)) from error


def cause_of(error: "nbd.Error") -> str:
    """What libnbd says, without the names of its own functions."""
    said = str(error.string)
    if _UNREACHED in said and error.errnum:
        return os.strerror(error.errnum)
    while ": " in said and said.split(": ", 1)[0].startswith(("nbd_", "gnutls_", "connect_", "poll")):
        said = said.split(": ", 1)[1]
    return said.rstrip(".")


def _server_said(error: "nbd.Error") -> str:
    return os.strerror(error.errnum) if error.errnum else cause_of(error)


def _keep_alive(fd: int) -> None:
    with socket.socket(fileno=os.dup(fd)) as peer:
        if peer.family in (socket.AF_INET, socket.AF_INET6):
            for level, option, value in _KEEPALIVE:
                peer.setsockopt(level, option, value)
