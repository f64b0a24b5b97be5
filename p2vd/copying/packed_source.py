"""Compressed images as sources: opened, their size found, and refused where they are not whole.

An index that fits is taken at its word, and proven by reading all that it lists. Where there is none all
of the image is read once to learn its size.
"""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator

from p2vd.copying import gzip_packing, zstd_packing
from p2vd.copying.controls import READING, Gauge, Interrupted
from p2vd.copying.errors import OpenFailed, SourceRefused
from p2vd.copying.framed_source import MOST_FRAMES, MOST_PACKED, FramedSource, Frames
from p2vd.copying.gzip_source import GzipDecoder
from p2vd.copying.opened import name_of
from p2vd.copying.packed_headers import MOST_MAGIC, packed_format
from p2vd.copying.packing import Damaged, Packing, packing
from p2vd.copying.streams import Input, Points, StreamSource, measure
from p2vd.copying.xz_source import XzDecoder, streams
from p2vd.copying.zstd_format import frames
from p2vd.copying.zstd_source import ZstdDecoder
from p2vd.model.forms import SIZE_UNKNOWN, SourceFormat, TargetFormat
from p2vd.system import block
from p2vd.system.clock import SystemClock

log = logging.getLogger(__name__)

Ended = Callable[[], bool]


def packed_source(
    fd: int,
    form: SourceFormat,
    gauge: Gauge,
    ended: Ended = lambda: False,
    known_bytes: int = SIZE_UNKNOWN,
    name: str = "",
) -> FramedSource | StreamSource:
    """The disk in the compressed image that `fd` has open, which is not shared.

    Reads all of it where nothing tells its size: neither an index nor the caller, by `known_bytes`, which
    reading proves. Raises SourceRefused, OpenFailed; Interrupted when `ended` says so.
    """
    name = name or name_of(fd)
    with _refused(name, form):
        block.set_direct(fd, False)  # frames begin anywhere
        size = block.size_bytes(fd)
        image = _Image(fd, name, form, size, gauge, ended, known_bytes)
        if form is SourceFormat.GZ:
            return image.gzip()
        return image.xz() if form is SourceFormat.XZ else image.zstd()


def told_size(fd: int, name: str, form: SourceFormat, ended: Ended = lambda: False) -> int:
    """How large the disk in a compressed image is, by its index alone; else SIZE_UNKNOWN.

    Raises SourceRefused, OpenFailed; Interrupted when `ended` says so.
    """
    with _refused(name, form):
        size = block.size_bytes(fd)
        return _Image(fd, name, form, size, Gauge(SystemClock()), ended, SIZE_UNKNOWN).told()


@contextlib.contextmanager
def _refused(name: str, form: SourceFormat) -> Iterator[None]:
    try:
        yield
    except Damaged as error:
        problem = (
            f"as a {form.value} image it is not whole at byte {error.offset} of the file: {error.cause}."
        )
        raise SourceRefused(name, problem) from error
    except OSError as error:
        raise OpenFailed(name, error.strerror or str(error)) from error


