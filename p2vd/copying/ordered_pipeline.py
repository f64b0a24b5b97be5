"""The copy to a target written in the order of the disk: read and packed by several threads, written by one.

The checkpoint's rules are those of `pipeline` (design: §4.5): frames are written, the file is flushed, and
only then is committed which blocks are there and how long the file is. What stands behind that length is
cut off before anything is written: at a resume, and after a write or flush that found no space. Thus no
block needs a note of intent, and none is ever assumed to be zero.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from p2vd.copying.checkpoint import Checkpoint
from p2vd.copying.controls import Controls, Interrupted
from p2vd.copying.devices import Buffer
from p2vd.copying.digests import zero_digests
from p2vd.copying.errors import PoolFull, ReadFailed
from p2vd.copying.layout import BLOCK, SUB_BLOCK, Layout
from p2vd.copying.ledger import Batch, Work, commit_cycle
from p2vd.copying.packed_target import PackedTarget
from p2vd.copying.packing import pack_sizes
from p2vd.copying.rescue import Range, RescuedSource
from p2vd.copying.shared import SharedLedger
from p2vd.model.size import GIB
from p2vd.system.clock import Clock

_POLL_S = 0.25
_MOST_UNCOMMITTED = 16 * GIB
_AHEAD = 4
"""Works, beyond one for each thread, that are read before their turn to be written has come."""


@dataclass(frozen=True)
class Packed:
    """A work as it will stand in the file, and what the ledger is told of it."""

    frames: bytes
    sizes: bytes
    digests: bytes
    data_bytes: int
    bad: tuple[Range, ...] = ()


class Line:
    """Works between those who pack them and the one who writes them: handed in anyhow, taken in order."""

    def __init__(self, claim: Callable[[], Work | None], most: int):
        self._claim, self._most = claim, most
        self._changed = threading.Condition()
        self._claiming = threading.Lock()
        self._under_way: dict[int, Work] = {}
        self._packed: dict[int, Packed] = {}
        self._claimed = self._taken = self._packers = 0
        self._closed = False

    def join(self) -> None:
        """Another packer, who will `leave`."""
        with self._changed:
            self._packers += 1

    def leave(self) -> None:
        """A packer is gone: because nothing is left, or because the copy ends."""
        with self._changed:
            self._packers -= 1
            self._closed = True
            self._changed.notify_all()

    def close(self) -> None:
        """Hand out nothing more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def claim(self) -> tuple[int, Work] | None:
        """Hand out the next work and its place, once it is near enough to its turn; None: no more."""
        with self._claiming:
            with self._changed:
                while not self._closed and self._claimed - self._taken >= self._most:
                    self._changed.wait()
                if self._closed:
                    return None
            # The source may be asked for its holes: what is packed is written meanwhile.
            work = self._claim()
            if work is None:
                return None
            with self._changed:
                self._claimed += 1
                self._under_way[self._claimed] = work
                return self._claimed, work

    def hand_in(self, place: int, packed: Packed) -> None:
        """The work of that place is packed."""
        with self._changed:
            self._packed[place] = packed
            self._changed.notify_all()

    def take(self) -> Iterator[tuple[Work, Packed] | None]:
        """Yield the works in their order; None: none has come for a while. Ends when no more can come."""
        while True:
            with self._changed:
                place = self._taken + 1
                if place not in self._packed and self._packers:
                    self._changed.wait(_POLL_S)
                packed = self._packed.pop(place, None)
                work = self._under_way.get(place)
                if packed is None and not self._packers:
                    return
            yield None if packed is None or work is None else (work, packed)

    def written(self) -> None:
        """The work that was taken last is in the ledger's books."""
        with self._changed:
            self._taken += 1
            del self._under_way[self._taken]
            self._changed.notify_all()

    def left(self) -> list[Work]:
        """What was handed out and not written."""
        with self._changed:
            return list(self._under_way.values())


