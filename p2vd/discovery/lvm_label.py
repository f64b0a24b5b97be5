"""The name of the volume group that a physical volume belongs to, from its label. Pure, bounded reads.

LVM itself cannot be asked: the PV may lie in a partition, which has no device of its own, and p2vd
shows LVM no guest's disk. Layout: lvm2's lib/format_text/layout.h and lib/label/label.h.
"""

import re
import struct
from collections.abc import Callable

_LABEL_SECTORS = 4
_SECTOR = 512
_LABEL = b"LABELONE"
_TYPE = b"LVM2 001"
_MDA_MAGIC = b" LVM2 x[5A%r0N*>"
_MAX_AREAS = 16
# The text begins with `NAME {`; a name has at most 127 characters.
_TEXT_BYTES = 512
_NAME = re.compile(rb"([a-zA-Z0-9+_.][a-zA-Z0-9+_.-]{0,126}) \{")


def read_volume_group(read: Callable[[int, int], bytes]) -> str:
    """Return the VG's name, "" for a PV in none or a label that is not understood. May raise OSError."""
    head = read(0, _LABEL_SECTORS * _SECTOR)
    for start in range(0, len(head), _SECTOR):
        sector = head[start : start + _SECTOR]
        if sector[:8] == _LABEL and sector[24:32] == _TYPE and len(sector) == _SECTOR:
            return _from_label(read, sector)
    return ""


def _from_label(read: Callable[[int, int], bytes], sector: bytes) -> str:
    (header,) = struct.unpack_from("<I", sector, 20)
    if header + 40 > _SECTOR:
        return ""
    areas = list(struct.iter_unpack("<QQ", sector[header + 40 : _SECTOR - (_SECTOR - header - 40) % 16]))
    ends = [index for index, area in enumerate(areas) if area == (0, 0)]
    # Two lists, each ended by zeros: where the data are, then where the metadata are.
    metadata = areas[ends[0] + 1 : ends[1]] if len(ends) >= 2 else []
    for offset, size in metadata[:_MAX_AREAS]:
        if name := _from_area(read, offset, size):
            return name
    return ""


def _from_area(read: Callable[[int, int], bytes], offset: int, size: int) -> str:
    header = read(offset, _SECTOR)
    if len(header) < _SECTOR or header[4:20] != _MDA_MAGIC:
        return ""
    (text_offset,) = struct.unpack_from("<Q", header, 40)
    if not _SECTOR <= text_offset < size:
        return ""
    match = _NAME.match(read(offset + text_offset, _TEXT_BYTES))
    return match.group(1).decode("ascii") if match else ""
