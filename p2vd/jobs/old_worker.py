"""Finds a worker that an earlier daemon left behind, perhaps stuck in the kernel (design: §2)."""

from pathlib import Path


def find(job_uuid: str, proc: Path = Path("/proc")) -> int | None:
    """Return the process id of a worker of this job, or None. Its command line carries the job's UUID."""
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:  # it ended while we looked
            continue
        if b"p2vd.copying.worker" in words and job_uuid.encode() in words:
            return int(entry.name)
    return None
