"""Finds a process of a job that an earlier daemon left behind, perhaps stuck in the kernel (design: §2)."""

from collections.abc import Iterator
from pathlib import Path

from p2vd.jobs.control import MustWait
from p2vd.model.job import Hold

WORKER, VERIFIER = "p2vd.copying.worker", "p2vd.copying.verifier"


def find(job_uuid: str, program: str = WORKER, proc: Path = Path("/proc")) -> int | None:
    """Return the process id of a program that runs for this job, or None: its command line has the UUID."""
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        words = next((raw.split(b"\0") for raw in _command_lines(entry) if raw), [])
        if program.encode() in words and job_uuid.encode() in words:
            return int(entry.name)
    return None


def hold_while_one_lives(job_uuid: str) -> None:
    """Raise MustWait while a worker of the job lives: it is the fence, and there is never a second writer."""
    if (pid := find(job_uuid)) is not None:
        raise MustWait(
            Hold.OLD_WORKER, f"worker {pid} of an earlier run still holds the devices, perhaps in the kernel"
        )


def _command_lines(process: Path) -> Iterator[bytes]:
    """Yield the command line of a process as it has it, then as its threads have it.

    A killed process whose one thread is stuck in the kernel has a first thread that is a zombie: that has
    no memory any more and so no command line (proc(5)), and the process has the devices open all the same.
    """
    yield _read(process / "cmdline")
    try:
        threads = list((process / "task").iterdir())
    except OSError:
        return
    for thread in threads:
        yield _read(thread / "cmdline")


def _read(file: Path) -> bytes:
    """Return what is in a file; nothing where its thread has ended while we looked: others need not have."""
    try:
        return file.read_bytes()
    except OSError:
        return b""
