"""A target of few sectors and a store, in memory, that tell what is durable from what is not.

A sector is a byte, a block four of them; 0 are zeros. A failed flush drops volatile writes and the next one
succeeds, as Linux does. A crash keeps any subset of the volatile writes, and of the last one that it keeps
only some of the sectors.
"""

from collections.abc import Iterator
from functools import cache
from itertools import groupby

from p2vd.copying.ledger import Tally
from p2vd.copying.region import Region

SECTORS = 4
"""Of a block."""

MASK = (1 << 64) - 1
"""All of what `Device.lose` chooses from."""


class Device:
    """Sectors, durable and volatile. `kept`, `torn`: bits of what survives, used over and over."""

    def __init__(self, contents: bytes):
        self.durable = bytearray(contents)
        self.volatile: list[tuple[int, bytes]] = []

    def write(self, sector: int, contents: bytes) -> None:
        self.volatile.append((sector, contents))

    def flush(self) -> None:
        self.lose(MASK, MASK)

    def lose(self, kept: int, torn: int) -> None:
        """Keep those volatile writes, in part the last of them; forget the others."""
        surviving = [write for index, write in enumerate(self.volatile) if kept >> index % 64 & 1]
        self.volatile = []
        for index, (sector, contents) in enumerate(surviving, 1):
            if index < len(surviving):
                self.durable[sector : sector + len(contents)] = contents
                continue
            for at, value in enumerate(contents):
                if torn >> at % 64 & 1:
                    self.durable[sector + at] = value

    def read(self, block: int) -> bytes:
        """What a read of a block answers."""
        first, seen = block * SECTORS, self.durable[block * SECTORS : (block + 1) * SECTORS]
        for sector, contents in self.volatile:
            for at in range(max(first, sector), min(first + SECTORS, sector + len(contents))):
                seen[at - first] = contents[at - sector]
        return bytes(seen)


class Store:
    """What of a checkpoint is durable: each row with the pass that it is of, as in the real one."""

    def __init__(self) -> None:
        self.generation = 1
        self.tally = Tally()
        self._rows: dict[int, tuple[int, Region]] = {}

    def commit(self, rows: list[Region], tally: Tally) -> None:
        self._rows.update({row.number: (self.generation, row) for row in rows})
        self.tally = tally

    def begin_pass(self) -> None:
        self.generation += 1
        self.tally = Tally()

    def claims(self) -> Iterator[Region]:
        """The rows of this pass."""
        return (row for generation, row in self._rows.values() if generation == self.generation)

    def load(self) -> Iterator[Region]:
        """All rows, as this pass finds them."""
        for generation, row in self._rows.values():
            yield row.copy() if generation == self.generation else row.for_next_pass()


@cache
def parts(contents: bytes) -> tuple[tuple[bool, int, bytes], ...]:
    """The runs of a block's contents: whether they are data, where, and what."""
    at, found = 0, []
    for is_data, run in groupby(contents, bool):
        values = bytes(run)
        found.append((is_data, at, values))
        at += len(values)
    return tuple(found)
