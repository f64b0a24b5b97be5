"""Reading what somebody handed over as a descriptor, without trusting it to end."""

import os
import select
import stat
import time

_PART_BYTES = 1 << 16


def read_to_end(fd: int, limit_bytes: int, timeout_s: float) -> bytes:
    """Return all that `fd` (a file, a pipe, a memory file, a socket) still holds; it stays open.

    Raises TimeoutError where the writer does not close it in time, OSError, and ValueError where it
    holds more than `limit_bytes` or is a device or a directory.
    """
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        raise ValueError("it is no file, pipe or socket")
    # Else another reader of the same pipe could take what poll promised, and the read would not return.
    os.set_blocking(fd, False)
    deadline = time.monotonic() + timeout_s
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    raw = bytearray()
    while len(raw) <= limit_bytes:
        left_s = deadline - time.monotonic()
        if left_s < 0 or not poll.poll(left_s * 1000):
            raise TimeoutError("its end did not come in time")
        try:
            part = os.read(fd, _PART_BYTES)
        except BlockingIOError:
            continue
        if not part:
            return bytes(raw)
        raw += part
    raise ValueError(f"it is longer than {limit_bytes} bytes")
