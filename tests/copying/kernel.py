"""A file as the kernel keeps it, with a volatile page cache, and frames that cost nothing to make.

`Kernel` stands in for `os` in packed_target. When the power fails, any of the writes and truncations that
were not flushed are there and any are not, in whatever order, and one of them in part.
"""

import os
import random
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace

import xxhash

from p2vd.copying.layout import BLOCK
from tests.copying.power import Supply

GAPS = tuple(
    f"{when} {what}" for what in ("write", "truncate", "flush", "commit") for when in ("before", "after")
)
_FRAME = struct.Struct("<IHI")


class Kernel:
    """The calls of `os` that a packed target makes, on one file. `fails`: the errno by which a call ends."""

    POSIX_FADV_DONTNEED = os.POSIX_FADV_DONTNEED

    def __init__(self, chance: random.Random):
        self.durable = bytearray()
        self.supply = Supply()
        self.fails: Callable[[str], int] = lambda what: 0
        self._cached = bytearray()
        self._volatile: list[tuple[int, bytes | None]] = []
        self._chance = chance
        self._lock = threading.Lock()

    def pwrite(self, fd: int, data: memoryview, offset: int) -> int:
        self.supply.at("before write")
        count = len(data) if self._chance.random() < 0.7 else self._chance.randrange(1, len(data) + 1)
        number = self.fails("write")
        if number:  # a part of it may be there all the same
            count = self._chance.randrange(len(data))
        with self._lock:
            self._do(self._cached, offset, bytes(data[:count]))
            self._volatile.append((offset, bytes(data[:count])))
        if number:
            raise OSError(number, os.strerror(number))
        self.supply.at("after write")
        return count

    def ftruncate(self, fd: int, length: int) -> None:
        self.supply.at("before truncate")
        with self._lock:
            self._do(self._cached, length, None)
            self._volatile.append((length, None))
        self.supply.at("after truncate")

    def fdatasync(self, fd: int) -> None:
        self.supply.at("before flush")
        number = self.fails("flush")
        with self._lock:
            if number:
                self._lose()
                self._cached[:] = self.durable
                raise OSError(number, os.strerror(number))
            self.durable[:] = self._cached
            self._volatile = []
        self.supply.at("after flush")

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        with self._lock:
            return bytes(self._cached[offset : offset + max(1, length - 7)])

    def fstat(self, fd: int) -> SimpleNamespace:
        with self._lock:
            return SimpleNamespace(st_size=len(self._cached), st_nlink=1, st_mode=0o100600)

    def posix_fadvise(self, fd: int, offset: int, length: int, advice: int) -> None:
        pass

    def lose_power(self) -> None:
        with self._lock:
            self._lose()
            self._cached[:] = self.durable

    def _lose(self) -> None:
        share = self._chance.choice((0.0, 0.5, 1.0))
        kept = [each for each in self._volatile if self._chance.random() < share]
        if kept and self._chance.random() < 0.5:
            at, data = kept[-1]
            kept[-1] = (at, data and data[: self._chance.randrange(len(data) + 1)])
        for at, data in kept:
            self._do(self.durable, at, data)
        self._volatile = []

    @staticmethod
    def _do(file: bytearray, at: int, data: bytes | None) -> None:
        if len(file) < at:
            file.extend(bytes(at - len(file)))
        if data is None:
            del file[at:]
        else:
            file[at : at + len(data)] = data


class Tokens:
    """Frames that name their block instead of holding it: a copy of many schedules compresses nothing."""

    def __init__(self) -> None:
        self._known: dict[bytes, bytes] = {}
        self.level = 0
        self.zero_frame = self.pack(memoryview(bytes(BLOCK)))

    def pack(self, block: memoryview) -> bytes:
        name = self.name(block)
        self._known[name] = bytes(block)
        filler = name * ((name[0] + self.level) % 4)
        return _FRAME.pack(0x50325644, len(filler), len(block)) + name + filler

    def unpack(self, frame: bytes, length: int) -> bytes:
        magic, filler, holds = _FRAME.unpack_from(frame)
        name = frame[_FRAME.size : _FRAME.size + 16]
        if magic != 0x50325644 or frame[_FRAME.size + 16 :] != name * (filler // 16) or holds != length:
            raise ValueError("no such frame")
        return self._known[name]

    def end(self, sizes: Iterable[bytes], count: int, total_bytes: int, at: int) -> Iterator[bytes]:
        yield b"END" + struct.pack("<QQQ", count, total_bytes, at)
        yield from sizes

    @staticmethod
    def name(block: bytes | memoryview) -> bytes:
        return bytes(xxhash.xxh3_128_digest(block))

    def names(self, data: bytes | bytearray) -> Iterator[bytes]:
        """The names of the blocks that a file of frames alone holds."""
        at = 0
        while at < len(data):
            _, filler, holds = _FRAME.unpack_from(data, at)
            frame = bytes(data[at : at + _FRAME.size + 16 + filler])
            self.unpack(frame, holds)
            yield frame[_FRAME.size : _FRAME.size + 16]
            at += len(frame)
