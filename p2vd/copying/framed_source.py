"""A compressed image that can be read anywhere: each frame alone, by an index that tells where they are."""

import threading
from array import array
from bisect import bisect_right
from collections.abc import Iterable

from p2vd.copying.controls import Gauge
from p2vd.copying.devices import Buffer, Device
from p2vd.copying.errors import ImageDamaged, ReadFailed
from p2vd.copying.layout import BLOCK
from p2vd.copying.packing import Damaged, Packing, ReadAt

MOST_FRAME = 4 * BLOCK
"""Each thread keeps the frame that it read last."""

MOST_PACKED = MOST_FRAME + MOST_FRAME // 8
"""A frame that does not compress is hardly longer than what it holds."""

MOST_FRAMES = 16 << 20
"""16 bytes of memory each. Files of more frames, or of larger ones, are read as a stream."""


class Frames:
    """Where frames are, in the file and in the image: all in their order, one behind the other."""

    def __init__(self) -> None:
        self._of_file = array("Q", [0])
        self._of_image = array("Q", [0])

    @classmethod
    def of(cls, sizes: Iterable[tuple[int, int]]) -> "Frames | None":
        """Frames by (bytes in the file, bytes of the image); None: too many, or too large, to read singly."""
        frames = cls()
        for of_file, of_image in sizes:
            if of_image > MOST_FRAME or of_file > MOST_PACKED or len(frames) >= MOST_FRAMES:
                return None
            frames.add(of_file, of_image)
        return frames

    def __len__(self) -> int:
        return len(self._of_file) - 1

    def add(self, of_file: int, of_image: int) -> None:
        """The next frame."""
        self._of_file.append(self._of_file[-1] + of_file)
        self._of_image.append(self._of_image[-1] + of_image)

    @property
    def image_bytes(self) -> int:
        """What all of them hold."""
        return self._of_image[-1]

    @property
    def file_bytes(self) -> int:
        """Where the last one ends."""
        return self._of_file[-1]

    def find(self, offset: int) -> tuple[int, int, int, int, int]:
        """The frame of that byte: its number; place and size in the file; the same in the image."""
        number = bisect_right(self._of_image, offset) - 1
        at, start = self._of_file[number], self._of_image[number]
        return number, at, self._of_file[number + 1] - at, start, self._of_image[number + 1] - start


class FramedSource(Device):
    """The image behind `fd`. Whatever the index says is proven where it is read.

    `read` notes that a read of the file is outstanding.
    """

    def __init__(
        self, fd: int, name: str, form: str, read: ReadAt, frames: Frames, packing: Packing, gauge: Gauge
    ):
        super().__init__(fd, name, frames.image_bytes, gauge)
        self._is_file = False  # its holes say nothing of the image's
        self._form, self._read_at, self._frames, self._packing = form, read, frames, packing
        self._own = threading.local()

    def read(self, buffer: Buffer, offset: int, length: int, at: int = 0) -> None:
        """Fill `length` bytes of the buffer. Raises ReadFailed, ImageDamaged."""
        while length:
            if offset >= self.size_bytes:
                raise ReadFailed(self.name, offset, length, "it ends here; it was longer")
            number, place, size, start, holds = self._frames.find(offset)
            within = offset - start
            part = min(length, holds - within)
            contents = self._contents(number, place, size, offset, holds)
            if contents is None:
                buffer.clear(at, at + part)
            else:
                buffer.view[at : at + part] = contents[within : within + part]
            offset, length, at = offset + part, length - part, at + part

    def _contents(self, number: int, place: int, size: int, offset: int, holds: int) -> bytes | None:
        """What a frame holds; None: zeros."""
        kept: tuple[int, bytes] | None = getattr(self._own, "kept", None)
        if kept is not None and kept[0] == number:
            return kept[1]
        try:
            frame = self._read_at(place, size)
        except OSError as error:
            cause = error.strerror or str(error)
            raise ReadFailed(self.name, offset, holds, cause, error.errno or 0) from error
        if holds == BLOCK and frame == self._packing.zero_frame:
            return None
        try:
            contents = self._packing.unpack(frame, holds)
        except ValueError as error:
            where = place + (error.offset if isinstance(error, Damaged) else 0)
            raise ImageDamaged(self.name, self._form, where, str(error)) from error
        if holds != BLOCK:  # the pipeline reads whole blocks: such a frame has more for the next
            self._own.kept = number, contents
        return contents