class _Image:
    """A compressed image that is being opened."""

    def __init__(
        self, fd: int, name: str, form: SourceFormat, size: int, gauge: Gauge, ended: Ended, known_bytes: int
    ):
        self.fd, self.name, self.form, self.size = fd, name, form.value, size
        self._kind = form
        self.gauge, self.ended, self.known_bytes = gauge, ended, known_bytes

    def read(self, at: int, length: int) -> bytes:
        """Read from the file, however short single reads are; fewer bytes only at its end."""
        # Not while it is unpacked: that takes its time, too, which is not the source's.
        with self.gauge.io(READING, at):
            data = os.pread(self.fd, length, at)
            while 0 < len(data) < length and (more := os.pread(self.fd, length - len(data), at + len(data))):
                data += more
            return data

    def look(self, at: int, length: int) -> bytes:
        """As `read`, for what walks over all of a large file before its first block. Raises Interrupted."""
        if self.ended():
            raise Interrupted
        return self.read(at, length)

    def told(self) -> int:
        """How large the disk is, by an index alone, else SIZE_UNKNOWN. Raises Damaged, OSError."""
        if packed_format(self.read(0, MOST_MAGIC)) is not self._kind:
            raise Damaged(0, "it does not begin as one" if self.size else "it is empty")
        if self._kind is SourceFormat.XZ:
            return streams(self.look, self.size, lambda of_image, of_file: None)[-1].image_end
        found = self._gzip_index() if self._kind is SourceFormat.GZ else self._zstd_index()
        return SIZE_UNKNOWN if found is None else found.image_bytes

    def gzip(self) -> FramedSource | StreamSource:
        """By p2vd's own index, else as a stream."""
        if (found := self._gzip_index()) is not None:
            return self._framed(found, packing(TargetFormat.RAW_GZ))
        points = Points()

        def start(of_image: int, at: int) -> GzipDecoder:
            return GzipDecoder(self.read, self.size, of_image, at, points.add)

        size, edges = self._measure(start(0, 0))
        return self._stream(size, start, points, edges)

    def _gzip_index(self) -> Frames | None:
        try:
            index = gzip_packing.member_index(self.look, self.size)
            return None if index is None else self._members(index)
        except ValueError as error:
            self._does_not_fit(error)
            return None

    def _members(self, index: gzip_packing.MemberIndex) -> Frames | None:
        left, each, found = index.total_bytes, index.block_bytes, Frames()
        for size in index.sizes(self.look):
            if size > MOST_PACKED or len(found) >= MOST_FRAMES:
                return None
            found.add(size, min(each, left))
            left -= min(each, left)
        if found.file_bytes != index.at or left:
            raise ValueError(f"its members end at byte {found.file_bytes}, not {index.at}")
        return found

    def zstd(self) -> FramedSource | StreamSource:
        """By a seek table; by what the frames tell of themselves; else as a stream that was read once."""
        if (found := self._zstd_index()) is not None:
            return self._framed(found, packing(TargetFormat.RAW_ZST))
        points, size, told = Points(), 0, True
        for frame in frames(Input(self.look, self.size).read, self.size):
            if not told or frame.holds is None:
                told = False
                continue
            points.add(size, frame.at)
            size += frame.holds
        edges: dict[int, bytes] = {}
        if not told or self.size == 0:
            points = Points()
            size, edges = self._measure(ZstdDecoder(self.read, self.size, note=points.add))

        def start(of_image: int, at: int) -> ZstdDecoder:
            return ZstdDecoder(self.read, self.size, of_image, at, points.add)

        return self._stream(size, start, points, edges)

    def _zstd_index(self) -> Frames | None:
        try:
            table = zstd_packing.seek_table(self.look, self.size)
            found = None if table is None else Frames.of(table.entries(self.look))
            if table is not None and found is not None and found.file_bytes != table.at:
                raise ValueError(f"it ends at byte {found.file_bytes}, not {table.at}")
        except ValueError as error:
            self._does_not_fit(error)
            return None
        return found

    def xz(self) -> StreamSource:
        """By its own indexes, which every .xz has."""
        points = Points()
        found = streams(self.look, self.size, points.add)
        size = found[-1].image_end
        return self._stream(size, lambda *place: XzDecoder(self.read, found, *place), points, {})

    def _measure(self, decoder: GzipDecoder | ZstdDecoder) -> tuple[int, dict[int, bytes]]:
        if self.known_bytes >= 0:
            return self.known_bytes, {}
        log.info("%s has no index: it is read once to learn its size", self.name)
        return measure(decoder, self.ended)

    def _framed(self, found: Frames, how: Packing) -> FramedSource:
        return FramedSource(self.fd, self.name, self.form, self.read, found, how, self.gauge)

    def _stream(
        self,
        size: int,
        start: Callable[[int, int], GzipDecoder | ZstdDecoder | XzDecoder],
        points: Points,
        edges: dict[int, bytes],
    ) -> StreamSource:
        return StreamSource(self.fd, self.name, self.form, size, self.gauge, start, points, edges, self.ended)

    def _does_not_fit(self, error: ValueError) -> None:
        log.warning("%s: its index does not fit (%s); the image is read without it", self.name, error)
