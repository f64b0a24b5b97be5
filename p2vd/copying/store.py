"""Where the checkpoint of a copy comes from."""

from dataclasses import replace
from pathlib import Path

from p2vd.copying.checkpoint import Checkpoint, Header
from p2vd.copying.errors import CheckpointMissing, CheckpointUnwritable


def open_checkpoint(
    path: Path, header: Header, *, must_exist: bool = False, any_pass: bool = False
) -> Checkpoint:
    """Open the checkpoint at `path`, made from `header` where there is none, and compare them.

    `any_pass`: whichever pass over the source it is in, not only the one of `header`.
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
        binding = header.binding
        if any_pass:
            binding = replace(binding, generation=checkpoint.header.binding.generation)
        checkpoint.require(binding, header.target_bytes, header.digest)
    except BaseException:
        checkpoint.close()
        raise
    return checkpoint
