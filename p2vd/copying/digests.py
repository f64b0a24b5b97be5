"""Digests: one a block, and one of the whole disk over those. Pure."""

import enum
from collections.abc import Callable
from functools import cache
from typing import Protocol, Self

import xxhash

from p2vd.copying import xxh3
from p2vd.copying.layout import BLOCK, Layout


class Hash(Protocol):
    """What is used of a hash object."""

    def update(self, data: bytes, /) -> None:
        """Take in `data`."""

    def digest(self) -> bytes:
        """Return the digest of all that was taken in."""


class DigestKind(enum.Enum):
    """Which digest; the value is its name on the command line.

    Both release the interpreter lock. xxh3 (128 bit) finds every accident; sha256 also intent.
    """

    XXH3 = "xxh3"
    SHA256 = "sha256"
    NONE = "none"

    @classmethod
    def named(cls, name: str) -> Self:
        """The digest of that name. Raises ValueError that lists them."""
        for kind in cls:
            if kind.value == name:
                if kind is DigestKind.SHA256:
                    _sha256()
                return kind
        raise ValueError(f"{name!r} is no digest; there are {', '.join(kind.value for kind in cls)}")

    @property
    def size(self) -> int:
        """Bytes of one digest."""
        return {DigestKind.XXH3: 16, DigestKind.SHA256: 32, DigestKind.NONE: 0}[self]

    def of(self, data: bytes | memoryview) -> bytes:
        """The digest of a block's bytes of the source."""
        if self is DigestKind.XXH3:
            return xxh3.digest(data)
        if self is DigestKind.SHA256:
            return _sha256()(data).digest()
        return b""

    def zero(self, length: int = BLOCK) -> bytes:
        """The digest of `length` zero bytes; a block without source bytes counts as a full one."""
        return _zero(self, length or BLOCK)

    def new(self) -> Hash | None:
        """A hash for the whole, which takes the blocks' digests in order; None for NONE."""
        if self is DigestKind.NONE:
            return None
        return _sha256()() if self is DigestKind.SHA256 else xxhash.xxh3_128()


@cache
def _sha256() -> Callable[..., Hash]:
    # Only where it is asked for: it loads OpenSSL, 3 MiB of every worker's memory. `named` asks before
    # the worker's privileges go, after which it opens nothing.
    import hashlib

    return hashlib.sha256


def zero_digests(kind: DigestKind, layout: Layout, first: int, count: int) -> bytes:
    """The digests of `count` blocks from `first`, all of them zero."""
    digests = kind.zero() * count
    short = layout.source_blocks - 1  # the only block that may be short; others may lie beyond it
    if first <= short < first + count:
        at = (short - first) * kind.size
        return digests[:at] + kind.zero(layout.source_length(short)) + digests[at + kind.size :]
    return digests


@cache
def _zero(kind: DigestKind, length: int) -> bytes:
    return kind.of(bytes(length))


def checksum(*parts: bytes) -> bytes:
    """A checksum over `parts`, each with its length, for rows of the checkpoint."""
    total = xxhash.xxh3_128()
    for part in parts:
        total.update(len(part).to_bytes(8, "little"))
        total.update(part)
    return bytes(total.digest())
