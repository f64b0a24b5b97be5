"""How fast copies were, and what a copy that is planned will take."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CopyRate:
    """What was measured on one copy. Kept in the store.

    `array`: the source's, see `planning.estimate`; `store_id`: what the target is a part of. Bytes
    of the disk that were dealt with, zeros too, and the time that took, while no limit of p2vd's slowed it
    down; 0: not measured.
    """

    job: str
    array: str
    store_id: str
    measured_us: int
    copied_bytes: int = 0
    copied_ms: int = 0
    verified_bytes: int = 0
    verified_ms: int = 0

    @property
    def place(self) -> tuple[str, str]:
        """From where to where."""
        return self.array, self.store_id


@dataclass(frozen=True)
class Estimate:
    """What copying takes; `seconds` 0: not known. `text` says it with what it is based on, in a sentence."""

    seconds: int = 0
    bytes_per_s: int = 0
    text: str = ""
