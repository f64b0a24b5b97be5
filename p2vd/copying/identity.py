"""What names a source that has no WWID to ask its paths for, read again from an open descriptor.

Sysfs is asked by the device number of the descriptor: a name can come to mean another disk, it cannot.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from p2vd.copying.opening import SourceToOpen
from p2vd.model.disk import Transport, md_uuid
from p2vd.model.errors import IdentityChanged
from p2vd.model.inquiry import clean_inquiry
from p2vd.system import block
from p2vd.system.command import Commands


def check_identity(commands: Commands, source: SourceToOpen, fd: int, sysfs: Path = block.SYSFS) -> None:
    """See that `fd` (O_PATH suffices) is the source that is meant; a LUN's WWID is asked elsewhere.

    Raises IdentityChanged, CommandFailed, CommandTimedOut, OSError.
    """
    for what, expected, found in _identities(commands, source, fd, sysfs):
        if expected != found:
            raise IdentityChanged(source.devnode, what, expected or "none", found or "none")


def _identities(
    commands: Commands, source: SourceToOpen, fd: int, sysfs: Path
) -> Iterator[tuple[str, str, str]]:
    match source.transport:
        case Transport.VIRTIO:
            yield "serial number", source.id, f"virtio-{clean_inquiry(block.attribute(fd, 'serial', sysfs))}"
        case Transport.NVME if not source.path_devices:
            yield "WWID", source.wwid, clean_inquiry(block.attribute(fd, "wwid", sysfs))
        case Transport.MD:
            answer = commands.query(["mdadm", "--detail", "--export", source.devnode], timeout_s=15).stdout
            with contextlib.suppress(ValueError):
                yield "array's UUID", source.id, f"md-{md_uuid(answer)}"
                return
            yield "array's UUID", source.id, ""
        case Transport.LOOP:
            backing = block.attribute(fd, "loop/backing_file", sysfs).decode("utf-8", "replace")
            backing = backing.removesuffix("\n")
            yield "image", source.id, backing
            yield "image's file", source.file_id, _file_id(backing)
        case Transport.IMAGE:
            yield "file", source.file_id, block.file_id(fd)
        case _:
            return


def _file_id(path: str) -> str:
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        return block.file_id(fd)
    finally:
        os.close(fd)
