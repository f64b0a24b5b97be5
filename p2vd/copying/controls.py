"""What can be changed while a copy runs, and what it waits for; and which I/O is outstanding."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from p2vd.copying.errors import PoolFull
from p2vd.copying.latency import BackOff
from p2vd.copying.throttle import ChunkCredit, TokenBucket
from p2vd.system.clock import Clock

_POLL_S = 0.5
_NO_SPACE_WAIT_S = 5.0

READING = "read"
"""The operation of a read of the source; the target is read back otherwise."""
COMMITTING = "commit"
"""The operation of making the checkpoint durable; it has no offset."""


class Interrupted(Exception):
    """Not an error: the copy is to end here, because it was stopped or failed in another thread."""


class Controls:
    """Pause, stop, bandwidth, latency and credits. The threads of a copy wait here and nowhere else."""

    def __init__(
        self, clock: Clock, credit: ChunkCredit, bandwidth_bytes_per_s: int = 0, max_latency_us: int = 0
    ):
        """`max_latency_us`: of a read of the source, beyond which the copy slows down; 0: it never does."""
        self._clock = clock
        self._changed = threading.Condition()
        self._credit = credit
        self._bucket = TokenBucket(bandwidth_bytes_per_s, clock.monotonic())
        self._slowed = TokenBucket(0, clock.monotonic())
        self._back_off = BackOff(max_latency_us, clock.monotonic())
        self._paused = False
        self._wanted: dict[int, int] = {}
        self._full: dict[int, PoolFull] = {}
        self.ended = threading.Event()
        self.stopped = False
        self.failure: BaseException | None = None

    def stop(self) -> None:
        """End at a checkpoint."""
        with self._changed:
            self.stopped = True
            self.ended.set()
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """End because of `error`; the first one counts."""
        with self._changed:
            self.failure = self.failure or error
            self.ended.set()
            self._changed.notify_all()

    def pause(self, paused: bool) -> None:
        """Stop issuing I/O, or go on."""
        with self._changed:
            if self._paused and not paused:
                self._back_off.begin(self._clock.monotonic())
            self._paused = paused
            self._changed.notify_all()

    def set_bandwidth(self, bytes_per_s: int) -> None:
        """Change the limit; 0: none."""
        with self._changed:
            self._bucket.set_rate(bytes_per_s, self._clock.monotonic())
            self._changed.notify_all()

    def source_answered(self, began: float, ended: float) -> None:
        """Note a read of the source, by the monotonic clock: where it answers late, fewer follow."""
        with self._changed:
            if self._back_off.note(began, ended):
                self._slowed.set_rate(self._back_off.limit_bytes_per_s, ended)
                self._changed.notify_all()

    @property
    def read_latency_us(self) -> int:
        """How long a read of the source took of late; 0: not known yet."""
        return self._back_off.latency_us

    @property
    def slowed_bytes_per_s(self) -> int:
        """What is read a second at most because the source answers late; 0: it does not."""
        return self._back_off.limit_bytes_per_s

    def grant(self, total_bytes: int) -> None:
        """Allow that much of the pool to be allocated in all; -1: no limit."""
        with self._changed:
            self._credit.limit_bytes = total_bytes
            self._changed.notify_all()

    def wait(self, seconds: float) -> None:
        """Let that much time pass. Raises Interrupted at the end of the copy."""
        until = self._clock.monotonic() + seconds
        with self._changed:
            while not self.ended.is_set() and (left := until - self._clock.monotonic()) > 0:
                self._changed.wait(min(left, _POLL_S))
        if self.ended.is_set():
            raise Interrupted

    def wait_for_space(self, error: PoolFull) -> None:
        """Let some time pass after a write that found no space. Raises Interrupted."""
        me = threading.get_ident()
        self._full[me] = error
        try:
            self.wait(_NO_SPACE_WAIT_S)
        finally:
            del self._full[me]

    @property
    def full(self) -> PoolFull | None:
        """The write that waits for space, if one does."""
        return next(iter(self._full.copy().values()), None)

    @property
    def allocated_bytes(self) -> int:
        """Bytes of the pool that were counted as allocated."""
        return self._credit.allocated_bytes

    @property
    def credit_wanted(self) -> int:
        """The least total that lets a waiting thread go on; 0: none waits for credit."""
        with self._changed:
            return min(self._wanted.values(), default=0)

    @property
    def held(self) -> bool:
        """Whether work is to be put down: paused or ending."""
        return self._paused or self.ended.is_set()

    def gate(self) -> bool:
        """Wait while paused; return whether to go on."""
        with self._changed:
            while self._paused and not self.ended.is_set():
                self._changed.wait(_POLL_S)
        return not self.ended.is_set()

    def throttle(self, length: int) -> None:
        """Wait until `length` bytes may be read. Raises Interrupted when the copy is put down."""
        with self._changed:
            while (delay := self._delay()) > 0:
                if self.held:
                    raise Interrupted
                self._changed.wait(min(delay, _POLL_S))
            self._bucket.take(length)
            self._slowed.take(length)
            self._back_off.taken(length)

    def pace(self, length: int) -> None:
        """As `throttle`, but a pause is waited for. Raises Interrupted at the end of the copy."""
        while True:
            try:
                return self.throttle(length)
            except Interrupted:
                if not self.gate():  # stopped; else it was a pause, which is over
                    raise

    def _delay(self) -> float:
        now = self._clock.monotonic()
        return max(self._bucket.delay(now), self._slowed.delay(now))

    def admit(self, offset: int, length: int) -> None:
        """Wait until a write may allocate what it touches, and count it. Raises Interrupted at the end."""
        me = threading.get_ident()
        with self._changed:
            try:
                while needed := self._credit.missing(offset, length):
                    if self.ended.is_set():
                        raise Interrupted
                    self._wanted[me] = needed
                    self._changed.wait(_POLL_S)
            finally:
                self._wanted.pop(me, None)
            self._credit.take(offset, length)


@dataclass(frozen=True)
class Outstanding:
    """An I/O in the kernel, since when (monotonic seconds and wall clock)."""

    operation: str
    offset: int
    since: float
    since_us: int


class Gauge:
    """Knows every I/O that is in the kernel now.

    `on_read` is told of every read of the source when it began and ended, by the monotonic clock.
    """

    def __init__(self, clock: Clock, on_read: Callable[[float, float], None] | None = None):
        self._clock = clock
        self._on_read = on_read
        self._running: dict[int, Outstanding] = {}

    @contextmanager
    def io(self, operation: str, offset: int) -> Iterator[None]:
        """Note an I/O of this thread while it lasts."""
        me = threading.get_ident()
        began = self._clock.monotonic()
        self._running[me] = Outstanding(operation, offset, began, self._clock.now_us())
        try:
            yield
        finally:
            del self._running[me]
            if self._on_read is not None and operation == READING:
                self._on_read(began, self._clock.monotonic())

    def oldest(self, longer_than_s: float) -> Outstanding | None:
        """The I/O that is outstanding longest, if longer than that."""
        running = list(self._running.values())
        if not running:
            return None
        oldest = min(running, key=lambda each: each.since)
        return oldest if self._clock.monotonic() - oldest.since > longer_than_s else None
