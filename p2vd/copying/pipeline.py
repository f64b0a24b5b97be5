"""The copy itself: threads that read, digest and write; one that flushes and commits."""

import contextlib
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from p2vd.copying.checkpoint import Checkpoint
from p2vd.copying.controls import Controls, Interrupted
from p2vd.copying.devices import Buffer, Sink
from p2vd.copying.digests import zero_digests
from p2vd.copying.errors import PoolFull, ReadFailed, TooManyBadSectors
from p2vd.copying.layout import BLOCK, SUB_BLOCK, Layout, data_runs, gaps
from p2vd.copying.ledger import Batch, Work, commit_cycle
from p2vd.copying.rescue import Range, RescuedSource
from p2vd.copying.shared import SharedLedger
from p2vd.model.size import GIB
from p2vd.system.clock import Clock

_COMMIT_BYTES = GIB
_COMMIT_POLL_S = 0.25
_MOST_UNCOMMITTED = 16 * GIB
"""Zeros that are known are finished by thousands of GiB a second, and each GiB has 16 KiB of digests."""


@dataclass
class CopyPipeline:
    """Copies what the ledger hands out. `on_commit` is called after each durable commit.

    `outlast_full`: a write or flush that finds no space is waited with and tried again, for as long as it
    takes; else it ends the copy.
    """

    layout: Layout
    source: RescuedSource
    sink: Sink
    ledger: SharedLedger
    checkpoint: Checkpoint
    controls: Controls
    clock: Clock
    threads: int = 8
    commit_interval_s: float = 1.0
    on_commit: Callable[[], None] = lambda: None
    outlast_full: bool = False

    def __post_init__(self) -> None:
        self._commit_lock = threading.Lock()
        self._cycle_lock = threading.Lock()
        self._idle = threading.Event()
        self._untrusted = False
        self._unflushed = False

    def run(self) -> None:
        """Copy until all is committed, or until stopped: then what is done is committed.

        Raises the first failure. After a failed write, zero or flush that ends the copy nothing more is
        committed: what is lost with it is copied again by the next run.
        """
        # Where a flush found no space its blocks are queued again, perhaps after the last thread had ended.
        with contextlib.suppress(Interrupted):  # it was stopped, or has failed, while it waited for space
            while self._run() and not self.controls.ended.is_set():
                self._idle.clear()
        if self.controls.failure is not None:
            raise self.controls.failure

    def _run(self) -> bool:
        """Copy what is queued; return whether a flush has put anything back into the queue meanwhile."""
        self._unflushed = False
        threads = [
            threading.Thread(target=self._copy, name=f"copy-{number}") for number in range(self.threads)
        ]
        committer = threading.Thread(target=self._keep_committing, name="commit")
        try:
            for thread in (committer, *threads):
                thread.start()
        except RuntimeError as error:  # the host gives no more threads: those that run end
            self.controls.fail(error)
        for thread in threads:
            if thread.ident is not None:
                thread.join()
        self._idle.set()
        if committer.ident is not None:
            committer.join()
        self._commit_now()
        return self._unflushed

    def _copy(self) -> None:
        buffer, scratch = Buffer(), Buffer()
        try:
            while self.controls.gate() and (work := self.ledger.claim()) is not None:
                self._do(work, buffer, scratch)
                if self.ledger.now()[2] >= _MOST_UNCOMMITTED:
                    self._commit_now()
        except Interrupted:
            return
        except BaseException as error:  # whatever it is, the copy ends with it, not this thread alone
            self.controls.fail(error)

    def _do(self, work: Work, buffer: Buffer, scratch: Buffer) -> None:
        piece = _Piece(self, work, buffer, scratch)
        try:
            piece.run()
        except Interrupted:
            piece.finish()
        except ReadFailed as error:
            comes_back = not work.suspect and self.source.rescuable(error)
            piece.finish(untouched=True, suspect=comes_back)
            if not comes_back:
                raise
        except TooManyBadSectors:
            piece.finish(untouched=True)
            raise
        except PoolFull as error:
            self.ledger.lost(work)
            if not self.outlast_full:
                self._untrusted = True
                raise
            self.controls.wait_for_space(error)
        except BaseException:
            self._untrusted = True
            self.ledger.lost(work)
            raise
        else:
            piece.finish(untouched=True)

    def _keep_committing(self) -> None:
        latest = self.clock.monotonic()
        with contextlib.suppress(Interrupted):
            while not self.clock.sleep(_COMMIT_POLL_S, self._idle):
                due = self.clock.monotonic() - latest >= self.commit_interval_s
                if due or self.ledger.now()[2] >= _COMMIT_BYTES:
                    latest = self.clock.monotonic()
                    self._commit_now()

    def _commit_now(self) -> None:
        with self._cycle_lock:
            try:
                if not self._untrusted:
                    self._cycle()
            except PoolFull as error:
                if self.outlast_full:
                    self._unflushed = True
                    self.controls.wait_for_space(error)
                else:
                    self._untrusted = True
                    self.controls.fail(error)
            except BaseException as error:  # whatever it is, the copy must not run on unprotected
                self._untrusted = True
                self.controls.fail(error)

    def _cycle(self) -> None:
        if commit_cycle(self.ledger, flush=self._flush, commit=self._commit, guard=self._commit_lock):
            self.on_commit()

    def _flush(self) -> None:
        self.sink.flush()
        self.sink.check()

    def _commit(self, batch: Batch) -> None:
        self.checkpoint.commit(batch.rows, **batch.claims())

    @property
    def later_pass(self) -> bool:
        """Whether an earlier pass left digests of what is on the target."""
        return self.ledger.later_pass

    def holds(self, buffer: Buffer, block: int, digest: bytes) -> bool:
        """Whether the target's block has that digest, zeros beyond the source."""
        length, of_source = self.layout.target_length(block), self.layout.source_length(block)
        self.sink.read(buffer, block * BLOCK, length)
        found = self.checkpoint.kind.of(buffer.view[:of_source]) if of_source else self.checkpoint.kind.zero()
        return found == digest and buffer.is_zero(of_source, length - of_source)

    def intend(self, work: Work) -> None:
        """Note durably that a region is touched, before the first write into it."""
        if not self.ledger.needs_intent(work):
            return
        with self._commit_lock:
            if self.ledger.needs_intent(work):
                self.checkpoint.commit([self.ledger.intent(work.region)])
                self.ledger.intended(work.region)


