"""The copy itself: threads that read, digest and write; one that flushes and commits."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from p2vd.copying.checkpoint import Checkpoint
from p2vd.copying.controls import Controls, Interrupted
from p2vd.copying.devices import Buffer, Readable, Sink, padded
from p2vd.copying.digests import zero_digests
from p2vd.copying.errors import ReadFailed
from p2vd.copying.layout import BLOCK, SUB_BLOCK, Layout, data_runs, gaps
from p2vd.copying.ledger import Work, commit_cycle
from p2vd.copying.region import Region
from p2vd.copying.shared import SharedLedger
from p2vd.model.size import GIB
from p2vd.system.clock import Clock

_COMMIT_BYTES = GIB
_COMMIT_POLL_S = 0.25


@dataclass
class CopyPipeline:
    """Copies what the ledger hands out. `on_commit` is called after each durable commit."""

    layout: Layout
    source: Readable
    sink: Sink
    ledger: SharedLedger
    checkpoint: Checkpoint
    controls: Controls
    clock: Clock
    threads: int = 8
    commit_interval_s: float = 1.0
    on_commit: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self._commit_lock = threading.Lock()
        self._idle = threading.Event()
        self._untrusted = False

    def run(self) -> None:
        """Copy until all is committed, or until stopped: then what is done is committed.

        Raises the first failure. After a failed write, zero or flush nothing more is committed: what
        is lost with it is copied again by the next run.
        """
        threads = [
            threading.Thread(target=self._copy, name=f"copy-{number}") for number in range(self.threads)
        ]
        committer = threading.Thread(target=self._keep_committing, name="commit")
        for thread in (*threads, committer):
            thread.start()
        for thread in threads:
            thread.join()
        self._idle.set()
        committer.join()
        if not self._untrusted:
            self._cycle()
        if self.controls.failure is not None:
            raise self.controls.failure

    def _copy(self) -> None:
        buffer, scratch = Buffer(), Buffer()
        try:
            while self.controls.gate() and (work := self.ledger.claim()) is not None:
                self._do(work, buffer, scratch)
        except BaseException as error:  # whatever it is, the copy ends with it, not this thread alone
            self.controls.fail(error)

    def _do(self, work: Work, buffer: Buffer, scratch: Buffer) -> None:
        piece = _Piece(self, work, buffer, scratch)
        try:
            piece.run()
        except Interrupted:
            pass
        except ReadFailed:
            self.ledger.finish(work, piece.finished_digests(), piece.data_bytes, piece.done)
            raise
        except BaseException:
            self._untrusted = True
            self.ledger.lost(work)
            raise
        self.ledger.finish(work, piece.finished_digests(), piece.data_bytes, piece.done)

    def _keep_committing(self) -> None:
        latest = self.clock.monotonic()
        try:
            while not self.clock.sleep(_COMMIT_POLL_S, self._idle):
                due = self.clock.monotonic() - latest >= self.commit_interval_s
                if not self._untrusted and (due or self.ledger.now()[2] >= _COMMIT_BYTES):
                    latest = self.clock.monotonic()
                    self._cycle()
        except BaseException as error:  # whatever it is, the copy must not run on unprotected
            self._untrusted = True
            self.controls.fail(error)

    def _cycle(self) -> None:
        if commit_cycle(self.ledger, flush=self._flush, commit=self._commit, guard=self._commit_lock):
            self.on_commit()

    def _flush(self) -> None:
        self.sink.flush()
        self.sink.check()

    def _commit(self, rows: list[Region]) -> None:
        tally = self.ledger.next_tally
        self.checkpoint.commit(
            rows,
            data_bytes=tally.data_bytes,
            zero_bytes=tally.zero_bytes,
            window=self.ledger.next_window,
        )

    def intend(self, work: Work) -> None:
        """Note durably that a region is touched, before the first write into it."""
        if not self.ledger.needs_intent(work):
            return
        with self._commit_lock:
            if self.ledger.needs_intent(work):
                self.checkpoint.commit([self.ledger.intent(work.region)])
                self.ledger.intended(work.region)


class _Piece:
    """One work in the hands of one thread. `done` blocks of it are on their way to the target."""

    def __init__(self, pipeline: CopyPipeline, work: Work, buffer: Buffer, scratch: Buffer):
        self._pipeline = pipeline
        self._work = work
        self._buffer = buffer
        self._scratch = scratch
        self._skip = pipeline.sink.skips_zeros and not work.dirty
        self._seen = 0
        self._zeros = 0
        self.done = 0
        self.data_bytes = 0
        self.digests = bytearray()

    def finished_digests(self) -> bytes:
        """The digests of the blocks that are done."""
        return bytes(self.digests[: self.done * self._pipeline.checkpoint.kind.size])

    def run(self) -> None:
        """Copy the work's blocks; ends early, between blocks, when the copy is put down."""
        pipeline, work = self._pipeline, self._work
        if work.zero:
            self.digests += zero_digests(pipeline.checkpoint.kind, pipeline.layout, work.first, work.count)
            self._seen = self._zeros = work.count
        else:
            for block in range(work.first, work.first + work.count):
                if self._seen and pipeline.controls.held:
                    break
                self._copy(block)
        self._put_zeros()

    def _copy(self, block: int) -> None:
        pipeline, buffer = self._pipeline, self._buffer
        length, of_source = pipeline.layout.target_length(block), pipeline.layout.source_length(block)
        pipeline.controls.throttle(of_source)
        padded(buffer, pipeline.source, pipeline.layout, block)
        if buffer.is_zero(0, length):
            # Zero blocks that follow each other become one request.
            self._note(pipeline.checkpoint.kind.zero(of_source))
            self._zeros += 1
            return
        self._put_zeros()
        flags = [buffer.is_zero(at, min(SUB_BLOCK, length - at)) for at in range(0, length, SUB_BLOCK)]
        data = data_runs(flags, length, pipeline.sink.least_zero(self._skip))
        pipeline.intend(self._work)
        for start, count in data:
            pipeline.sink.write(buffer, start, block * BLOCK + start, count)
        if not self._skip:
            for start, count in gaps(data, length):
                pipeline.sink.zero(self._scratch, block * BLOCK + start, count)
        self._note(pipeline.checkpoint.kind.of(buffer.view[:of_source]))
        self.data_bytes += sum(
            max(0, min(start + count, of_source) - start)
            for start, count in data_runs(flags, length, SUB_BLOCK)
        )
        self.done = self._seen

    def _note(self, digest: bytes) -> None:
        self.digests += digest
        self._seen += 1

    def _put_zeros(self) -> None:
        if self._zeros and not self._skip:
            first = self._work.first + self._seen - self._zeros
            self._pipeline.intend(self._work)
            length = self._pipeline.layout.target_bytes_in(first, self._zeros)
            self._pipeline.sink.zero(self._scratch, first * BLOCK, length)
        self._zeros = 0
        self.done = self._seen
