"""What the daemon says to a process that reads a volume again, and what that answers. Pure.

JSON messages over a SOCK_SEQPACKET pair, as protocol.py has them: the daemon sends one VerifyStart with the
volume's descriptor, read-only, and closes the channel to end it early.
"""

from dataclasses import dataclass
from typing import Any

from p2vd.copying.protocol import Stalled
from p2vd.copying.terms import Failure
from p2vd.model.codec import Messages

VERSION = 1
MAX_RANGES = 1000
"""A report names so many ranges at most; a message has to fit a packet."""


@dataclass(frozen=True)
class VerifyStart:
    """Read `size_bytes` of the volume, of which `source_bytes` came from a source and the rest is zero.

    `digest`: the receipt's, over the whole disk (`xxh3:...`). `checkpoint_path`: of the copy of `job` in its
    pass `generation`; where it is there and fits the digest, each MiB is compared with its own.
    """

    version: int
    job: str
    generation: int
    size_bytes: int
    source_bytes: int
    digest: str
    checkpoint_path: str
    dm_uuid: str = ""
    threads: int = 8
    bandwidth_bytes_per_s: int = 0
    worker_uid: int = 0
    worker_gid: int = 0


@dataclass(frozen=True)
class VerifyProgress:
    """So much was read, at most twice a second."""

    bytes_read: int


@dataclass(frozen=True)
class VerifyReport:
    """The last message. `failure`: why it says nothing of the volume.

    `against`: see model.verification. `without_checkpoint`: why there were no digests of single MiB.
    `writes_before`, `writes_after`: the kernel's counts of writes and discards, -1: not known; `sequence`: of
    which activation.
    """

    bytes_read: int = 0
    equal: bool = False
    against: str = ""
    without_checkpoint: str = ""
    differing: tuple[tuple[int, int], ...] = ()
    differing_bytes: int = 0
    sequence: str = ""
    writes_before: int = -1
    writes_after: int = -1
    failure: Failure | None = None


Message = VerifyStart | VerifyProgress | Stalled | VerifyReport

_NAMES: dict[str, type[Any]] = {
    "verify": VerifyStart,
    "progress": VerifyProgress,
    "stalled": Stalled,
    "report": VerifyReport,
}
_MESSAGES = Messages(_NAMES)


def encode(message: Message) -> dict[str, Any]:
    """Return `message` as the object that goes over the socket."""
    return _MESSAGES.encode(message)


def decode(data: dict[str, Any]) -> Message:
    """Return the message in `data`. Raises ValueError on an unknown type or a field that does not fit."""
    message: Message = _MESSAGES.decode(data)
    return message
