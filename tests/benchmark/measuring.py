"""One run of one tool: wall, CPU, memory, bytes; and what else the machine did meanwhile."""

import os
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

_POLL_MS = 25
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class ToolFailed(Exception):
    """A tool ended with another exit status than 0: its time says nothing."""


@dataclass(frozen=True)
class Measure:
    """What one run cost.

    `cpu_s`: user and system time of the process and of the children it waited for; the kernel's own
    threads (those of loop devices) are nobody's. `rss_bytes`: VmHWM, the most that was ever resident,
    shared libraries included. `read_bytes`, `written_bytes`: what the process itself had the block
    layer read and write. `figures`: what a row measured besides.
    """

    wall_s: float
    cpu_s: float = 0.0
    rss_bytes: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    figures: Mapping[str, float] = field(default_factory=dict)


class Process:
    """A tool that runs, as a context: it does not outlive it. Its output goes to `log`."""

    def __init__(self, words: Sequence[str], log: Path, stdout: int | None = None):
        self.words = words
        self._log = log
        self._rss_bytes = 0
        with log.open("wb") as output:
            self._started = time.monotonic()
            self.child = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=output if stdout is None else stdout,
                stderr=output,
                env={**os.environ, "LC_ALL": "C"},
            )
        self._pidfd = os.pidfd_open(self.child.pid)
        self._poll = select.poll()
        self._poll.register(self._pidfd, select.POLLIN)

    def running(self, timeout_ms: int = _POLL_MS) -> bool:
        """Wait that long for its end; note how much memory it has had."""
        ended = bool(self._poll.poll(timeout_ms))
        if not ended:
            self._rss_bytes = max(self._rss_bytes, _high_water(self.child.pid))
        return not ended

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.child.returncode is None:
            self.child.kill()
            self.child.wait()
        if self.child.stdout is not None:
            self.child.stdout.close()
        os.close(self._pidfd)

    def end(self, ok: Sequence[int] = (0,)) -> Measure:
        """Wait for its end. Raises ToolFailed, with what it said, where its exit status is not in `ok`."""
        while self.running():
            pass
        wall_s = time.monotonic() - self._started
        # wait4 and not RUSAGE_CHILDREN: it is of this child alone. Its ru_maxrss cannot be used, a child
        # inherits the peak of the process that forked it, which is this one.
        _, status, usage = os.wait4(self.child.pid, 0)
        self.child.returncode = os.waitstatus_to_exitcode(status)
        if self.child.returncode not in ok:
            said = self._log.read_text(errors="replace").strip()[-500:]
            raise ToolFailed(f"{' '.join(self.words)}: exit status {self.child.returncode}: {said}")
        # In units of 512 bytes, whatever the sector size.
        read_bytes, written_bytes = usage.ru_inblock * 512, usage.ru_oublock * 512
        cpu_s = usage.ru_utime + usage.ru_stime
        return Measure(wall_s, cpu_s, self._rss_bytes, read_bytes, written_bytes)


def measured(words: Sequence[str], log: Path, ok: Sequence[int] = (0,)) -> Measure:
    """Run a tool to its end. Raises ToolFailed."""
    with Process(words, log) as process:
        return process.end(ok)


def _high_water(pid: int) -> int:
    """VmHWM of a process in bytes; 0: it is gone. It never falls, so the last look is the right one."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return int(lines["VmHWM"].split()[0]) * 1024 if "VmHWM" in lines else 0


@dataclass(frozen=True)
class Load:
    """How busy the machine was over a time. Shares are of all processors.

    `others`: not of the tools that were measured and not idle: other programs, but also the kernel's
    own work for these tools (loop devices, the filesystem below).
    """

    average: float
    others: float
    stolen: float

    def __str__(self) -> str:
        return (
            f"load average {self.average:.1f}, others {self.others:.0%} of the CPU, stolen {self.stolen:.0%}"
        )


class Watch:
    """Reads /proc/stat at two moments."""

    def __init__(self) -> None:
        self._before = _cpu_seconds()
        self._own = _own_cpu_seconds()

    def load(self) -> Load:
        """How busy the machine was since the watch was made."""
        total, busy, stolen = (now - then for now, then in zip(_cpu_seconds(), self._before, strict=True))
        own = _own_cpu_seconds() - self._own
        if total <= 0:
            return Load(os.getloadavg()[0], 0.0, 0.0)
        return Load(os.getloadavg()[0], max(0.0, busy - own) / total, stolen / total)


def _cpu_seconds() -> tuple[float, float, float]:
    """Seconds of all processors since boot: all, busy, stolen by the hypervisor (proc(5))."""
    words = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    user, nice, system, idle, iowait, irq, softirq, steal = (int(word) / _TICKS_PER_S for word in words)
    busy = user + nice + system + irq + softirq
    return busy + idle + iowait + steal, busy, steal


def _own_cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
