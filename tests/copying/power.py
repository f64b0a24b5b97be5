"""Disks in memory behind the interfaces of source and target, and a power supply that fails.

The target's and the checkpoint's calls count the supply down, each before and after it has its effect. When
it fails, that call and every later one raise, and what the target had not flushed is gone in part.
"""

import random
import threading
from collections.abc import Callable, Iterable, Iterator

from p2vd.copying.checkpoint import Checkpoint
from p2vd.copying.devices import Buffer, Device
from p2vd.copying.errors import PoolFull, WriteFailed
from p2vd.copying.layout import BLOCK, SUB_BLOCK, Extent
from p2vd.copying.region import Region

GAPS = tuple(
    f"{when} {what}"
    for what in ("write", "zero", "flush", "intent", "commit")
    for when in ("before", "after")
)
_SECTOR = 512


class PowerCut(Exception):
    """The power is gone."""


class Supply:
    """Power until the gap named `gap` was met `times` times; an empty name: for ever."""

    def __init__(self, gap: str = "", times: int = 0):
        self.gap, self._left = gap, times
        self._lock = threading.Lock()
        self.failed = False

    def at(self, gap: str) -> None:
        """Raise PowerCut if the power is gone, or goes here."""
        with self._lock:
            if gap == self.gap:
                self._left -= 1
                self.failed = self.failed or self._left <= 0
            if self.failed:
                raise PowerCut


class Image(Device):
    """A source that is all in memory. `holes`: blocks that need no reading."""

    def __init__(self, contents: bytes, holes: frozenset[int]):
        self.name, self.size_bytes, self.align = "image", len(contents), _SECTOR
        self.contents = contents
        self._holes = holes

    def read(self, buffer: Buffer, offset: int, length: int, at: int = 0) -> None:
        buffer.view[at : at + length] = self.contents[offset : offset + length]

    def extents(self, start: int, length: int) -> Iterator[Extent]:
        for at in range(start, start + length, BLOCK):
            yield Extent(at, min(BLOCK, start + length - at), at // BLOCK in self._holes)


class Disk:
    """A target with a volatile cache. `thin`: what was never written reads as zero.

    `fails` is asked before each write, zero and flush whether that shall fail. One that fails for want of
    space has written part of its data; of another nobody knows what it left.
    """

    def __init__(self, size_bytes: int, thin: bool, chance: random.Random):
        self.durable = bytearray(bytes(1) if thin else b"\xa5") * size_bytes
        self._cached = bytearray(self.durable)
        self._volatile: list[tuple[int, bytes]] = []
        self._chance = chance
        self._lock = threading.Lock()
        self.skips_zeros = thin
        self.supply = Supply()
        self.fails: Callable[[str], type[WriteFailed | PoolFull] | None] = lambda what: None

    def least_zero(self, skipped: bool) -> int:
        return SUB_BLOCK if skipped else BLOCK

    def read(self, buffer: Buffer, offset: int, length: int, at: int = 0) -> None:
        with self._lock:
            buffer.view[at : at + length] = self._cached[offset : offset + length]

    def extents(self, start: int, length: int) -> Iterator[Extent]:
        yield Extent(start, length, zero=False)

    def write(self, buffer: Buffer, start: int, offset: int, length: int) -> None:
        self._put("write", offset, bytes(buffer.view[start : start + length]))

    def zero(self, scratch: Buffer, offset: int, length: int) -> None:
        del scratch
        self._put("zero", offset, bytes(length))

    def flush(self) -> None:
        self.supply.at("before flush")
        with self._lock:
            if (failing := self.fails("flush")) is not None:
                self._lose()
                self._cached[:] = self.durable
                raise failing("disk", 0, len(self.durable), "flush: injected")
            for offset, contents in self._volatile:
                self.durable[offset : offset + len(contents)] = contents
            self._volatile = []
        self.supply.at("after flush")

    def check(self) -> None:
        pass

    def lose_power(self) -> None:
        """Keep any of the volatile writes, the last of those in part."""
        with self._lock:
            self._lose(torn=True)
            self._cached[:] = self.durable

    def claims(self, row: Region, region_blocks: int) -> Iterator[tuple[int, bytes]]:
        """Each block that a row says is done, and what is durable of it."""
        with self._lock:
            for block in range(row.blocks):
                if row.done >> block & 1:
                    number = row.number * region_blocks + block
                    yield number, bytes(self.durable[number * BLOCK : (number + 1) * BLOCK])

    def _put(self, what: str, offset: int, contents: bytes) -> None:
        self.supply.at(f"before {what}")
        with self._lock:
            length, failing = len(contents), self.fails(what)
            if failing is PoolFull:
                contents = contents[: self._chance.randrange(0, length + 1, _SECTOR)]
            elif failing:  # within the block that it began in
                most = min(BLOCK - offset % BLOCK, len(self.durable) - offset)
                contents = b"\xee" * self._chance.randrange(0, most + 1, _SECTOR)
            self._volatile.append((offset, contents))
            self._cached[offset : offset + len(contents)] = contents
        if failing:
            raise failing("disk", offset, length, f"{what}: injected")
        self.supply.at(f"after {what}")

    def _lose(self, torn: bool = False) -> None:
        share = self._chance.choice((0.0, 0.5, 1.0))
        kept = [each for each in self._volatile if self._chance.random() < share]
        self._volatile = []
        for index, (offset, contents) in enumerate(kept, 1):
            if torn and index == len(kept):
                at = self._chance.randrange(0, len(contents) + 1, _SECTOR)
                contents = self._chance.choice(
                    (contents[:at], bytes(self.durable[offset:][:at]) + contents[at:])
                )
            self.durable[offset : offset + len(contents)] = contents


class PoweredCheckpoint(Checkpoint):
    """A real checkpoint that commits only while there is power. `on_commit` sees what is durable then."""

    supply = Supply()
    on_commit: Callable[[list[Region]], None] = staticmethod(lambda rows: None)

    def commit(self, rows: Iterable[Region] = (), **changes: object) -> None:
        rows = list(rows)
        what = "commit" if changes else "intent"
        self.supply.at(f"before {what}")
        super().commit(rows, **changes)
        self.on_commit(rows)
        self.supply.at(f"after {what}")
