"""Pictures of a screen."""

import struct
import zlib

import pytest

from p2vd.registration.screen import Picture

RED, BLUE = b"\xff\0\0", b"\0\0\xff"


def test_ppm_as_qemu_writes_it() -> None:
    picture = Picture.from_ppm(b"P6\n2 1\n255\n" + RED + BLUE)
    assert picture == Picture(2, 1, RED + BLUE)


def test_pixels_that_look_like_a_separator_are_kept() -> None:
    assert Picture.from_ppm(b"P6\n1 1\n255\n\n\n\n") == Picture(1, 1, b"\n\n\n")


@pytest.mark.parametrize(
    "data",
    [b"", b"P5\n1 1\n255\n\0", b"P6\n2 1\n255\n" + RED, b"P6\n0 0\n255\n", b"P6\n1 1\n65535\n" + RED * 2],
)
def test_what_is_no_such_picture_is_none(data: bytes) -> None:
    assert Picture.from_ppm(data) is None


def test_another_resolution_is_another_picture() -> None:
    assert Picture(1, 1, RED).difference(Picture(1, 2, RED * 2)) == 1.0


def test_a_line_of_text_differs_little_and_a_new_screen_much() -> None:
    blank = Picture(720, 400, bytes(720 * 400 * 3))
    cursor = bytearray(blank.pixels)
    for y in range(30, 34):
        cursor[y * 720 * 3 : (y * 720 + 9) * 3] = b"\xff" * 27
    assert 0 < blank.difference(Picture(720, 400, bytes(cursor))) < 0.01
    assert blank.difference(Picture(720, 400, b"\x10" * len(blank.pixels))) == 1.0
    assert blank.difference(blank) == 0


def test_a_picture_smaller_than_its_cells_is_compared_too() -> None:
    assert 0 < Picture(2, 2, RED * 4).difference(Picture(2, 2, RED * 3 + BLUE)) < 1


def test_png_holds_the_same_pixels() -> None:
    png = Picture(2, 2, RED + BLUE + BLUE + RED).to_png()
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, offset = {}, 8
    while offset < len(png):
        (length,) = struct.unpack_from(">I", png, offset)
        kind, data = png[offset + 4 : offset + 8], png[offset + 8 : offset + 8 + length]
        assert struct.unpack_from(">I", png, offset + 8 + length)[0] == zlib.crc32(kind + data)
        chunks[kind] = data
        offset += 12 + length
    assert struct.unpack(">IIBBBBB", chunks[b"IHDR"]) == (2, 2, 8, 2, 0, 0, 0)
    assert zlib.decompress(chunks[b"IDAT"]) == b"\0" + RED + BLUE + b"\0" + BLUE + RED
