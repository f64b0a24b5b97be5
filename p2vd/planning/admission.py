"""How much each copy may still take of its thin pool, so that p2vd never fills it (design: §4.10).

The daemon measures the pool, asks here, and sends each worker its credit: a total since its start,
so that a message that is lost or repeated does no harm. Only a small window beyond what a job has
used is granted at a time: what others take meanwhile is seen before the next window.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from p2vd.model.errors import Reason
from p2vd.model.lvm import ThinPool
from p2vd.model.size import GIB, MIB, format_size

WINDOW_BYTES = GIB
"""How far ahead of its use a job is granted."""

REWRITE_BYTES = 64 * MIB
"""What a job is granted at a time that has used all it can need: ranges that it writes again, after a
failed flush, count again, and must not leave it waiting for ever."""

METADATA_BYTES_PER_CHUNK = 64
"""A mapping takes 16 bytes in a leaf that is half full after splits; the kernel's
thin-provisioning.rst counts 48 a chunk, lvmthin(7) 64: the larger one holds."""

METADATA_RESERVE_BYTES = 4 * MIB
"""Below min(4 MiB, a quarter) free, dm-thin itself calls its metadata low (calc_metadata_threshold)."""


@dataclass(frozen=True)
class PoolNumbers:
    """A thin pool at one moment. `reason` is set where nothing may be granted at all."""

    total_data_bytes: int
    used_data_bytes: int
    total_metadata_bytes: int
    used_metadata_bytes: int
    chunk_size_bytes: int
    reason: Reason | None = None


@dataclass(frozen=True)
class Demand:
    """A running copy. All counted since its worker's start.

    `worst_case_bytes`: what it may need in all. `used_bytes`: what it reported, before the pool was
    measured. `granted_bytes`: the credit it was sent last.
    """

    job: str
    worst_case_bytes: int
    used_bytes: int = 0
    granted_bytes: int = 0
    reserve_percent: int = 5


@dataclass(frozen=True)
class Credit:
    """The total that a job may have taken. `short`: it wants more than this and there is no more."""

    job: str
    total_bytes: int
    short: bool = False


class Shortage(enum.Enum):
    """What of a pool keeps copies short, by its option of lvextend."""

    DATA = "-L"
    METADATA = "--poolmetadatasize"


@dataclass(frozen=True)
class Admission:
    """Credits in the order of the demands. `reason` says why some are short, with the remedy.

    `shortage`: what an extend would mend; None where none is short, or nothing would.
    """

    credits: tuple[Credit, ...]
    free_bytes: int
    reason: Reason | None = None
    shortage: Shortage | None = None


def pool_numbers(pool: ThinPool) -> PoolNumbers:
    """Return the numbers of a pool as LVM reports it; how full it is was rounded to a hundredth percent."""
    return PoolNumbers(
        total_data_bytes=pool.size_bytes,
        used_data_bytes=pool.used_bytes,
        total_metadata_bytes=pool.metadata_size_bytes,
        used_metadata_bytes=round(pool.metadata_size_bytes * pool.metadata_percent / 100),
        chunk_size_bytes=pool.chunk_size_bytes,
    )


def metadata_room(pool: ThinPool, reserve_percent: int) -> int | None:
    """Return the bytes that copies may still write before the pool's metadata comes to its reserve.

    None where that is not known: the pool is not active, or its metadata's size was not reported.
    """
    if not pool.active or not pool.metadata_size_bytes:
        return None
    return max(0, _free(pool_numbers(pool), reserve_percent)[1])


def free_for_copies(pool: PoolNumbers, reserve_percent: int) -> int:
    """Return the bytes that copies may still take, less the reserve of data and of metadata."""
    return 0 if pool.reason else max(0, min(_free(pool, reserve_percent)))


def room_beside(pool: PoolNumbers, demands: Sequence[Demand], held_bytes: int = 0) -> int:
    """Return the bytes that may be written to a pool beside what its copies were granted, and others hold.

    Of data, and of what the metadata holds before dm-thin calls it low. The copies' own reserve counts: they
    leave it for such writes.
    """
    outstanding = sum(max(0, demand.granted_bytes - demand.used_bytes) for demand in demands)
    return max(0, free_for_copies(pool, 0) - outstanding - held_bytes)


def admit(
    pool: PoolNumbers,
    name: str,
    demands: Sequence[Demand],
    window_bytes: int = WINDOW_BYTES,
    *,
    held_bytes: int = 0,
) -> Admission:
    """Return the credit of each copy in the pool `name` (`vg/pool`).

    `held_bytes`: kept for writes that are no copies'. Those may take the reserve, so they cost copies only
    what goes beyond it.

    Holds: what all copies may take beyond what they used never exceeds what is free less the
    largest reserve among them. No credit shrinks while that can be kept; where others took the
    space, credits shrink and none grows, for a worker may already have used what is taken back.
    """
    reserve_percent = max((demand.reserve_percent for demand in demands), default=0)
    free = free_for_copies(pool, reserve_percent)
    beside_held = max(0, free_for_copies(pool, 0) - held_bytes)
    kept_bytes, free = (held_bytes, beside_held) if beside_held < free else (0, free)
    outstanding = [max(0, demand.granted_bytes - demand.used_bytes) for demand in demands]
    wanted = [
        max(min(window_bytes, _rest(demand)), ahead)
        for demand, ahead in zip(demands, outstanding, strict=True)
    ]
    if sum(outstanding) > free:
        ahead = _shared_out(free, outstanding, pool.chunk_size_bytes)
    else:
        more = [want - have for want, have in zip(wanted, outstanding, strict=True)]
        extra = _shared_out(free - sum(outstanding), more, pool.chunk_size_bytes)
        ahead = [have + plus for have, plus in zip(outstanding, extra, strict=True)]
    credits = tuple(
        Credit(demand.job, demand.used_bytes + got, short=got < want)
        for demand, got, want in zip(demands, ahead, wanted, strict=True)
    )
    if not any(credit.short for credit in credits):
        return Admission(credits, free)
    shortage = None if pool.reason else _shortage(pool, reserve_percent)
    return Admission(credits, free, _reason(pool, name, reserve_percent, free, kept_bytes), shortage)


def _rest(demand: Demand) -> int:
    return max(demand.worst_case_bytes - demand.used_bytes, min(demand.worst_case_bytes, REWRITE_BYTES))


def _shared_out(free: int, wants: Sequence[int], step: int) -> list[int]:
    """Share `free` out evenly; what one does not need goes to the others. In whole steps but the last.

    The order of `wants` decides nothing but who gets the remainder of a step.
    """
    shares = [0] * len(wants)
    left = len(wants)
    for index in sorted(range(len(wants)), key=lambda i: wants[i]):
        even = free // left
        shares[index] = wants[index] if wants[index] <= even else even // step * step
        free -= shares[index]
        left -= 1
    return shares


def _free(pool: PoolNumbers, reserve_percent: int) -> tuple[int, int]:
    """Bytes that are free by the pool's data, and bytes whose mappings its metadata still holds."""
    data = pool.total_data_bytes - _share(pool.total_data_bytes, reserve_percent) - pool.used_data_bytes
    least = min(METADATA_RESERVE_BYTES, pool.total_metadata_bytes // 4)
    reserve = max(least, _share(pool.total_metadata_bytes, reserve_percent))
    metadata = pool.total_metadata_bytes - reserve - pool.used_metadata_bytes
    return data, metadata // METADATA_BYTES_PER_CHUNK * pool.chunk_size_bytes


def _share(total: int, percent: int) -> int:
    return -(-total * percent // 100)


def _reason(pool: PoolNumbers, name: str, reserve_percent: int, free: int, kept_bytes: int) -> Reason:
    if pool.reason:
        return pool.reason
    shortage = _shortage(pool, reserve_percent)
    before = f"its reserve of {reserve_percent} %"
    if kept_bytes:
        before = f"the {format_size(kept_bytes)} that are kept for conversions under way"
    return Reason(
        "pool-short" if shortage is Shortage.DATA else "pool-metadata-short",
        f"The {shortage.name.lower()} of the thin pool {name} lets copies take {format_size(free)} "
        f"more before {before}. Extend it: lvextend {shortage.value} +SIZE {name}.",
    )


def _shortage(pool: PoolNumbers, reserve_percent: int) -> Shortage:
    data, metadata = _free(pool, reserve_percent)
    return Shortage.DATA if data <= metadata else Shortage.METADATA


@dataclass(frozen=True)
class Tally:
    """Who took what of a pool since p2vd first measured it while copies ran.

    `used_bytes` of the pool, and `taken_bytes` by each running copy, as they were measured last;
    `others_bytes`: what grew besides. Rewritten ranges count twice for a copy, so others took at least this.
    """

    used_bytes: int
    taken_bytes: tuple[tuple[str, int], ...] = ()
    others_bytes: int = 0

    def measured(self, used_bytes: int, demands: Sequence[Demand]) -> "Tally":
        """Return the tally after one more measurement; a copy that was not there before began at 0."""
        before = dict(self.taken_bytes)
        own = sum(max(0, demand.used_bytes - before.get(demand.job, 0)) for demand in demands)
        others = max(0, self.others_bytes + used_bytes - self.used_bytes - own)
        return Tally(used_bytes, tuple((demand.job, demand.used_bytes) for demand in demands), others)
