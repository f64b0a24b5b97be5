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
from tests.copying.test_tool import Files


def test_a_read_that_hangs_is_told_while_it_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = Files(tmp_path)
    files.make(20 * BLOCK, data=1)
    monkeypatch.setattr(standalone, "_STALLED_S", 0.3)
    preadv, told = os.preadv, threading.Event()

    class Output(io.StringIO):
        """Lets the disk go on once the stall was told: until then the read hangs."""

        def write(self, text: str) -> int:
            if '"stalled"' in text:
                told.set()
            return super().write(text)

    def hang(fd: int, buffers: list[memoryview], offset: int) -> int:
        if offset == 7 * BLOCK:
            assert told.wait(60), "nobody told of the read that hangs"
        return preadv(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", hang)
    with contextlib.redirect_stdout(out := Output()):
        assert standalone.main(files.words("--json")) == 0
    stalls = [line for line in map(json.loads, out.getvalue().splitlines()) if line["type"] == "stalled"]
    assert {"type": "stalled", "operation": "read", "offset": 7 * BLOCK} in stalls
    assert files.equal()
