"""One directory, one process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from p2vd.system.exclusive import DirectoryTaken, DirectoryUnusable, Exclusive


def test_a_second_one_is_told_who_has_it(tmp_path: Path) -> None:
    held = Exclusive(tmp_path / "state")
    with pytest.raises(
        DirectoryTaken, match=rf"Another p2vd \(process {os.getpid()}\) uses {tmp_path}/state"
    ):
        Exclusive(tmp_path / "state")
    held.release()
    Exclusive(tmp_path / "state").release()


def test_it_is_free_when_its_process_is_gone_however_that_ended(tmp_path: Path) -> None:
    code = "import os, sys; from pathlib import Path; from p2vd.system.exclusive import Exclusive\n"
    code += "held = Exclusive(Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == -9
    Exclusive(tmp_path).release()


def test_a_child_does_not_hold_it(tmp_path: Path) -> None:
    """A worker that hangs in the kernel outlives its daemon, and must not keep out the next one."""
    held = Exclusive(tmp_path)
    code = "import sys; print('runs', flush=True); sys.stdin.read()"
    argv = [sys.executable, "-c", code]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"runs\n"
        held.release()
        Exclusive(tmp_path).release()
        child.communicate(b"")
    assert child.returncode == 0


def test_one_that_cannot_be_opened_is_not_told_as_taken(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to("/etc/passwd")
    with pytest.raises(DirectoryUnusable, match="symbolic links"):
        Exclusive(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(DirectoryUnusable, match="file"):
        Exclusive(tmp_path / "file")
