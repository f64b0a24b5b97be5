"""Pictures of a guest's screen: QEMU's PPM, how much of two differs, and PNG for people. Pure."""

import re
import struct
import zlib
from dataclasses import dataclass

_HEADER = re.compile(rb"P6\s+(\d+)\s+(\d+)\s+255\s")
_CHANNELS = 3
_CELLS = 64
"""A picture is compared in so many columns and rows: a line of text counts, and it is cheap."""


@dataclass(frozen=True)
class Picture:
    """A picture: `pixels` row by row, three bytes (red, green, blue) each."""

    width: int
    height: int
    pixels: bytes

    @classmethod
    def from_ppm(cls, data: bytes) -> "Picture | None":
        """Return what QEMU's screendump wrote (ppm(5), 8 bits a colour); None where that is none."""
        header = _HEADER.match(data)
        if header is None:
            return None
        width, height = int(header[1]), int(header[2])
        pixels = data[header.end() :]
        if not width or not height or len(pixels) != width * height * _CHANNELS:
            return None
        return cls(width, height, pixels)

    def difference(self, other: "Picture") -> float:
        """How much of the picture is another than `other`'s, 0 to 1; 1 where the resolution is another."""
        if (self.width, self.height) != (other.width, other.height):
            return 1.0
        return sum(a != b for a, b in zip(self._cells(), other._cells(), strict=True)) / _CELLS**2

    def _cells(self) -> list[int]:
        """Return a checksum of each of the picture's cells."""
        sums = [0] * _CELLS**2
        edges = [self.width * column // _CELLS for column in range(_CELLS + 1)]
        for y in range(self.height):
            row = y * self.width
            first = y * _CELLS // self.height * _CELLS
            for column in range(_CELLS):
                start, end = row + edges[column], row + edges[column + 1]
                part = self.pixels[start * _CHANNELS : end * _CHANNELS]
                sums[first + column] = zlib.crc32(part, sums[first + column])
        return sums

    def to_png(self) -> bytes:
        """Return the picture as PNG (RFC 2083)."""
        stride = self.width * _CHANNELS
        rows = b"".join(
            b"\0" + self.pixels[start : start + stride] for start in range(0, len(self.pixels), stride)
        )
        header = struct.pack(">IIBBBBB", self.width, self.height, 8, 2, 0, 0, 0)
        chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
