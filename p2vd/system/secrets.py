"""Reading a secret from a descriptor that somebody handed over."""

import os
import select
import time

_SECRET_BYTES = 4096


def read_descriptor(fd: int, timeout_s: float) -> bytes:
    """Return what `fd` (a file, a pipe, a memory file) holds up to its end or the end of the first line.

    Raises TimeoutError where the writer neither writes a line nor closes in time, OSError, and
    ValueError where it is longer than any secret.
    """
    deadline = time.monotonic() + timeout_s
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    raw = b""
    while b"\n" not in raw:
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError("nothing came in time")
        part = os.read(fd, _SECRET_BYTES)
        raw += part
        if not part:
            break
        if len(raw) > _SECRET_BYTES:
            raise ValueError(f"it is longer than {_SECRET_BYTES} bytes")
    return raw.partition(b"\n")[0]
