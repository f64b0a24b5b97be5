"""What names a disk: WWIDs as multipath writes them, serials from INQUIRY. Pure.

Grammar of Python 3.6: p2vd-collect has it too.
"""

import re

from p2vd.model.inquiry import clean_inquiry

# scsi_id and multipath put the type of the page 83 designator in front of it.
_SCSI_PREFIXES = {"naa.": "3", "eui.": "2"}

# The characters that scsi_id leaves in an identifier (systemd: udev_replace_chars).
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9#+\-.:=@_/]")


def scsi_wwid(sysfs_wwid: str) -> str:
    """Return a SCSI disk's `device/wwid` of sysfs as scsi_id and multipath name it, "" for none.

    `naa.6001` -> `36001`, `eui.0025` -> `20025`, `t10.ATA  X  1` -> `1ATA_X_1`.
    """
    text = sysfs_wwid.strip(" \n\0")
    for prefix, digit in _SCSI_PREFIXES.items():
        if text.startswith(prefix):
            return digit + text[len(prefix) :]
    if text.startswith("t10."):
        words = clean_inquiry(text[len("t10.") :]).split()
        return "1" + _NOT_PLAIN.sub("_", "_".join(words))
    return ""


def same_designator(one: str, other: str) -> bool:
    """Whether two WWIDs are of the same type, so that a difference means two disks."""
    return bool(one) and bool(other) and one[0] == other[0]


def vpd_serial(page_80: bytes) -> str:
    """Return the unit serial number of a VPD page 0x80 as sysfs gives it, cleaned."""
    if len(page_80) < 4:
        return ""
    length = int.from_bytes(page_80[2:4], "big")
    return clean_inquiry(page_80[4 : 4 + length])
