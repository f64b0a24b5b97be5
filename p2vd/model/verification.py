"""A later proof that a volume still is what its receipt says: how it stands, and what it found."""

import enum
from dataclasses import dataclass


class VerifyState(enum.Enum):
    """How a verification stands. Durable."""

    RUNNING = "running"
    UNCHANGED = "unchanged"
    USED = "used-since"
    """It differs, and something is known that explains it: its machine has run, or it was written to."""
    DIFFERS = "differs"
    """It differs, and nothing that p2vd knows explains it."""
    FAILED = "failed"
    """It could not be carried out: it says nothing of the volume."""


@dataclass(frozen=True)
class WriteCount:
    """How many writes and discards the kernel has completed on a volume's device.

    The count begins anew with each activation: `sequence` (sysfs' diskseq) and `boot` tell which one.
    """

    boot: str
    sequence: str
    writes: int

    def since(self, proof: "WriteCount | None") -> int | None:
        """Writes after `proof` was taken, as far as this activation knows; None: that is not known."""
        if proof is None:
            return None
        same = (self.boot, self.sequence) == (proof.boot, proof.sequence)
        return self.writes - proof.writes if same else self.writes


@dataclass(frozen=True)
class Verification:
    """A job's latest verification. Durable; `error` is the name of what kept it from its end.

    `seen` is a sentence. `against`: `digests` (one a MiB, of the checkpoint) or `whole-digest` (the receipt's
    alone: then it is not known where something differs). `differing`: byte offset and length, whole MiB, the
    first 1000 of them; `differing_bytes` counts all. `since`: what is known to have happened to the volume
    since it was proven, a sentence each. `started_by`: the caller's uid.
    """

    state: VerifyState
    started_us: int
    ended_us: int = 0
    started_by: int = 0
    seen: str = ""
    against: str = ""
    bytes_total: int = 0
    bytes_read: int = 0
    differing: tuple[tuple[int, int], ...] = ()
    differing_bytes: int = 0
    since: tuple[str, ...] = ()
    error: str = ""
