"""How fast a copy may read a source that other hosts use too: slower while it answers late. Pure.

The time is told to it. A source is asked by blocks of up to 1 MiB; what they take is its latency, whoever
the load comes from. Once it is beyond the bound the copy reads at half its rate, and at half of that again
while the source stays late; once it is well below the bound it reads a quarter faster each second, until it
is where it was. Between the two nothing changes, so that it finds a rate and keeps it.
"""

from p2vd.model.size import MIB

LEAST_BYTES_PER_S = MIB
"""A copy always goes on: it is how the latency is known."""

_DECIDE_S = 1.0
_CALM = 0.75  # of the bound


class BackOff:
    """Latency and limit of one copy. Not thread-safe."""

    def __init__(self, max_latency_us: int, now: float) -> None:
        """`max_latency_us` 0: no bound, it only measures."""
        self._bound_us = max_latency_us
        self.limit_bytes_per_s = 0
        """What may be read a second because of the latency; 0: as much as one likes."""
        self.latency_us = 0
        """What a read took on average when it was decided last; 0: not known yet."""
        self._before = 0
        self.begin(now)

    def begin(self, now: float) -> None:
        """Count from now on only: reads under way, and a pause, say nothing of what is decided next."""
        self._since = now
        self._bytes = self._reads = 0
        self._taken_s = 0.0

    def taken(self, length: int) -> None:
        """Note that `length` bytes are going to be read."""
        self._bytes += length

    def note(self, began: float, ended: float) -> bool:
        """Note a read that came back; return whether the limit is another now."""
        if began < self._since:
            return False
        self._reads += 1
        self._taken_s += ended - began
        elapsed = ended - self._since
        if elapsed < _DECIDE_S:
            return False
        self.latency_us = max(1, round(self._taken_s / self._reads * 1_000_000))
        before = self.limit_bytes_per_s
        if self._bound_us:
            self._decide(round(self._bytes / elapsed))
        self.begin(ended)
        return self.limit_bytes_per_s != before

    def _decide(self, rate: int) -> None:
        limit = self.limit_bytes_per_s
        if self.latency_us > self._bound_us:
            if not limit:
                self._before = rate
            self.limit_bytes_per_s = max(LEAST_BYTES_PER_S, min(limit or rate, rate) // 2)
        elif limit and self.latency_us <= self._bound_us * _CALM:
            limit += max(LEAST_BYTES_PER_S, limit // 4)
            self.limit_bytes_per_s = 0 if limit >= self._before else limit
