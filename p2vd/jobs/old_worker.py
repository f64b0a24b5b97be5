"""Finds a process of a job that an earlier daemon left behind, perhaps stuck in the kernel (design: §2)."""

from pathlib import Path

WORKER, VERIFIER = "p2vd.copying.worker", "p2vd.copying.verifier"


def find(job_uuid: str, program: str = WORKER, proc: Path = Path("/proc")) -> int | None:
    """Return the process id of a program that runs for this job, or None: its command line has the UUID."""
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:  # it ended while we looked
            continue
        if program.encode() in words and job_uuid.encode() in words:
            return int(entry.name)
    return None
