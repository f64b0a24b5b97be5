"""Loop devices for tests that want a block device."""

import os
import subprocess
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest


@cache
def why_not() -> str:
    """Why this machine has no loop devices for us; empty: it has."""
    if os.geteuid() != 0:
        return "loop devices need root"
    try:
        free = subprocess.run(["losetup", "--find"], capture_output=True, text=True, check=False)
    except OSError as error:
        return f"losetup: {error}"
    return "" if free.returncode == 0 else f"losetup: {free.stderr.strip()}"


needs_loop = pytest.mark.skipif(bool(why_not()), reason=why_not())


class Loop:
    """A loop device upon a new sparse file, as a context."""

    def __init__(self, backing: Path, size_bytes: int, sector_size: int = 512):
        self.backing = backing
        self._sector_size = sector_size
        self.device = ""
        with backing.open("xb") as file:
            file.truncate(size_bytes)

    def __enter__(self) -> Self:
        words = ["losetup", "--find", "--show", "--direct-io=on", f"--sector-size={self._sector_size}"]
        done = subprocess.run([*words, str(self.backing)], capture_output=True, text=True, check=True)
        self.device = done.stdout.strip()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        subprocess.run(["losetup", "--detach", self.device], check=True)
