"""A compressed image on a disk or file server that fails now and then."""

import errno
import os
import random
from pathlib import Path

import pytest

from p2vd.copying.errors import ReadFailed
from p2vd.copying.layout import BLOCK
from p2vd.model.forms import SourceFormat
from tests.copying.test_packed_source import PACKED, Opened


@pytest.mark.parametrize("name", ["gzip", "zstd piped", "xz", "xz streams"])
def test_after_a_read_that_failed_it_goes_on_with_the_same_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """At whichever read of the image the disk or file server fails once: nothing is left out or shifted."""
    form, pack, _ = PACKED[name]
    data = random.Random(5).randbytes(6 * BLOCK + 9)
    path = tmp_path / "image"
    path.write_bytes(pack(data))
    read, left = os.pread, [0]

    def fail_once(fd: int, length: int, at: int) -> bytes:
        left[0] -= 1
        if left[0] == 0:
            raise OSError(errno.EIO, "Input/output error")
        return read(fd, length, at)

    with Opened(path, SourceFormat(form)) as source:
        monkeypatch.setattr(os, "pread", fail_once)
        for number in range(2, 30, 3):
            left[0] = number
            for block in range(7):
                part = data[block * BLOCK :][:BLOCK]
                try:
                    got = source.bytes(block * BLOCK, len(part))
                except ReadFailed:
                    got = source.bytes(block * BLOCK, len(part))
                assert got == part
