"""How many jobs may work at once and how fast, and what those that may not wait for."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Jobs at once, and what all of them together may read a second; 0: no limit.

    An array is an iSCSI target or the WWNN of a Fibre Channel array; a portal is that of an iSCSI
    target, or a port of a Fibre Channel array.
    """

    in_all: int = 0
    per_volume_group: int = 0
    per_array: int = 0
    per_portal: int = 0
    bandwidth_bytes_per_s: int = 0


@dataclass(frozen=True)
class Waiting:
    """A job that does not work now. `place`: 1 is the next of the queue; 0: it is in none.

    `reason` says what it waits for, with the key of the limit.
    """

    job: str
    place: int
    reason: str
