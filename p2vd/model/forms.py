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


class SourceFormat(enum.Enum):
    """How a file holds the disk that is to be copied."""

    RAW = "raw"
    GZ = "gz"
    ZST = "zst"
    XZ = "xz"
    QCOW2 = "qcow2"
    VMDK = "vmdk"
    VHDX = "vhdx"
    VDI = "vdi"
    VPC = "vpc"


class Compression(enum.Enum):
    """How the clusters of a qcow2 file are compressed. `zstd` needs QEMU 5.1 or later to read it."""

    NONE = "none"
    ZLIB = "zlib"
    ZSTD = "zstd"
