"""A process of a job that an earlier daemon left behind is found, whatever became of it."""

import contextlib
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2vd.jobs import old_worker
from p2vd.jobs.control import MustWait
from p2vd.model.job import Hold

LONG_S = 60.0
JOB = "7f3f1d8e-1d1d-4c39-8d3b-6d0c5a1f2e90"
# As a worker that was killed while a thread of it is stuck in the kernel: that thread alone is left. Here
# it is left because the first thread alone has exited, which is what exit(2), the bare system call, does.
HEADLESS = """
import ctypes, os, sys, threading

def stay():
    os.read(0, 1)
    os._exit(0)

threading.Thread(target=stay).start()
ctypes.CDLL(None).syscall(int(sys.argv[1]), 0)
"""
EXIT = {"x86_64": 60, "aarch64": 93}


def test_an_old_worker_is_found_by_its_job(tmp_path: Path) -> None:
    for pid, words in {
        "100": b"/usr/bin/python3\0-m\0p2vd.copying.worker\0--daemon\0" + b"3\0--job\0other\0",
        "200": b"/usr/bin/python3\0-m\0p2vd.copying.worker\0--daemon\0" + b"3\0--job\0mine\0",
        "300": b"less\0mine\0",
        "400": b"/usr/bin/python3\0-m\0p2vd.copying.verifier\0--channel\0" + b"3\0--verify\0mine\0",
        "self": b"",
    }.items():
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "cmdline").write_bytes(words)
    assert old_worker.find("mine", proc=tmp_path) == 200
    assert old_worker.find("mine", old_worker.VERIFIER, tmp_path) == 400
    assert old_worker.find("other", old_worker.VERIFIER, tmp_path) is None
    assert old_worker.find("gone", proc=tmp_path) is None


def test_what_ends_meanwhile_hides_none_of_its_other_threads(tmp_path: Path) -> None:
    """Neither the first thread, whose command line cannot be read then, nor any other."""
    for thread in range(200, 209):
        (tmp_path / f"200/task/{thread}").mkdir(parents=True)
    stuck = b"/usr/bin/python3\0-m\0p2vd.copying.worker\0--daemon\0" + b"3\0--job\0mine\0"
    (tmp_path / "200/task/204/cmdline").write_bytes(stuck)
    (tmp_path / "300").mkdir()
    assert old_worker.find("mine", proc=tmp_path) == 200


@contextlib.contextmanager
def headless(program: str) -> Iterator[int]:
    """A process whose first thread has ended, and another not; yields its id."""
    words = [sys.executable, "-c", HEADLESS, str(EXIT[platform.machine()]), program, "--job", JOB]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as process:
        try:
            stat = Path(f"/proc/{process.pid}/stat")
            ends = time.monotonic() + LONG_S
            while stat.read_text().rpartition(")")[2].split()[0] != "Z":
                assert time.monotonic() < ends
                time.sleep(0.01)
            yield process.pid
        finally:
            process.communicate()


@pytest.mark.skipif(platform.machine() not in EXIT, reason="the number of exit(2) is not known here")
@pytest.mark.parametrize("program", [old_worker.WORKER, old_worker.VERIFIER])
def test_one_whose_first_thread_has_ended_is_found_too(program: str) -> None:
    with headless(program) as pid:
        assert Path(f"/proc/{pid}/cmdline").read_bytes() == b""
        assert old_worker.find(JOB, program) == pid
        assert old_worker.find("another", program) is None
    assert old_worker.find(JOB, program) is None


@pytest.mark.skipif(platform.machine() not in EXIT, reason="the number of exit(2) is not known here")
def test_while_one_lives_the_job_waits() -> None:
    with headless(old_worker.WORKER) as pid, pytest.raises(MustWait, match=f"worker {pid} ") as held:
        old_worker.hold_while_one_lives(JOB)
    assert held.value.hold is Hold.OLD_WORKER
    old_worker.hold_while_one_lives(JOB)
