"""An I/O that does not come back is told, with what it is and where."""

import contextlib
import io
import json
import os
import threading
from pathlib import Path

import pytest

from p2vd.copying import standalone
from p2vd.copying.layout import BLOCK
from p2vd.copying.region import Region
from tests.copying.test_tool import Files


class Output(io.StringIO):
    """Lets the disk go on once the stall was told: until then it hangs."""

    def __init__(self, told: threading.Event) -> None:
        super().__init__()
        self._told = told

    def write(self, text: str) -> int:
        if '"stalled"' in text:
            self._told.set()
        return super().write(text)

    def stalls(self) -> list[dict[str, object]]:
        lines = map(json.loads, self.getvalue().splitlines())
        return [line for line in lines if line["type"] == "stalled"]


def test_a_read_that_hangs_is_told_while_it_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = Files(tmp_path)
    files.make(20 * BLOCK, data=1)
    monkeypatch.setattr(standalone, "_STALLED_S", 0.3)
    preadv, told = os.preadv, threading.Event()

    def hang(fd: int, buffers: list[memoryview], offset: int) -> int:
        if offset == 7 * BLOCK:
            assert told.wait(60), "nobody told of the read that hangs"
        return preadv(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", hang)
    with contextlib.redirect_stdout(out := Output(told)):
        assert standalone.main(files.words("--json")) == 0
    assert {"type": "stalled", "operation": "read", "offset": 7 * BLOCK} in out.stalls()
    assert files.equal()


def test_a_commit_that_hangs_is_told_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk of the checkpoint, not that of the copy."""
    files = Files(tmp_path)
    files.make(20 * BLOCK, data=1)
    monkeypatch.setattr(standalone, "_STALLED_S", 0.3)
    pack, told = Region.pack, threading.Event()

    def hang(region: Region) -> tuple[bytes, bytes]:
        assert told.wait(60), "nobody told of the commit that hangs"
        return pack(region)

    monkeypatch.setattr(Region, "pack", hang)
    with contextlib.redirect_stdout(out := Output(told)):
        assert standalone.main(files.words("--json")) == 0
    assert {"type": "stalled", "operation": "commit", "offset": 0} in out.stalls()
    assert files.equal()
