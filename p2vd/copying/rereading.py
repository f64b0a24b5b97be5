"""Reads a whole volume again and compares it: MiB by MiB where a checkpoint has digests, else as a whole."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from p2vd.copying.checkpoint import Checkpoint
from p2vd.copying.controls import Controls, Interrupted
from p2vd.copying.devices import Buffer, Device
from p2vd.copying.digests import DigestKind
from p2vd.copying.layout import BLOCK, REGION_BLOCKS, WORK_BLOCKS, Layout, merge_ranges, split

_MERGE_BEYOND = 4096


@dataclass
class Rereading:
    """One reading of a volume, by several threads. `checkpoint` None: only the whole has a digest."""

    device: Device
    layout: Layout
    kind: DigestKind
    checkpoint: Checkpoint | None
    controls: Controls
    threads: int = 8
    bytes_read: int = 0
    _differing: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._own = threading.local()

    @property
    def differing(self) -> list[tuple[int, int]]:
        """Byte ranges that are not what was copied there, sorted."""
        with self._lock:
            return merge_ranges(self._differing)

    def run(self) -> str:
        """Read all; return the digest of the whole as a receipt has it. Raises ReadFailed, Interrupted."""
        total = self.kind.new()
        left = self.layout.source_blocks
        with ThreadPoolExecutor(self.threads, thread_name_prefix="verify") as pool:
            for number in range(self.layout.regions):
                digests = self._region(pool, number)
                mine = min(left, self.layout.blocks_of(number))
                if total is not None:
                    total.update(bytes(digests[: mine * self.kind.size]))
                left -= mine
        return f"{self.kind.value}:{total.digest().hex()}" if total is not None else ""

    def _region(self, pool: ThreadPoolExecutor, number: int) -> bytearray:
        blocks = self.layout.blocks_of(number)
        digests = bytearray(blocks * self.kind.size)
        known = self.checkpoint.load(number) if self.checkpoint is not None else None
        expected = bytes(known.digests) if known is not None else b""

        def work(piece: tuple[int, int]) -> None:
            for at in range(piece[0], piece[0] + piece[1]):
                self._block(number * REGION_BLOCKS + at, at, digests, expected)

        for _ in pool.map(work, _pieces(blocks)):
            pass  # what a thread raised is raised here
        return digests

    def _block(self, block: int, at: int, digests: bytearray, expected: bytes) -> None:
        if not self.controls.gate():
            raise Interrupted
        buffer, size = self._buffer(), self.kind.size
        length, of_source = self.layout.target_length(block), self.layout.source_length(block)
        self.controls.throttle(length)
        self.device.read(buffer, block * BLOCK, length)
        digest = self.kind.of(buffer.view[:of_source]) if of_source else self.kind.zero()
        place = slice(at * size, (at + 1) * size)
        digests[place] = digest
        equal = buffer.is_zero(of_source, length - of_source)
        equal = equal and (not expected or not of_source or expected[place] == digest)
        with self._lock:
            self.bytes_read += length
            if not equal:
                self._differing.append((block * BLOCK, length))
                if len(self._differing) > _MERGE_BEYOND:
                    self._differing[:] = merge_ranges(self._differing)

    def _buffer(self) -> Buffer:
        if not hasattr(self._own, "buffer"):
            self._own.buffer = Buffer()
        buffer: Buffer = self._own.buffer
        return buffer


def _pieces(blocks: int) -> Iterator[tuple[int, int]]:
    return split(0, blocks, WORK_BLOCKS)
