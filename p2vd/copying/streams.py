"""A compressed image that can be read from a few places on only: a window of it is in memory.

Blocks come nearly in their order, so going back is rare; where it happens the reader starts again from
the latest place before. Memory is bounded: the window, and what the format's own decoder keeps, which is
limited where it is opened.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from p2vd.copying.controls import Gauge, Interrupted
from p2vd.copying.devices import Buffer, Device
from p2vd.copying.errors import ImageDamaged, ReadFailed
from p2vd.copying.layout import BLOCK
from p2vd.copying.packing import Damaged, ReadAt

_WINDOW_BLOCKS = 16
_CHUNK = 1 << 18
_MOST_POINTS = 1024
_LEAST_STEP = 8 * BLOCK


class Decoder(Protocol):
    """Reads an image from one place on."""

    def read_into(self, view: memoryview) -> int:
        """Fill `view`; fewer bytes only at the image's end. Raises Damaged, OSError."""


class Input:
    """A file that is read in large pieces and used in small ones. For one thread."""

    def __init__(self, read: ReadAt, size_bytes: int, at: int = 0):
        self._read, self.size_bytes = read, size_bytes
        self.at = at
        self._data, self._start = b"", at

    def take(self, most: int = _CHUNK) -> bytes:
        """The next bytes, at most that many; empty: the end. They are used by `skip`."""
        inside = self.at - self._start
        if inside >= len(self._data):
            self._fill(self.at)
            inside = 0
        return self._data[inside : inside + most]

    def skip(self, count: int) -> None:
        """Go on that many bytes further."""
        self.at += count

    def read(self, at: int, length: int) -> bytes:
        """As a ReadAt, quick where reads are near each other and ascend."""
        inside = at - self._start
        if not 0 <= inside <= len(self._data) - length:
            self._fill(at, max(length, _CHUNK))
            inside = 0
        return self._data[inside : inside + length]

    def _fill(self, at: int, length: int = _CHUNK) -> None:
        self._data = self._read(at, min(length, max(0, self.size_bytes - at)))
        self._start = at


class Points:
    """Places from which a decoder can start, a thousand at most: byte of the image -> byte of the file."""

    def __init__(self) -> None:
        self._points = [(0, 0)]
        self._step = _LEAST_STEP

    def add(self, of_image: int, of_file: int) -> None:
        """Note a place, in ascending order; some are dropped where they come too close to each other."""
        if of_image == 0:
            self._points[0] = (0, of_file)
        elif of_image - self._points[-1][0] >= self._step:
            self._points.append((of_image, of_file))
            if len(self._points) > _MOST_POINTS:
                self._points = self._points[::2]
                self._step *= 2

    def before(self, of_image: int) -> tuple[int, int]:
        """The last place that is not behind that byte."""
        low, high = 0, len(self._points)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._points[middle][0] <= of_image else (low, middle)
        return self._points[low]


