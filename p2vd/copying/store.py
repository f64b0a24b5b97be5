"""Where the checkpoint of a copy comes from."""

from pathlib import Path

from p2vd.copying.checkpoint import Checkpoint, Header
from p2vd.copying.errors import CheckpointMissing, CheckpointUnwritable


def open_checkpoint(path: Path, header: Header, *, must_exist: bool = False) -> Checkpoint:
    """Open the checkpoint at `path`, made from `header` where there is none, and compare them.

    Raises CheckpointMissing, CheckpointMismatch and what Checkpoint.open raises.
    """
    try:
        if not path.exists():
            if must_exist:
                raise CheckpointMissing(str(path))
            Checkpoint.create(path, header)
        checkpoint = Checkpoint.open(path)
    except OSError as error:
        raise CheckpointUnwritable(str(path), error.strerror or str(error)) from error
    try:
        checkpoint.require(header.binding, header.target_bytes, header.digest)
    except BaseException:
        checkpoint.close()
        raise
    return checkpoint
