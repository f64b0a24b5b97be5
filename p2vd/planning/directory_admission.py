"""How much each copy may still take of a filesystem, so that p2vd never fills it (design: §4.10)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from p2vd.model.errors import Reason
from p2vd.model.size import KIB, TIB, format_size
from p2vd.planning.admission import Admission, Demand, PoolNumbers, admit

_ENDLESS = 1024 * 1024 * TIB
"""What a filesystem keeps its books in is its own affair, and shows in what is free."""


@dataclass(frozen=True)
class Space:
    """A filesystem at one moment; `free_bytes`: what p2vd's user may take of it. `id`: which one it is."""

    id: str
    total_bytes: int
    free_bytes: int


def admit_files(space: Space, directory: str, demands: Sequence[Demand]) -> Admission:
    """Return the credit of each copy into files of a filesystem; see `admission.admit`."""
    numbers = PoolNumbers(
        total_data_bytes=space.total_bytes,
        used_data_bytes=space.total_bytes - space.free_bytes,
        total_metadata_bytes=_ENDLESS,
        used_metadata_bytes=0,
        chunk_size_bytes=64 * KIB,
    )
    admission = admit(numbers, directory, demands)
    if admission.reason is None:
        return admission
    reserve = max(demand.reserve_percent for demand in demands)
    text = (
        f"The filesystem of {directory} lets copies take {format_size(admission.free_bytes)} more before its "
        f"reserve of {reserve} %, and has {format_size(space.free_bytes)} free. Make room or enlarge it: the "
        "copy goes on by itself."
    )
    return replace(admission, reason=Reason("directory-short", text))
