"""A disk in a `.zst`: frames one after another, fed to the decoder block by block, so that none can swell."""

from collections.abc import Callable

import zstandard

from p2vd.copying.packing import Damaged, ReadAt
from p2vd.copying.streams import Input
from p2vd.copying.zstd_format import block_header, frame_header, skip

MAGIC = b"\x28\xb5\x2f\xfd"
MOST_WINDOW = 128 << 20
"""As zstd(1) without --long or --memory: a frame that wants more is refused."""


class ZstdDecoder:
    """Reads the frames of a zstd file (RFC 8878), each against the size and checksum that it tells.

    A block has 128 KiB at most, whatever its input says. `note` hears where each frame begins.
    """

    def __init__(
        self,
        read: ReadAt,
        size_bytes: int,
        of_image: int = 0,
        at: int = 0,
        note: Callable[[int, int], None] = lambda of_image, of_file: None,
    ):
        self._input = Input(read, size_bytes, at)
        self._of_image, self._note = of_image, note
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=MOST_WINDOW)
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._checksum = False
        self._ready = memoryview(b"")

    def read_into(self, view: memoryview) -> int:
        """Fill `view`; fewer bytes only at the end. Raises Damaged."""
        filled = 0
        while filled < len(view):
            if self._ready:
                part = min(len(self._ready), len(view) - filled)
                view[filled : filled + part] = self._ready[:part]
                self._ready, filled = self._ready[part:], filled + part
                self._of_image += part
            elif self._frame is not None:
                self._block(self._frame)
            elif not self._begin():
                break
        return filled

    def _begin(self) -> bool:
        """Begin the next frame; False: there is none."""
        source = self._input
        source.at = skip(source.read, source.at, source.size_bytes)
        if source.at >= source.size_bytes:
            if source.size_bytes == 0:
                raise Damaged(0, "it is empty")
            return False
        self._note(self._of_image, source.at)
        length, _, self._checksum = frame_header(source.read, source.at)
        self._frame = self._decompressor.decompressobj()
        self._feed(self._frame, length)
        return True

    def _block(self, frame: "zstandard.ZstdDecompressionObj") -> None:
        length, last = block_header(self._input.read, self._input.at)
        self._ready = memoryview(self._feed(frame, length + (4 if last and self._checksum else 0)))
        if last:
            if not frame.eof or frame.unused_data:
                raise Damaged(self._input.at, "a frame does not end with its last block")
            self._frame = None

    def _feed(self, frame: "zstandard.ZstdDecompressionObj", length: int) -> bytes:
        data = self._input.read(self._input.at, length)
        if len(data) < length:
            raise Damaged(self._input.at, "it ends within a frame")
        try:
            contents: bytes = frame.decompress(data)
        except zstandard.ZstdError as error:
            raise Damaged(self._input.at, str(error)) from error
        self._input.skip(length)
        return contents
