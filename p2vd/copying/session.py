"""One run of a copy, from the checks at its start to its report."""

import logging
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from p2vd.copying.checkpoint import Checkpoint
from p2vd.copying.comparing import Comparer, Piece
from p2vd.copying.controls import Controls, Interrupted
from p2vd.copying.devices import Buffer, Source, TargetSink
from p2vd.copying.digests import DigestKind
from p2vd.copying.errors import CopyError, ExitCode, PoolFull, SourceChanged
from p2vd.copying.layout import BLOCK, REGION_BLOCKS, runs
from p2vd.copying.ledger import Tally
from p2vd.copying.ordered_pipeline import OrderedPipeline
from p2vd.copying.packed_target import PackedTarget
from p2vd.copying.pipeline import CopyPipeline
from p2vd.copying.region import Region
from p2vd.copying.rescue import RescuedSource
from p2vd.copying.shared import SharedLedger
from p2vd.copying.streams import StreamSource
from p2vd.copying.terms import Failure, Report
from p2vd.model.copying import Progress, Verify
from p2vd.system.clock import Clock

log = logging.getLogger(__name__)

_PROVEN_AT_RESUME = 64
_SAMPLED_AT_END = 1024
_RATE_WINDOW_S = 10.0
_STRENGTH = {"": 0, Verify.NONE.value: 1, Verify.READ_BACK.value: 2, Verify.BOTH.value: 3}


