"""A region: which of its blocks are done, and their digests. One row of the checkpoint. Pure."""

from dataclasses import dataclass, field
from typing import Self

from p2vd.copying.digests import DigestKind
from p2vd.copying.layout import REGION_BLOCKS, bits


@dataclass
class Region:
    """1 GiB of a disk as it stands in the checkpoint, or is about to.

    `touched`: bytes may have been written here. It is durable before the first write, so that a
    crash leaves no region that looks untouched and is not.
    """

    number: int
    blocks: int
    kind: DigestKind
    touched: bool = False
    done: int = 0
    digests: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        if not self.digests:
            self.digests = bytearray(self.blocks * self.kind.size)

    @property
    def complete(self) -> bool:
        """Whether every block is done."""
        return self.done == bits(0, self.blocks)

    @property
    def missing(self) -> int:
        """The bits of the blocks that are not done."""
        return bits(0, self.blocks) & ~self.done

    def mark(self, first: int, count: int, digests: bytes) -> None:
        """Note `count` blocks from `first` (within the region) as done. Raises ValueError."""
        size = self.kind.size
        if first < 0 or first + count > self.blocks or len(digests) != count * size:
            raise ValueError(
                f"region {self.number}: {count} blocks at {first}, {len(digests)} bytes of digests"
            )
        self.done |= bits(first, count)
        self.digests[first * size : (first + count) * size] = digests

    def digest(self, block: int) -> bytes:
        """The digest of a block (within the region)."""
        size = self.kind.size
        return bytes(self.digests[block * size : (block + 1) * size])

    def copy(self) -> Self:
        """A copy that shares nothing."""
        cls = type(self)
        return cls(self.number, self.blocks, self.kind, self.touched, self.done, bytearray(self.digests))

    def pack(self) -> tuple[bytes, bytes]:
        """The bitmap and the digests as blobs; a region of zeros only has no digests to keep."""
        digests = bytes(self.digests)
        if self.complete and digests == self.kind.zero() * self.blocks:
            digests = b""
        return self.done.to_bytes(-(-REGION_BLOCKS // 8), "little"), digests

    @classmethod
    def unpack(
        cls, number: int, blocks: int, kind: DigestKind, touched: bool, bitmap: bytes, digests: bytes
    ) -> Self:
        """The region that `pack` made the blobs of. Raises ValueError where they do not fit."""
        done = int.from_bytes(bitmap, "little")
        if done & ~bits(0, blocks):
            raise ValueError(f"region {number} claims blocks that it does not have")
        whole = bytearray(digests or kind.zero() * blocks)
        if len(whole) != blocks * kind.size or (not digests and kind.size and done != bits(0, blocks)):
            raise ValueError(f"region {number} has {len(digests)} bytes of digests for {blocks} blocks")
        return cls(number, blocks, kind, touched, done, whole)
