"""A region: which of its blocks are done, and their digests. One row of the checkpoint. Pure."""

from dataclasses import dataclass, field, replace
from typing import Self

from p2vd.copying.digests import DigestKind
from p2vd.copying.layout import REGION_BLOCKS, bits

_BITMAP_BYTES = -(-REGION_BLOCKS // 8)
_SIZE_BYTES = 4


@dataclass
class Region:
    """1 GiB of a disk as it stands in the checkpoint, or is about to.

    `touched`: bytes may have been written here in this pass. It is durable before the first write, so
    that a crash leaves no region that looks untouched and is not. `done`: bits of the blocks that this
    pass has copied. `stale`: those of which an earlier pass left the digest, and this one has not come
    to yet. `sizes`: in a compressed target, four bytes a block: how many its frame has.
    """

    number: int
    blocks: int
    kind: DigestKind
    touched: bool = False
    done: int = 0
    digests: bytearray = field(default_factory=bytearray)
    stale: int = 0
    sizes: bytearray = field(default_factory=bytearray)

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

    def mark(self, first: int, count: int, digests: bytes, sizes: bytes = b"") -> None:
        """Note `count` blocks from `first` (within the region) as done. Raises ValueError."""
        size = self.kind.size
        if first < 0 or first + count > self.blocks or len(digests) != count * size:
            raise ValueError(
                f"region {self.number}: {count} blocks at {first}, {len(digests)} bytes of digests"
            )
        self.done |= bits(first, count)
        self.stale &= ~self.done
        self.digests[first * size : (first + count) * size] = digests
        if sizes:
            self.sizes = self.sizes or bytearray(self.blocks * _SIZE_BYTES)
            self.sizes[first * _SIZE_BYTES : (first + count) * _SIZE_BYTES] = sizes

    def digest(self, block: int) -> bytes:
        """The digest of a block (within the region)."""
        size = self.kind.size
        return bytes(self.digests[block * size : (block + 1) * size])

    def old_digest(self, block: int) -> bytes | None:
        """The digest that an earlier pass left of a block (within the region); None: it left none."""
        return self.digest(block) if self.stale >> block & 1 else None

    def copy(self) -> Self:
        """A copy that shares nothing."""
        return replace(self, digests=bytearray(self.digests), sizes=bytearray(self.sizes))

    def for_next_pass(self) -> Self:
        """The region as a new pass finds it: nothing is done.

        It stays `touched` only where the earlier pass may have left a block half-written, so that its
        old digests must not be believed unseen.
        """
        known = self.done | self.stale
        return replace(self.copy(), touched=self.touched and not self.complete, done=0, stale=known)

    def pack(self) -> tuple[bytes, bytes]:
        """The bitmaps (the second only where it is not empty) and the digests as blobs.

        A region of zeros only has no digests to keep. Behind the digests stand the sizes, where there are
        any; one alone says that all are the same.
        """
        digests = bytes(self.digests)
        if self.done | self.stale == bits(0, self.blocks) and digests == self.kind.zero() * self.blocks:
            digests = b""
        stale = self.stale.to_bytes(_BITMAP_BYTES, "little") if self.stale else b""
        sizes = bytes(self.sizes)
        if sizes == sizes[:_SIZE_BYTES] * self.blocks:
            sizes = sizes[:_SIZE_BYTES]
        return self.done.to_bytes(_BITMAP_BYTES, "little") + stale, digests + sizes

    @classmethod
    def unpack(
        cls, number: int, blocks: int, kind: DigestKind, touched: bool, bitmap: bytes, digests: bytes
    ) -> Self:
        """The region that `pack` made the blobs of. Raises ValueError where they do not fit."""
        done = int.from_bytes(bitmap[:_BITMAP_BYTES], "little")
        stale = int.from_bytes(bitmap[_BITMAP_BYTES:], "little")
        known = done | stale
        if known & ~bits(0, blocks) or done & stale:
            raise ValueError(f"region {number} claims blocks that it does not have")
        digests, sizes = _parted(blocks, kind, digests)
        whole = bytearray(digests or kind.zero() * blocks)
        if len(whole) != blocks * kind.size or (not digests and kind.size and known != bits(0, blocks)):
            raise ValueError(f"region {number} has {len(digests)} bytes of digests for {blocks} blocks")
        return cls(number, blocks, kind, touched, done, whole, stale, bytearray(sizes))


def _parted(blocks: int, kind: DigestKind, blob: bytes) -> tuple[bytes, bytes]:
    """The digests, or none, and the sizes, or none. No two of the four have the same length together."""
    for digests in (0, blocks * kind.size):
        sizes = len(blob) - digests
        if sizes in (_SIZE_BYTES, blocks * _SIZE_BYTES):
            return blob[:digests], blob[digests:] * (blocks if sizes == _SIZE_BYTES else 1)
    return blob, b""