class _Piece:
    """One work in the hands of one thread. The first `done` blocks of it are on the target."""

    def __init__(self, pipeline: CopyPipeline, work: Work, buffer: Buffer, scratch: Buffer):
        self._pipeline = pipeline
        self._work = work
        self._buffer = buffer
        self._scratch = scratch
        self._skip = pipeline.sink.skips_zeros and not work.dirty
        self._seen = 0
        self._zeros = 0
        self._done = 0
        self._data_bytes = 0
        self._same_bytes = 0
        self._bad: list[Range] = []
        self._digests = bytearray()

    def finish(self, *, untouched: bool = False, suspect: bool = False) -> None:
        """Tell the ledger which blocks are done, and how those after them stand, as `Ledger.finish`."""
        digests = bytes(self._digests[: self._done * self._pipeline.checkpoint.kind.size])
        self._pipeline.ledger.finish(
            self._work,
            digests,
            self._data_bytes,
            self._done,
            same_bytes=self._same_bytes,
            bad=self._bad,
            untouched=untouched,
            suspect=suspect,
        )

    def run(self) -> None:
        """Copy the work's blocks; ends early, between blocks, when the copy is put down or a commit is due.

        What a crash takes back is bounded by time (design: §4.5), however slow the disk is.
        """
        pipeline, work = self._pipeline, self._work
        due = pipeline.clock.monotonic() + pipeline.commit_interval_s
        try:
            if work.zero:
                self._take_zeros()
            else:
                for block in range(work.first, work.first + work.count):
                    if self._seen and (pipeline.controls.held or pipeline.clock.monotonic() >= due):
                        break
                    self._copy(block)
        finally:  # what comes before a block that cannot be read is done
            self._put_zeros()

    def _take_zeros(self) -> None:
        """Take all blocks of the work, which are known to be zero, without reading them."""
        pipeline, work = self._pipeline, self._work
        digests = zero_digests(pipeline.checkpoint.kind, pipeline.layout, work.first, work.count)
        if not pipeline.later_pass:
            self._digests += digests
            self._seen = self._zeros = work.count
            return
        size = pipeline.checkpoint.kind.size
        for at in range(work.count):
            digest = digests[at * size : (at + 1) * size]
            if self._is_same(work.first + at, digest):
                self._keep(work.first + at, digest)
            else:
                self._note(digest)
                self._zeros += 1

    def _copy(self, block: int) -> None:
        pipeline, buffer = self._pipeline, self._buffer
        length, of_source = pipeline.layout.target_length(block), pipeline.layout.source_length(block)
        pipeline.controls.throttle(of_source)
        bad = self._read(block, of_source, length)
        is_zero = buffer.is_zero(0, length)
        kind = pipeline.checkpoint.kind
        digest = kind.zero(of_source) if is_zero else kind.of(buffer.view[:of_source])
        if self._is_same(block, digest):
            self._keep(block, digest, bad)
            return
        if is_zero and not bad:
            # Zero blocks that follow each other become one request.
            self._note(digest)
            self._zeros += 1
            return
        self._put_zeros()
        flags = buffer.zero_parts(length)
        data = data_runs(flags, length, pipeline.sink.least_zero(self._skip))
        pipeline.intend(self._work)
        for start, count in data:
            pipeline.sink.write(buffer, start, block * BLOCK + start, count)
        if not self._skip:
            for start, count in gaps(data, length):
                pipeline.sink.zero(self._scratch, block * BLOCK + start, count)
        self._note(digest, bad)
        holding = [
            (start, min(start + count, of_source) - start)
            for start, count in data_runs(flags, length, SUB_BLOCK)
            if start < of_source
        ]
        self._data_bytes += _length(holding) - _overlap(holding, bad, block * BLOCK)
        self._done = self._seen

    def _read(self, block: int, of_source: int, length: int) -> list[Range]:
        """Fill the buffer with a block as it shall be on the target; return what is unreadable of it."""
        source, buffer, bad = self._pipeline.source, self._buffer, []
        if of_source and self._work.suspect:
            bad = source.rescue(buffer, block * BLOCK, of_source)
        elif of_source:
            source.read(buffer, block * BLOCK, of_source)
            bad = source.bad_in(block * BLOCK, of_source)
        buffer.clear(of_source, length)
        return bad

    def _is_same(self, block: int, digest: bytes) -> bool:
        """Whether the target holds the block already, from an earlier pass."""
        old = self._pipeline.ledger.old_digest(block) if self._pipeline.later_pass else None
        if old is None or old[0] != digest:
            return False
        return old[1] or self._pipeline.holds(self._scratch, block, digest)

    def _keep(self, block: int, digest: bytes, bad: Iterable[Range] = ()) -> None:
        """Take a block as done that the target holds already."""
        self._put_zeros()
        self._note(digest, bad)
        of_source = self._pipeline.layout.source_length(block)
        self._same_bytes += of_source - _length(bad)
        self._done = self._seen

    def _note(self, digest: bytes, bad: Iterable[Range] = ()) -> None:
        self._digests += digest
        self._bad += bad
        self._seen += 1

    def _put_zeros(self) -> None:
        if self._zeros and not self._skip:
            first = self._work.first + self._seen - self._zeros
            self._pipeline.intend(self._work)
            length = self._pipeline.layout.target_bytes_in(first, self._zeros)
            self._pipeline.sink.zero(self._scratch, first * BLOCK, length)
        self._zeros = 0
        self._done = self._seen


def _length(ranges: Iterable[Range]) -> int:
    return sum(length for _, length in ranges)


def _overlap(ranges: Iterable[Range], others: Iterable[Range], base: int) -> int:
    """Bytes that `ranges`, relative to `base`, have in common with `others`."""
    return sum(
        max(0, min(base + start + length, other + more) - max(base + start, other))
        for start, length in ranges
        for other, more in others
    )
