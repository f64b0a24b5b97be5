"""The forms that a disk can have, as a source and as a target."""

import enum


class TargetKind(enum.Enum):
    """Where a disk goes: a logical volume, a whole LUN, or a file in a directory."""

    LV = "lv"
    LUN = "lun"
    FILE = "file"


class TargetFormat(enum.Enum):
    """How a file holds a disk: byte for byte, in compressed frames, or as qcow2."""

    RAW = "raw"
    RAW_ZST = "raw.zst"
    RAW_GZ = "raw.gz"
    QCOW2 = "qcow2"
