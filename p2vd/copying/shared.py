"""The ledger, for many threads."""

import threading
from collections.abc import Callable, Iterable, Mapping

from p2vd.copying.digests import DigestKind
from p2vd.copying.layout import Extent, Layout
from p2vd.copying.ledger import Batch, Ledger, Tally, Work
from p2vd.copying.region import Region


class SharedLedger(Ledger):
    """The ledger behind a lock: each method is one step for all threads."""

    def __init__(
        self,
        layout: Layout,
        kind: DigestKind,
        extents: Callable[[int, int], Iterable[Extent]],
        *,
        complete: Iterable[int] = (),
        begun: Mapping[int, Region] | None = None,
        tally: Tally | None = None,
        bad: Iterable[tuple[int, int]] = (),
        stale: Callable[[int], Region | None] | None = None,
        work_blocks: int = 0,
    ):
        super().__init__(
            layout,
            kind,
            extents,
            complete=complete,
            begun=begun,
            tally=tally,
            bad=bad,
            stale=stale,
            work_blocks=work_blocks,
        )
        self._lock = threading.RLock()
        self._asking = threading.Lock()

    def claim(self) -> Work | None:
        """Hand out the next work. While the source is asked for its holes only what needs them waits."""
        with self._lock:
            if self.unplanned() is None:
                return super().claim()
        with self._asking:
            while True:
                with self._lock:
                    number = self.unplanned()
                    if number is None:
                        return super().claim()
                zero = self.survey(number)
                with self._lock:
                    self.plan(number, zero)

    def finish(
        self,
        work: Work,
        digests: bytes,
        data_bytes: int,
        upto: int | None = None,
        *,
        same_bytes: int = 0,
        bad: Iterable[tuple[int, int]] = (),
        untouched: bool = False,
        suspect: bool = False,
        sizes: bytes = b"",
    ) -> None:
        """Note `work` as written, or a part of it."""
        more = {"untouched": untouched, "suspect": suspect}
        with self._lock:
            super().finish(
                work, digests, data_bytes, upto, same_bytes=same_bytes, bad=bad, sizes=sizes, **more
            )

    def old_digest(self, block: int) -> tuple[bytes, bool] | None:
        """The digest an earlier pass left of a block."""
        with self._lock:
            return super().old_digest(block)

    def lost(self, work: Work | None = None) -> None:
        """Queue again all that is not committed."""
        with self._lock:
            super().lost(work)

    def sort(self) -> None:
        """Hand out what is queued in the order of the disk."""
        with self._lock:
            super().sort()

    def needs_intent(self, work: Work) -> bool:
        """Whether a durable note is missing before `work` may write."""
        with self._lock:
            return super().needs_intent(work)

    def intent(self, number: int) -> Region:
        """The row that says a region is touched."""
        with self._lock:
            return super().intent(number)

    def intended(self, number: int) -> None:
        """The row of `intent` is durable."""
        with self._lock:
            super().intended(number)

    def freeze(self) -> bool:
        """Take what is finished as the next batch."""
        with self._lock:
            return super().freeze()

    def batch(self) -> Batch | None:
        """What is to be committed."""
        with self._lock:
            return super().batch()

    def commit(self, batch: Batch) -> None:
        """The batch is durable."""
        with self._lock:
            super().commit(batch)

    def now(self) -> tuple[Tally, Tally, int]:
        """Bytes committed, bytes finished in all, bytes of the target that are not committed."""
        with self._lock:
            return self.committed, self.tally, self.uncommitted_bytes
