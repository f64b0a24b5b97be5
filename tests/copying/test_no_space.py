"""A target without space: the copy waits, and what was not committed is written again."""

import errno
import os
import threading
from pathlib import Path

import pytest

from p2vd.copying import controls
from p2vd.copying.layout import BLOCK
from tests.copying.test_tool import Files


@pytest.mark.parametrize("after", [0, 3, 20])
def test_it_goes_on_when_there_is_space_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], after: int
) -> None:
    files = Files(tmp_path)
    files.make(40 * BLOCK, data=1)
    monkeypatch.setattr(controls, "_NO_SPACE_WAIT_S", 0.6)
    pwritev, left, lock = os.pwritev, [after, 25], threading.Lock()

    def full(fd: int, buffers: list[memoryview], offset: int) -> int:
        """Space for `after` writes; 25 then fail, of which a few take half of what they were given."""
        with lock:
            left[0] -= 1
            if left[0] < 0 and left[1] > 0:
                left[1] -= 1
                if left[1] % 5 == 0:
                    pwritev(fd, [buffers[0][: len(buffers[0]) // 2]], offset)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwritev(fd, buffers, offset)

    monkeypatch.setattr(os, "pwritev", full)
    code, report = files.run()
    assert (code, report["failure"], report["bytes_copied"]) == (0, None, 40 * BLOCK)
    assert left[1] == 0
    assert files.equal()


def test_a_copy_that_fails_while_it_waits_for_space_ends_by_that_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not as one that was stopped and can simply be run again."""
    files = Files(tmp_path)
    files.make(40 * BLOCK, data=1)
    waits, preadv = threading.Event(), os.preadv

    def full(fd: int, data: memoryview, offset: int) -> int:
        waits.set()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def sick(fd: int, buffers: list[memoryview], offset: int) -> int:
        if waits.is_set():
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return preadv(fd, buffers, offset)

    monkeypatch.setattr(os, "pwrite", full)
    monkeypatch.setattr(os, "preadv", sick)
    code, report = files.run("--target-format", "raw.zst")
    assert (code, report["failure"]["name"]) == (2, "ReadFailed")
