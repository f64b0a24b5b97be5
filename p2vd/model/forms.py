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


IMAGE_NAMES = {
    ".img": SourceFormat.RAW,
    ".raw": SourceFormat.RAW,
    ".gz": SourceFormat.GZ,
    ".zst": SourceFormat.ZST,
    ".xz": SourceFormat.XZ,
    ".qcow2": SourceFormat.QCOW2,
    ".vmdk": SourceFormat.VMDK,
    ".vhdx": SourceFormat.VHDX,
    ".vdi": SourceFormat.VDI,
    ".vhd": SourceFormat.VPC,
}
"""How the name of an image file ends, by which its administrator says what it is: nothing is guessed."""

PACKED = (SourceFormat.GZ, SourceFormat.ZST, SourceFormat.XZ)
"""Compressed images: of these not all tell the size of the disk."""

PACKED_BEGINNINGS = {
    b"\x1f\x8b\x08": SourceFormat.GZ,
    b"\x28\xb5\x2f\xfd": SourceFormat.ZST,
    b"\xfd7zXZ\x00": SourceFormat.XZ,
    # A skippable frame, as pzstd begins.
    **{bytes((number, 0x2A, 0x4D, 0x18)): SourceFormat.ZST for number in range(0x50, 0x60)},
}
"""How compressed files begin: RFC 1952, RFC 8878, and the specification of .xz."""

QEMU_IMAGES = tuple(each for each in SourceFormat if each not in (SourceFormat.RAW, *PACKED))
"""Images of virtual machines, which QEMU's tools read, and lock."""

PACKED_TARGETS = (TargetFormat.RAW_ZST, TargetFormat.RAW_GZ)
"""Compressed files: what one takes is not known before it is written, and QEMU reads none."""

SIZE_UNKNOWN = -1
"""The size of a disk that nothing tells but reading its image to the end."""


class Compression(enum.Enum):
    """How the clusters of a qcow2 file are compressed. `zstd` needs QEMU 5.1 or later to read it."""

    NONE = "none"
    ZLIB = "zlib"
    ZSTD = "zstd"
