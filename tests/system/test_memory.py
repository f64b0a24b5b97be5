"""Threads share one heap where they are told to."""

import subprocess
import sys

import pytest

# glibc's heaps of threads begin at multiples of HEAP_MAX_SIZE (malloc/arena.c), 64 MiB.
_THREADS = """
import threading
from pathlib import Path
from p2vd.system import memory
{call}
barrier, kept = threading.Barrier(8), []
def work():
    barrier.wait()
    kept.append(bytearray(50_000))
    barrier.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
HEAP = ["rw-p", "00000000", "00:00", "0"]
maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
print(sum(int(first.split("-")[0], 16) % (64 << 20) == 0 for first, *rest in maps if rest == HEAP))
"""


def heaps_of_threads(call: str) -> int:
    """How many heaps eight threads made, in a process of their own."""
    words = [sys.executable, "-c", _THREADS.format(call=call)]
    return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def test_threads_share_one_heap() -> None:
    if not heaps_of_threads(""):
        pytest.skip("this C library gives threads no heaps of their own")
    assert heaps_of_threads("memory.one_arena()") == 0