@dataclass
class Session:
    """Copies `source` to `target` along an open checkpoint that belongs to them.

    `sample_source`: parts of the source are read again at the end even if nothing else is verified.
    `bad_sectors`: how many of the source may be unreadable. `outlast_full`: wait while the target has no
    space, instead of ending. `read_back_anew`: a result of the checkpoint is not taken for one.
    `on_phase` and `on_commit` are called on the session's threads. Its `run` may be called on any
    thread, once; `progress` on any other meanwhile.
    """

    checkpoint: Checkpoint
    source: Source
    target: TargetSink | PackedTarget
    controls: Controls
    clock: Clock
    verify: Verify = Verify.READ_BACK
    threads: int = 8
    commit_interval_s: float = 1.0
    sample_source: bool = True
    bad_sectors: int = 0
    outlast_full: bool = False
    read_back_anew: bool = False
    on_phase: Callable[[str], None] = lambda phase: None
    on_commit: Callable[[], None] = lambda: None
    chance: random.Random = field(default_factory=random.Random)

    def __post_init__(self) -> None:
        header = self.checkpoint.header
        self._layout = self.checkpoint.layout
        bad_bytes = sum(length for _, length in header.bad)
        tally = Tally(header.data_bytes, header.zero_bytes, header.same_bytes, bad_bytes)
        self._later_pass = header.binding.generation > 1
        self._source = RescuedSource(self.source, self.controls, self.bad_sectors, header.bad)
        self._ledger = SharedLedger(
            self._layout,
            self.checkpoint.kind,
            self.source.extents,
            complete=self.checkpoint.complete,
            begun=self.checkpoint.begun,
            tally=tally,
            bad=header.bad,
            stale=self._stale_region if self._later_pass else None,
            work_blocks=1 if self._in_order else 0,
        )
        self._resumed_from = tally.total_bytes
        self._verified_bytes = 0
        self._comparer: Comparer | None = None
        self._latest_commit_us = 0
        self._started = self.clock.monotonic()
        self._rates: list[tuple[float, int]] = []
        self._rate_lock = threading.Lock()

    def run(self) -> Report:
        """Copy and prove. Every end, good or bad, is a report."""
        try:
            report = self._run()
        except Interrupted:
            return self._report(ExitCode.STOPPED)
        except CopyError as error:
            log.error("%s", error)  # noqa: TRY400 - a refusal or a sick disk, no defect of ours
            failure = Failure(
                error.name, str(error), getattr(error, "offset", -1), getattr(error, "length", 0)
            )
            return self._report(error.exit_code, failure)
        except Exception as error:
            log.exception("a defect of p2vd ended the copy; its checkpoint is as it was")
            return self._report(ExitCode.IO_FAILED, Failure("Defect", f"{type(error).__name__}: {error}"))
        return report

    def progress(self) -> Progress:
        """The counters of this moment."""
        committed, finished, _ = self._ledger.now()
        verified = self._verified_bytes + (self._comparer.done_bytes if self._comparer else 0)
        return Progress(
            bytes_copied=finished.data_bytes,
            bytes_zero=finished.zero_bytes,
            bytes_same=finished.same_bytes,
            bad_bytes=finished.bad_bytes,
            bytes_verified=verified,
            committed_bytes=committed.total_bytes,
            allocated_bytes=self.controls.allocated_bytes,
            rate_bytes_per_s=self._rate(finished.total_bytes + verified),
            last_checkpoint_us=self._latest_commit_us,
            resumed_from_bytes=self._resumed_from,
            read_latency_us=self.controls.read_latency_us,
            slowed_bytes_per_s=self.controls.slowed_bytes_per_s,
        )

    def _run(self) -> Report:
        self.on_phase("checking")
        self.target.check()
        if isinstance(self.target, PackedTarget) and self.checkpoint.header.result is not None:
            self.target.prove_end()
        self._check_edges()
        if self._resumed_from:
            self._prove_committed()
        stored = self.checkpoint.header
        as_strong = _STRENGTH[stored.verified] >= _STRENGTH[self.verify.value]
        if stored.result is not None and as_strong and not self.read_back_anew:
            return replace(stored.result, seconds=self.clock.monotonic() - self._started)
        if self._later_pass and not stored.target_proven:
            self.on_phase("proving")
            self._compare(self._stale_pieces(), None, self.target, counted=True)
            self._verified_bytes = 0
            self.checkpoint.commit(target_proven=True)
        if not self._ledger.done:
            self.on_phase("copying")
            self._copy()
        if isinstance(self.target, PackedTarget) and stored.result is None:
            self._finish_target(self.target)
        self.on_phase("verifying")
        stable = self._verify()
        self.target.check()
        bad = self.checkpoint.header.bad
        report = replace(
            self._report(ExitCode.BAD_SECTORS if bad else ExitCode.DONE),
            digest=self.checkpoint.whole_digest(),
            source_stable=stable,
            bad_ranges=bad,
        )
        self.checkpoint.commit(result=report, verified=self.verify.value)
        return report

    def _check_edges(self) -> None:
        """The source's first and last MiB must be what they were when the copy began."""
        edges = tuple(self._source_digest(block).hex() for block in self._edge_blocks())
        known = self.checkpoint.header.edges
        now = (edges[0], edges[-1]) if edges else ("", "")
        if known == ("", ""):
            self.checkpoint.commit(edges=now)
            return
        for which, before, found in zip(("first", "last"), known, now, strict=True):
            if before != found:
                offset = 0 if which == "first" else (self._layout.source_blocks - 1) * BLOCK
                where = f"its {which} MiB is not what it was when the copy began"
                raise SourceChanged(where, offset, BLOCK)

    def _edge_blocks(self) -> tuple[int, ...]:
        return (0, self._layout.source_blocks - 1) if self._layout.source_blocks else ()

    def _source_digest(self, block: int) -> bytes:
        buffer = Buffer()
        length = self._layout.source_length(block)
        self._source.rescue(buffer, block * BLOCK, length)
        return DigestKind.XXH3.of(buffer.view[:length])

    def _prove_committed(self) -> None:
        """The last committed window and random committed blocks, of both disks (design: §3)."""
        window = {
            block for first, count in self.checkpoint.header.window for block in range(first, first + count)
        }
        chosen = sorted(window | set(self._random_committed(_PROVEN_AT_RESUME)))
        self._compare(_pieces(chosen), self._source, self.target, tolerant=True)

    def _stale_region(self, number: int) -> Region | None:
        return self.checkpoint.load(number) if number in self.checkpoint.stale else None

    def _stale_pieces(self) -> Iterator[Piece]:
        """What an earlier pass wrote whole. Where it was interrupted, each block is looked at in its turn."""
        for number in sorted(self.checkpoint.stale):
            region = self._stale_region(number)
            if region is not None and not region.touched:
                for first, count in runs(region.stale):
                    yield Piece(number * REGION_BLOCKS + first, count)

    def _random_committed(self, wanted: int) -> Iterator[int]:
        complete, layout = sorted(self.checkpoint.complete), self._layout
        begun = [
            number * REGION_BLOCKS + block
            for number, region in self.checkpoint.begun.items()
            for first, count in runs(region.done)
            for block in range(first, first + count)
        ]
        total = sum(layout.blocks_of(number) for number in complete)
        for index in self.chance.sample(range(total + len(begun)), min(wanted, total + len(begun))):
            if index >= total:
                yield begun[index - total]
            else:  # only the last region is short, and it sorts last
                number, block = divmod(index, REGION_BLOCKS)
                yield complete[number] * REGION_BLOCKS + block

    @property
    def _in_order(self) -> bool:
        """Whether blocks are handed out one by one: who reads or writes in their order waits for each."""
        return isinstance(self.source, StreamSource) or isinstance(self.target, PackedTarget)

    def _copy(self) -> None:
        # A stream keeps a window for so many that are not quite in its order.
        threads = min(self.threads, 8) if isinstance(self.source, StreamSource) else self.threads
        books = (self._ledger, self.checkpoint, self.controls, self.clock, threads)
        how = (self.commit_interval_s, self._committed, self.outlast_full)
        if isinstance(self.target, PackedTarget):
            OrderedPipeline(self._layout, self._source, self.target, *books, *how).run()
        else:
            CopyPipeline(self._layout, self._source, self.target, *books, *how).run()
        if not self._ledger.done:
            raise Interrupted

    def _finish_target(self, target: PackedTarget) -> None:
        """Write what stands behind the last frame: again after a crash, for it is not in the checkpoint."""
        while True:
            try:
                return target.finish()
            except PoolFull as error:
                if not self.outlast_full:
                    raise
                self.controls.wait_for_space(error)

    def _committed(self) -> None:
        self._latest_commit_us = self.clock.now_us()
        self.on_commit()

    def _verify(self) -> str:
        """Read back as asked; return what that says of the source: `proven` or `sampled`."""
        both = self.verify is Verify.BOTH
        if self.verify is not Verify.NONE:
            if isinstance(self.target, PackedTarget):
                self.target.prove_end()
            self._compare(None, self._source if both else None, self.target, counted=True)
        if both:
            return "proven"
        if self.verify is Verify.NONE and not self.sample_source:
            return ""
        blocks = self._layout.source_blocks
        sample = set(self.chance.sample(range(blocks), min(_SAMPLED_AT_END, blocks)))
        chosen = sorted(sample | set(self._edge_blocks()))
        if self.checkpoint.kind is not DigestKind.NONE:
            self._compare(_pieces(chosen), self._source, None, tolerant=True)
            return "proven" if len(chosen) == blocks else "sampled"
        return "sampled"

    def _compare(
        self,
        pieces: Iterable[Piece] | None,
        source: RescuedSource | None,
        target: Source | None,
        *,
        counted: bool = False,
        tolerant: bool = False,
    ) -> None:
        """Compare `pieces`, None: everything. `counted`: progress shows it as verified."""
        threads = 1 if source is not None and isinstance(self.source, StreamSource) else self.threads
        comparer = Comparer(self.checkpoint, self.controls, source, target, threads, tolerant)
        if counted:
            self._comparer = comparer
        comparer.run(comparer.whole() if pieces is None else pieces)
        if counted:
            self._verified_bytes, self._comparer = comparer.done_bytes, None

    def _report(self, code: ExitCode, failure: Failure | None = None) -> Report:
        return Report(
            exit_code=int(code),
            progress=self.progress(),
            seconds=round(self.clock.monotonic() - self._started, 3),
            failure=failure,
        )

    def _rate(self, total: int) -> int:
        """Bytes a second over the last seconds."""
        now = self.clock.monotonic()
        with self._rate_lock:
            self._rates = [each for each in self._rates if now - each[0] <= _RATE_WINDOW_S][-40:]
            self._rates.append((now, total))
            then, before = self._rates[0]
        return round((total - before) / (now - then)) if now > then else 0


def _pieces(blocks: Iterable[int]) -> Iterator[Piece]:
    """Blocks, sorted, as pieces: neighbours together, none across a region."""
    mask_of: dict[int, int] = {}
    for block in blocks:
        mask_of[block // REGION_BLOCKS] = mask_of.get(block // REGION_BLOCKS, 0) | 1 << block % REGION_BLOCKS
    for number, mask in mask_of.items():
        for first, count in runs(mask):
            yield Piece(number * REGION_BLOCKS + first, count)
