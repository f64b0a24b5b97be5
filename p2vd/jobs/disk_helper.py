"""What looks at disks for the daemon, in a process that it can do without, and what it is asked."""

from collections.abc import Callable
from typing import Protocol

from p2vd.discovery.examining import ExamineReply, ExamineRequest
from p2vd.model.disk import Source


class Helper(Protocol):
    """What looks at disks: jobs.examiner_helper is one, tests have another."""

    def examine(self, request: ExamineRequest, keep_waiting: Callable[[float], bool]) -> ExamineReply:
        """Return what is on a disk. Raises TimeoutError, EOFError (not started, or ended), ValueError."""
        ...

    @property
    def alive(self) -> bool:
        """Whether it still exists."""
        ...

    def close(self) -> None:
        """Let it end."""
        ...

    def kill(self) -> None:
        """End it now; from any thread."""
        ...


def key_of(source: Source) -> tuple[str | int, ...]:
    """What of a source makes it another disk, or the same one to be looked at again."""
    return (
        *(source.id, source.size_bytes, source.sector_size, source.devnode, source.dm_uuid),
        *(source.file_id, source.modified_us),
    )


def request_of(source: Source) -> ExamineRequest:
    """Return the request to look at what is on a source."""
    return ExamineRequest(
        devnode=f"/dev/mapper/{source.name}" if source.dm_uuid else source.devnode,
        size_bytes=source.size_bytes,
        sector_size=source.sector_size,
        dm_uuid=source.dm_uuid,
        scsi_paths=tuple(path.device for path in source.paths if path.device.startswith("sd")),
        format=source.format,
        file_id="" if source.is_plain else source.file_id,
        export=source.export,
    )
