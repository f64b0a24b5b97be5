"""Undo points: what room the snapshot of a volume takes, asked by a plan and when one is made."""

from p2vd.model.size import GIB, KIB, round_up

CHUNK_BYTES = 64 * KIB
_RECORD_BYTES = 16  # dm-snap-persistent.c: struct disk_exception, one for each chunk that was written

THIN_ROOM_BYTES = 2 * GIB
"""What a pool shall have free before a guest is converted: the initramfs, the drivers and the agents that
virt-v2v(1) writes take some hundreds of MiB, and each chunk that it touches is written anew."""


def thick_undo_bytes(size_bytes: int, extent_size_bytes: int) -> int:
    """Return the size of a thick snapshot that holds every chunk of the volume, and the records of them."""
    chunks = size_bytes // CHUNK_BYTES + 2
    records = round_up(chunks * _RECORD_BYTES, CHUNK_BYTES) + 2 * CHUNK_BYTES
    return round_up(size_bytes + records, extent_size_bytes)


def thin_undo_bytes(size_bytes: int) -> int:
    """Return what a pool shall have free for a thin volume that is converted over a snapshot."""
    return min(size_bytes, THIN_ROOM_BYTES)
