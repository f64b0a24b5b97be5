"""Where a disk stands in its machine."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """A disk's place in its machine: `number` (from 1) `of` so many."""

    machine_name: str
    number: int = 1
    of: int = 1
