"""Compressed sources and targets, as `forms` lists them: opened by name for the tool, else by descriptor."""

import os
from collections.abc import Callable
from pathlib import Path

from p2vd.copying import endpoints
from p2vd.copying.checkpoint import Checkpoint, Header
from p2vd.copying.endpoints import Endpoint
from p2vd.copying.errors import SourceRefused, TargetRefused, UsageError
from p2vd.copying.forms import Asked, Handed, OpenSource, OpenTarget
from p2vd.copying.framed_source import FramedSource
from p2vd.copying.opened import name_of
from p2vd.copying.packed_source import packed_source
from p2vd.copying.packed_target import PackedTarget
from p2vd.copying.packing import packing
from p2vd.copying.store import open_checkpoint
from p2vd.copying.streams import StreamSource
from p2vd.copying.terms import Binding
from p2vd.system import block

_JOB = "p2vd-copy"


def open_source(asked: Asked) -> OpenSource:
    """Open a compressed image by its name. Raises SourceRefused, OpenFailed, UsageError, Interrupted."""
    if asked.bad_sectors:
        raise UsageError(
            "--bad-sectors says nothing of a compressed image: what follows an unreadable place in it cannot "
            "be unpacked. Rescue the file itself first, with --source-format raw."
        )
    form = asked.source_form.format
    path = Path(asked.source)
    if endpoints.is_block(path):
        raise SourceRefused(asked.source, f"it is a device: --source-format {form.value} is for files.")
    file = endpoints.open_file_source(path, direct=False)
    try:
        device = packed_source(file.fd, form, asked.gauge, asked.ended)
    except BaseException:
        os.close(file.fd)
        raise
    endpoint = Endpoint(file.fd, f"{file.id} as {form.value}", device.size_bytes, file.sector_size)
    return OpenSource(endpoint, device)


def handed_source(handed: Handed) -> Callable[[], FramedSource | StreamSource]:
    """A compressed image on a descriptor, of the size that the job says: reading it proves that."""
    form, size = handed.start.source_form.format, handed.start.binding.source_size_bytes
    return lambda: packed_source(handed.fd, form, handed.gauge, handed.ended, size)


def open_target(asked: Asked, source: OpenSource) -> OpenTarget:
    """Create a compressed target by its name, or open the one that this copy created.

    Raises TargetRefused, OpenFailed, UsageError, and what open_checkpoint raises.
    """
    form, path, endpoint = asked.target_form, asked.target, source.endpoint
    if asked.resync:
        raise UsageError(
            f"--resync writes in place, which a {form.format.value} file does not allow: name a new file."
        )
    how = packing(form.format, form.level)
    begun = asked.checkpoint.exists()
    if not begun and os.path.lexists(path):
        endpoints.create_file_target(path, 0, begun=False)  # refuses, and says why
    place = path.parent.resolve() / path.name
    binding = Binding(
        _JOB,
        1,
        endpoint.id,
        endpoint.size_bytes,
        endpoint.sector_size,
        f"{place} as {form.format.value}",
    )
    # The checkpoint first: it proves at the next run that a file found there is ours.
    checkpoint = open_checkpoint(asked.checkpoint, Header(binding, endpoint.size_bytes, asked.digest))
    try:
        file = _file(asked, checkpoint, begun)
        return OpenTarget(PackedTarget(file.fd, str(place), checkpoint, how, asked.gauge), checkpoint)
    except BaseException:
        checkpoint.close()
        raise


def _file(asked: Asked, checkpoint: Checkpoint, begun: bool) -> Endpoint:
    known = checkpoint.header.target_file
    if known:
        return endpoints.open_file_target(asked.target, -1, known, direct=False)
    file = endpoints.create_file_target(asked.target, 0, begun=begun, direct=False)
    checkpoint.commit(target_file=file.id)
    return file


def handed_target(handed: Handed) -> Callable[[], PackedTarget]:
    """A compressed target on the descriptor of a file that was created, empty, for this job.

    What is returned raises TargetRefused for another file, and for one that is not empty though this job
    has written nothing yet: bytes of somebody else would be cut off.
    """
    form, checkpoint = handed.start.target_form, handed.checkpoint
    if checkpoint is None:
        raise ValueError("a target is asked for before its checkpoint is open")
    how, name = packing(form.format, form.level), name_of(handed.fd)

    def made() -> PackedTarget:
        found, known = block.file_id(handed.fd), checkpoint.header.target_file
        if known not in ("", found):
            raise TargetRefused(name, "it is another file than the one that this job began with.")
        if not known:
            if os.fstat(handed.fd).st_size:
                raise TargetRefused(name, "it is not empty, and this job has written nothing to it.")
            checkpoint.commit(target_file=found)
        return PackedTarget(handed.fd, name, checkpoint, how, handed.gauge)

    return made