@dataclass
class OrderedPipeline:
    """Copies what the ledger hands out, whose works must come in the order of the disk.

    `on_commit` is called after each durable commit. `outlast_full`: a write that finds no space is waited
    with and tried again, for as long as it takes; else it ends the copy.
    """

    layout: Layout
    source: RescuedSource
    sink: PackedTarget
    ledger: SharedLedger
    checkpoint: Checkpoint
    controls: Controls
    clock: Clock
    threads: int = 8
    commit_interval_s: float = 1.0
    on_commit: Callable[[], None] = lambda: None
    outlast_full: bool = False

    def run(self) -> None:
        """Copy until all is committed, or until stopped: then what is done is committed.

        Raises the first failure. After a write or flush that ends the copy nothing more is committed.
        """
        while True:
            line = Line(self.ledger.claim, self.threads + _AHEAD)
            try:
                self.sink.cut_back()
                self._run(line)
            except PoolFull as error:
                if not self.outlast_full:
                    raise
                self._take_back(line)
                try:
                    self.controls.wait_for_space(error)
                except Interrupted:  # it was stopped, or has failed
                    break
            else:
                break
        if self.controls.failure is not None:
            raise self.controls.failure

    def _run(self, line: Line) -> None:
        threads = [
            threading.Thread(target=self._pack, args=(line,), name=f"pack-{number}")
            for number in range(self.threads)
        ]
        try:
            for thread in threads:
                line.join()
                thread.start()
            self._write(line)
        except PoolFull as error:
            if not self.outlast_full:
                self.controls.fail(error)
            raise
        except BaseException as error:
            self.controls.fail(error)
            raise
        finally:
            line.close()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()

    def _take_back(self, line: Line) -> None:
        """All that is not committed is to do again, from the first block of it on."""
        self.ledger.lost()
        for work in line.left():
            self.ledger.finish(work, b"", 0, 0)
        self.ledger.sort()

    # The one thread that writes.

    def _write(self, line: Line) -> None:
        latest = self.clock.monotonic()
        for item in line.take():
            if item is not None:
                work, packed = item
                self.sink.append(packed.frames)
                self.ledger.finish(
                    work, packed.digests, packed.data_bytes, bad=packed.bad, sizes=packed.sizes
                )
                line.written()
            due = self.clock.monotonic() - latest >= self.commit_interval_s
            if due or self.ledger.now()[2] >= _MOST_UNCOMMITTED:
                latest = self.clock.monotonic()
                self._cycle()
        self._cycle()

    def _cycle(self) -> None:
        guard = contextlib.nullcontext()
        if commit_cycle(self.ledger, flush=self._flush, commit=self._commit, guard=guard):
            self.on_commit()

    def _flush(self) -> None:
        self.sink.flush()
        self.sink.check()

    def _commit(self, batch: Batch) -> None:
        # Whatever was appended is in the batch: nobody else appends or finishes works.
        self.checkpoint.commit(batch.rows, **batch.claims(), packed_bytes=self.sink.appended)

    # The threads that read and pack.

    def _pack(self, line: Line) -> None:
        buffer = Buffer()
        try:
            while self.controls.gate() and (claimed := line.claim()) is not None:
                place, work = claimed
                packed = self._zeros(work) if work.zero else self._blocks(work, buffer)
                line.hand_in(place, packed)
        except Interrupted:
            return
        except BaseException as error:  # whatever it is, the copy ends with it, not this thread alone
            self.controls.fail(error)
        finally:
            line.leave()

    def _zeros(self, work: Work) -> Packed:
        """Blocks that are known to be zero, without reading them."""
        zero, blocks = self.sink.packing.zero_frame, range(work.first, work.first + work.count)
        whole = sum(self.layout.target_length(block) == BLOCK for block in blocks)
        frames, sizes = zero * whole, [len(zero)] * whole
        if whole < work.count:
            short = self.sink.packing.pack(memoryview(bytes(self.layout.target_length(blocks[-1]))))
            frames, sizes = frames + short, [*sizes, len(short)]
        digests = zero_digests(self.checkpoint.kind, self.layout, work.first, work.count)
        return Packed(frames, pack_sizes(sizes), digests, 0)

    def _blocks(self, work: Work, buffer: Buffer) -> Packed:
        done = [self._block(block, buffer) for block in range(work.first, work.first + work.count)]
        return Packed(
            b"".join(each.frames for each in done),
            b"".join(each.sizes for each in done),
            b"".join(each.digests for each in done),
            sum(each.data_bytes for each in done),
            tuple(bad for each in done for bad in each.bad),
        )

    def _block(self, block: int, buffer: Buffer) -> Packed:
        length, of_source = self.layout.target_length(block), self.layout.source_length(block)
        self.controls.pace(of_source)
        bad = self._read(buffer, block, of_source) if of_source else []
        buffer.clear(of_source, length)
        kind, zero = self.checkpoint.kind, buffer.is_zero(0, length)
        whole_zero = zero and length == BLOCK
        frame = self.sink.packing.zero_frame if whole_zero else self.sink.packing.pack(buffer.view[:length])
        digest = kind.zero(of_source) if zero else kind.of(buffer.view[:of_source])
        data = 0 if zero else _data_bytes(buffer, of_source, block * BLOCK, bad)
        return Packed(frame, pack_sizes([len(frame)]), digest, data, tuple(bad))

    def _read(self, buffer: Buffer, block: int, length: int) -> list[Range]:
        """Fill the buffer; return what cannot be read. It is not come back to: the order is the disk's."""
        try:
            self.source.read(buffer, block * BLOCK, length)
        except ReadFailed as error:
            if not self.source.rescuable(error):
                raise
            return self.source.rescue(buffer, block * BLOCK, length)
        return self.source.bad_in(block * BLOCK, length)


def _data_bytes(buffer: Buffer, length: int, base: int, bad: list[Range]) -> int:
    """Bytes of the source in parts that are not zero, less those of them that cannot be read."""
    total = 0
    for number, is_zero in enumerate(buffer.zero_parts(length)):
        if not is_zero:
            start, end = number * SUB_BLOCK, min(length, (number + 1) * SUB_BLOCK)
            lost = sum(max(0, min(base + end, at + count) - max(base + start, at)) for at, count in bad)
            total += end - start - lost
    return total
