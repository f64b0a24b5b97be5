"""Waiting for what comes by itself, and only tests ask for: with a bound that nothing whole ever reaches."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Seen = TypeVar("Seen")


def until(
    probe: Callable[[], Seen], what: str = "", *, within_s: float = 60.0, every_s: float = 0.02
) -> Seen:
    """Ask `probe` until it returns something true, and return that; else the test fails, and says `what`."""
    deadline_s = time.monotonic() + within_s
    while not (seen := probe()):
        assert time.monotonic() < deadline_s, what or f"it did not happen in {within_s:g} s"
        time.sleep(every_s)
    return seen


def state(pid: int) -> str:
    """The letter that proc(5) has for the state of a process; empty where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def runs(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for yet does not."""
    return state(pid) not in ("", "Z", "X")


def until_stopped(pid: int) -> None:
    """Wait until SIGSTOP has stopped a process: of a SIGTERM that comes before, it would end."""
    until(lambda: state(pid) == "T", f"process {pid} is not stopped")


def until_ended(pid: int) -> None:
    """Wait until a process has ended: the kernel ends it once it gets a processor."""
    until(lambda: not runs(pid), f"process {pid} still runs")