class StreamSource(Device):
    """The image behind `fd`, read by `start`, which gives a decoder from a point on. For many threads.

    That a read of the file is outstanding is noted by what the decoder reads it with.

    `edges`: the blocks that a first pass kept, each served once: to read the last one costs all before it.
    """

    def __init__(
        self,
        fd: int,
        name: str,
        form: str,
        size_bytes: int,
        gauge: Gauge,
        start: Callable[[int, int], Decoder],
        points: Points,
        edges: dict[int, bytes],
        ended: Callable[[], bool] = lambda: False,
    ):
        super().__init__(fd, name, size_bytes, gauge)
        self._is_file = False  # its holes say nothing of the image's
        self._form, self._start, self._points = form, start, points
        self._edges, self._ended = dict(edges), ended
        self._lock = threading.Lock()
        self._window: OrderedDict[int, bytes] = OrderedDict()
        self._decoder: Decoder | None = None
        self._next = 0
        self.restarts = 0
        """How often it was gone back."""
        self.unpacked_bytes = 0
        """How much was unpacked, what is thrown away as well."""

    def lead(self, offset: int) -> int:
        """How many bytes before that one have to be unpacked to read it: none where its block is kept."""
        number = offset // BLOCK
        with self._lock:
            if number in self._edges or number in self._window:
                return 0
            of_image, _ = self._points.before(number * BLOCK)
            goes_on = self._decoder is not None and self._goes_on_to(number, of_image)
            return offset - (self._next * BLOCK if goes_on else of_image)

    def read(self, buffer: Buffer, offset: int, length: int, at: int = 0) -> None:
        """Fill `length` bytes of the buffer. Raises ReadFailed, ImageDamaged, Interrupted."""
        while length:
            number, within = divmod(offset, BLOCK)
            part = min(length, BLOCK - within)
            with self._lock:
                try:
                    contents = self._block(number)
                except Damaged as error:
                    raise ImageDamaged(self.name, self._form, error.offset, error.cause) from error
                except OSError as error:
                    cause = error.strerror or str(error)
                    raise ReadFailed(self.name, offset, length, cause, error.errno or 0) from error
            buffer.view[at : at + part] = contents[within : within + part]
            offset, length, at = offset + part, length - part, at + part

    def _block(self, number: int) -> bytes:
        if (kept := self._edges.pop(number, None)) is not None:
            return kept
        if (kept := self._window.get(number)) is not None:
            return kept
        of_image, of_file = self._points.before(number * BLOCK)
        decoder, self._decoder = self._decoder, None  # one that was interrupted has lost what it had read
        if decoder is None or not self._goes_on_to(number, of_image):
            self.restarts += decoder is not None and number < self._next
            decoder = self._start(of_image, of_file)
            self._next = -(-of_image // BLOCK)
            lead = self._next * BLOCK - of_image
            self.unpacked_bytes += lead
            if decoder.read_into(memoryview(bytearray(lead))) != lead:
                raise Damaged(of_file, "it ends earlier than it did before")
        while True:
            if self._ended():
                raise Interrupted
            contents = self._following(decoder)
            if self._next > number:
                self._decoder = decoder
                return contents

    def _goes_on_to(self, number: int, of_image: int) -> bool:
        """Whether a decoder that is at the next block is nearer to another one than the point before that."""
        return of_image <= self._next * BLOCK <= number * BLOCK

    def _following(self, decoder: Decoder) -> bytes:
        length = min(BLOCK, self.size_bytes - self._next * BLOCK)
        self.unpacked_bytes += length
        contents = bytearray(length)
        if decoder.read_into(memoryview(contents)) != length:
            raise Damaged(os.fstat(self.fd).st_size, "it holds less than it should")
        last = self._next * BLOCK + length == self.size_bytes
        if last and decoder.read_into(memoryview(bytearray(1))):  # only now its last checksum is read
            raise Damaged(os.fstat(self.fd).st_size, "it holds more than it should")
        self._window[self._next] = bytes(contents)
        self._next += 1
        while len(self._window) > _WINDOW_BLOCKS:
            self._window.popitem(last=False)
        return self._window[self._next - 1]


def measure(decoder: Decoder, ended: Callable[[], bool]) -> tuple[int, dict[int, bytes]]:
    """Read an image from its start to its end: its size, and its first and last block.

    Raises Damaged, OSError; Interrupted when `ended` says so.
    """
    edges: dict[int, bytes] = {}
    buffer, number, last = bytearray(BLOCK), 0, 0
    while last_count := decoder.read_into(memoryview(buffer)):
        if ended():
            raise Interrupted
        if number == 0:
            edges[0] = bytes(buffer[:last_count])
        last = last_count
        number += 1
        if last_count < BLOCK:
            break
    if number > 1:
        edges[number - 1] = bytes(buffer[:last])
    return max(0, number - 1) * BLOCK + last, edges
