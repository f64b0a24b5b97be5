"""Moving a disk's bytes: how it is asked for, and how far it is.

Apart from plans and jobs: `p2vd-copy` needs neither, and starts anew for each copy.
"""

import enum
from dataclasses import dataclass

MAX_QUEUE_DEPTH = 64

MAX_BAD_SECTORS = 100_000
"""Each lone one is a range in the checkpoint's header, which is written with every commit."""


class Verify(enum.Enum):
    """What is read again before a disk counts as proven."""

    READ_BACK = "read-back"
    BOTH = "both"
    NONE = "none"


@dataclass(frozen=True)
class Progress:
    """Counters of a copy, in bytes; `committed_bytes` is what a crash cannot take back.

    `bytes_same` were on the target already, from an earlier pass; `bad_bytes` cannot be read.

    `read_latency_us`: what a read of the source took of late, 0: not known. `slowed_bytes_per_s`: what is
    read a second at most because that is too long; 0: it is not.

    `allocated_bytes` is what was written against the credits of a thin pool. Times are
    microseconds since the epoch, 0: not yet.
    """

    bytes_copied: int = 0
    bytes_zero: int = 0
    bytes_same: int = 0
    bytes_verified: int = 0
    bad_bytes: int = 0
    committed_bytes: int = 0
    allocated_bytes: int = 0
    rate_bytes_per_s: int = 0
    last_checkpoint_us: int = 0
    resumed_from_bytes: int = 0
    read_latency_us: int = 0
    slowed_bytes_per_s: int = 0
