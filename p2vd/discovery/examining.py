"""What the daemon asks of the helper that looks at a disk's contents, and what it answers. Pure.

The helper is disposable: reading a sick disk can hang, so the daemon waits for each answer no longer
than a deadline and then goes on without it. It answers one request after the other until the
channel is closed. What it answers is believed only where it can be so.
"""

from dataclasses import dataclass

from p2vd.model.contents import Contents, Examination
from p2vd.model.fill import ZeroSample
from p2vd.model.forms import SourceFormat
from p2vd.model.nbd import NbdExport

READY = {"ready": True}
"""What the helper says first, once it has started."""


@dataclass(frozen=True)
class ExamineRequest:
    """A source as discovery saw it. `scsi_paths` (`sda`) are asked for reservations; an image has none.

    `sample_blocks`: so many blocks of `block_bytes` are read in random places instead, to look for zeros.
    `format`: how the image file `devnode`, which is `file_id`, holds the disk. `export`: where it is served;
    `file_id` then are the digests of its first and last MiB.
    """

    devnode: str
    size_bytes: int
    sector_size: int
    dm_uuid: str = ""
    scsi_paths: tuple[str, ...] = ()
    sample_blocks: int = 0
    block_bytes: int = 0
    format: SourceFormat = SourceFormat.RAW
    file_id: str = ""
    export: NbdExport | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the bytes of a file or device of this host are the disk's."""
        return self.format is SourceFormat.RAW and self.export is None


@dataclass(frozen=True)
class ExamineReply:
    """The contents, or the sample that was asked for, or why they could not be read.

    `examination`: what it means that there are none: `failed`, `silent`, or `no`, for a disk of which nothing
    can be known before its copy.
    """

    contents: Contents | None = None
    problem: str = ""
    sample: ZeroSample | None = None
    examination: Examination = Examination.FAILED


def sample_of(reply: ExamineReply, request: ExamineRequest) -> ZeroSample:
    """Return the sample that `request` asked for. Raises ValueError: its problem, or what is odd."""
    found = reply.sample
    if reply.problem or found is None:
        raise ValueError(reply.problem or "the helper gave no sample.")
    blocks = -(-request.size_bytes // request.block_bytes)
    for name, fits in (
        ("block_bytes", found.block_bytes == request.block_bytes),
        ("blocks", found.blocks == blocks),
        ("hole_blocks", 0 <= found.hole_blocks <= blocks),
        ("sampled", found.sampled == min(request.sample_blocks, blocks - found.hole_blocks)),
        ("with_data", 0 <= found.with_data <= found.sampled),
    ):
        if not fits:
            raise ValueError(f"the helper's sample cannot be: {name} is {getattr(found, name)}.")
    return found
