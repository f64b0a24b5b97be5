"""How full a thin pool will be: what a sample of a disk found, and what follows from it for its pool."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ZeroSample:
    """What blocks of a disk hold that were chosen at random.

    `blocks`: of `block_bytes`, the whole disk has so many, a last part counted as one. `hole_blocks`: so many
    of them lie in holes of an image and are zero for certain; of the others `sampled` were read, and
    `with_data` of these hold anything but zeros.
    """

    block_bytes: int
    blocks: int
    hole_blocks: int
    sampled: int
    with_data: int


@dataclass(frozen=True)
class Allocation:
    """What a copy is expected to take of its pool, in bytes, by a sample of its source.

    With a confidence of 95 % it is between `least_bytes` and `most_bytes`. `sampled` blocks were read, and
    `with_data` of them were not zero. `problem`: why there is no sample; then all else is 0.
    """

    expected_bytes: int = 0
    least_bytes: int = 0
    most_bytes: int = 0
    sampled: int = 0
    with_data: int = 0
    problem: str = ""


@dataclass(frozen=True)
class PoolFill:
    """A thin pool as it will be when a plan's copies, and those of all jobs before it, are complete.

    `used_bytes` now; `others_bytes`: what other jobs may still take; `worst_case_bytes`: what the plan's
    copies take at most. `allocation`: what they are expected to take, where a sample was asked for.
    While the pool is not `active` nobody knows what is used.
    """

    vg_uuid: str
    vg_name: str
    pool: str
    size_bytes: int
    used_bytes: int
    others_bytes: int
    worst_case_bytes: int
    active: bool = True
    allocation: Allocation | None = None

    def after(self, taken_bytes: int) -> int:
        """Bytes used when the plan's copies took `taken_bytes`; more than the pool has: it is short."""
        return self.used_bytes + self.others_bytes + taken_bytes

    def percent(self, used_bytes: int) -> float:
        """`used_bytes` of the pool's size."""
        return used_bytes * 100 / self.size_bytes if self.size_bytes else 0.0
