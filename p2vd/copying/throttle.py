"""Limits: bytes a second, and bytes of a thin pool. Pure: the time is told to them."""

from collections import OrderedDict

from p2vd.copying.layout import BLOCK, REGION_BLOCKS

_REGION_BYTES = BLOCK * REGION_BLOCKS
_KEPT_REGIONS = 64


class TokenBucket:
    """Bandwidth. It may be overdrawn by one I/O, which the next ones wait for."""

    def __init__(self, bytes_per_s: int, now: float):
        self._rate = bytes_per_s
        self._tokens = 0.0
        self._time = now

    def set_rate(self, bytes_per_s: int, now: float) -> None:
        """Change the limit; 0: none. What is overdrawn stays so."""
        self._refill(now)
        self._rate = bytes_per_s
        if not bytes_per_s:
            self._tokens = 0.0

    def delay(self, now: float) -> float:
        """Seconds until the next I/O may begin; 0: now."""
        self._refill(now)
        owed = -self._tokens
        return owed / self._rate if self._rate and owed >= 1 else 0.0

    def take(self, length: int) -> None:
        """Note an I/O of `length` bytes that begins now."""
        if self._rate:
            self._tokens -= length

    def _refill(self, now: float) -> None:
        # A quarter of a second may be saved up: enough to even out, too little for a burst.
        earned = max(0.0, now - self._time) * self._rate
        self._tokens = min(self._tokens + earned, self._rate / 4)
        self._time = now


class ChunkCredit:
    """Space of a thin pool: every chunk that is written to costs one chunk, once.

    Chunks are remembered for the latest regions only; a chunk returned to later is counted again,
    which errs on the safe side. Limit -1: none.
    """

    def __init__(self, chunk_bytes: int, limit_bytes: int = -1):
        self._chunk = chunk_bytes
        self._seen: OrderedDict[int, int] = OrderedDict()
        self.limit_bytes = limit_bytes
        self.allocated_bytes = 0

    def missing(self, offset: int, length: int) -> int:
        """The total that must be granted before this write may begin; 0: it may."""
        if not self._chunk or self.limit_bytes < 0:
            return 0
        needed = self.allocated_bytes + len(self._new(offset, length)) * self._chunk
        return 0 if needed <= max(self.limit_bytes, self.allocated_bytes) else needed

    def take(self, offset: int, length: int) -> None:
        """Count the chunks that a write touches and that were not counted before."""
        for chunk in self._new(offset, length) if self._chunk else ():
            region, bit = self._place(chunk)
            self._seen[region] = self._seen.get(region, 0) | 1 << bit
            self._seen.move_to_end(region)
            self.allocated_bytes += self._chunk
        while len(self._seen) > _KEPT_REGIONS:
            self._seen.popitem(last=False)

    def _new(self, offset: int, length: int) -> list[int]:
        chunks = range(offset // self._chunk, (offset + length - 1) // self._chunk + 1)
        return [chunk for chunk in chunks if not self._is_seen(*self._place(chunk))]

    def _is_seen(self, region: int, bit: int) -> bool:
        return bool(self._seen.get(region, 0) >> bit & 1)

    def _place(self, chunk: int) -> tuple[int, int]:
        region = chunk * self._chunk // _REGION_BYTES
        first = -(-region * _REGION_BYTES // self._chunk)
        return region, chunk - first
