"""What a guest's conversion needs beside its disks: room for undo points. Pure."""

from collections.abc import Iterator, Sequence

from p2vd.model.errors import Reason
from p2vd.model.size import format_size
from p2vd.model.undo import thick_undo_bytes, thin_undo_bytes
from p2vd.planning.disk import Draft
from p2vd.planning.targets import LvChoice


def undo_reasons(drafts: Sequence[Draft]) -> Iterator[Reason]:
    """Yield which volume groups and pools have no room for the undo points of these disks (field: §3.7).

    A thick one is as large as its volume; of a thin one the pool takes what is written over it. They are made
    after the copy, and refused then too where others took the room meanwhile; but hours of copying shall not
    end in what could be known before. What copies may take of a pool is no reason: they seldom take all.
    """
    thick = [choice for choice in _volumes(drafts) if choice.pool is None]
    # The last disk of a group sees what those before it take.
    for last in {choice.vg.uuid: choice for choice in thick}.values():
        vg = last.vg
        sizes = [choice.size_bytes for choice in thick if choice.vg.uuid == vg.uuid]
        wanted = sum(thick_undo_bytes(size, vg.extent_size_bytes) for size in sizes)
        free = max(0, vg.free_bytes - last.size_bytes)
        if wanted > free:
            yield Reason(
                "vg-undo-short",
                f"To convert the guest its volumes in {vg.name} get undo points of {format_size(wanted)} for "
                f"the time; beside the volumes themselves {format_size(free)} are free. Add a PV (vgextend), "
                'or write domain.conversion = "none".',
            )

    thin = [(choice, choice.pool) for choice in _volumes(drafts) if choice.pool is not None]
    for vg, pool in {pool.uuid: (choice.vg, pool) for choice, pool in thin}.values():
        wanted = sum(thin_undo_bytes(choice.size_bytes) for choice, own in thin if own.uuid == pool.uuid)
        free = max(0, pool.size_bytes - pool.used_bytes + pool.reserved_bytes)
        if wanted > free:
            yield Reason(
                "pool-undo-short",
                f"To convert the guest over undo points, the thin pool {vg.name}/{pool.name} shall have "
                f"{format_size(wanted)} free; now {format_size(free)} of {format_size(pool.size_bytes)} are. "
                f"Extend it (lvextend -L +SIZE {vg.name}/{pool.name}), or write "
                'domain.conversion = "none".',
            )


def undo_warnings(drafts: Sequence[Draft]) -> Iterator[str]:
    """Yield which pools may have too little left when the guest is converted."""
    for choice in _volumes(drafts):
        if choice.pool is None:
            continue
        wanted = thin_undo_bytes(choice.size_bytes)
        if choice.pool.size_bytes - choice.pool.used_bytes - choice.worst_case_bytes < wanted:
            yield (
                f"If the copy takes all that it may, the pool {choice.vg.name}/{choice.pool.name} has not "
                f"the {format_size(wanted)} free that the conversion of {choice.lv_name} shall find: the "
                "machine stays ready until the pool is extended."
            )


def _volumes(drafts: Sequence[Draft]) -> list[LvChoice]:
    """Return the volumes among the targets: others have no undo points, and are refused for that."""
    return [each.choice for each in drafts if isinstance(each.choice, LvChoice)]
