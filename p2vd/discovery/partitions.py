"""Partition tables and signatures: what util-linux's tools say, and what sector 0 says besides. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from p2vd.model.contents import BootStyle, Partition, Signature, Table
from p2vd.model.errors import P2vdError
from p2vd.model.inquiry import clean_inquiry

PARTX_COLUMNS = "NR,START,SIZE,NAME,TYPE,FLAGS"
GPT, PROTECTIVE = "gpt", "PMBR"
"""libblkid's names of a GPT, and of a protective MBR without one that it accepts."""

_GPT_MAGIC = b"EFI PART"
_SECTOR_SIZES = (512, 4096)
_SECTOR = 512  # partx counts in these, whatever the disk's sectors are
_PAIR = re.compile(r'(\w+)="([^"]*)"')
_ESCAPED = re.compile(rb"\\x([0-9a-fA-F]{2})")

_ESP = ("c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "0xef")
_BIOS_BOOT = "21686148-6449-6e6f-744e-656564454649"
_LEGACY_BOOT = 1 << 2  # UEFI: attribute bit 2 of a GPT entry, "legacy BIOS bootable"
_EXTENDED = ("0x5", "0xf", "0x85")
_PROTECTIVE = 0xEE

_BOOT_CODE_BYTES = 440
_MBR_ENTRIES = 446
_ACTIVE = 0x80


@dataclass(eq=False)
class ToolUnclear(P2vdError):
    """A tool answered what this version does not understand."""

    tool: str
    answer: str
    template: ClassVar[str] = "{tool} said {answer!r}, which p2vd does not understand."


@dataclass(frozen=True)
class Mbr:
    """Sector 0. `code`: it holds boot code; `grub`: that of GRUB. `active`: a partition is marked so.

    `types` are those of the entries in use.
    """

    code: bool = False
    grub: bool = False
    active: bool = False
    types: tuple[int, ...] = ()


def parse_probe(answer: str) -> tuple[Signature, str]:
    """Return what `blkid -p -o udev` found: a signature, and libblkid's name of a partition table."""
    values = dict(line.split("=", 1) for line in answer.splitlines() if "=" in line)
    ambiguous = [word.split(":")[1] for word in values.get("ID_FS_AMBIVALENT", "").split() if ":" in word]
    return (
        Signature(
            type=values.get("ID_FS_TYPE", "|".join(ambiguous)),
            label=_decoded(values.get("ID_FS_LABEL_ENC", "")),
            uuid=_decoded(values.get("ID_FS_UUID_ENC", "")),
            version=_decoded(values.get("ID_FS_VERSION", "")),
            ambiguous=bool(ambiguous),
        ),
        values.get("ID_PART_TABLE_TYPE", ""),
    )


def parse_partitions(answer: str) -> tuple[tuple[Partition, int], ...]:
    """Return partitions with their flags, from `partx --pairs --bytes -o PARTX_COLUMNS`.

    Without those that only contain others. Raises ToolUnclear.
    """
    found = []
    for line in answer.splitlines():
        values = dict(_PAIR.findall(line))
        try:
            partition = Partition(
                number=int(values["NR"]),
                start_bytes=int(values["START"]) * _SECTOR,
                size_bytes=int(values["SIZE"]),
                type=values["TYPE"].lower(),
                name=_decoded(values["NAME"]),
            )
            flags = int(values["FLAGS"] or "0", 16)
        except (KeyError, ValueError) as error:
            raise ToolUnclear("partx", line[:200]) from error
        if partition.type not in _EXTENDED:
            found.append((partition, flags))
    return tuple(found)


def read_mbr(sector: bytes) -> Mbr:
    """Return what sector 0 says; nothing of it counts without its signature."""
    if sector[510:512] != b"\x55\xaa":
        return Mbr()
    entries = [sector[at : at + 16] for at in range(_MBR_ENTRIES, 510, 16)]
    used = [entry for entry in entries if entry[4]]
    code = sector[:_BOOT_CODE_BYTES]
    return Mbr(
        code=any(code),
        grub=b"GRUB" in code,
        active=any(entry[0] == _ACTIVE for entry in used),
        types=tuple(entry[4] for entry in used),
    )


def table_of(name: str, mbr: Mbr, head: bytes, sector_size: int) -> Table:
    """Return the kind of table: `name` is libblkid's; `head` the first bytes of the disk."""
    if name == GPT:
        others = any(kind != _PROTECTIVE for kind in mbr.types)
        return Table.HYBRID if others and _PROTECTIVE in mbr.types else Table.GPT
    if name == "dos":
        return Table.MBR
    if name == PROTECTIVE:
        # Where does a header lie?
        places = {size for size in _SECTOR_SIZES if head[size : size + 8] == _GPT_MAGIC}
        if sector_size in places:
            return Table.GPT_DAMAGED
        return Table.GPT_OTHER_SECTORS if places else Table.OTHER
    return Table.OTHER if name else Table.NONE


def boot_style(table: Table, mbr: Mbr, partitions: Sequence[tuple[Partition, int]]) -> BootStyle:
    """Return which firmware the disk was made to boot by.

    BIOS: boot code in sector 0, and something for it to start: an active partition, GRUB, or in a
    GPT the partition for GRUB's core or one marked for legacy boot. UEFI: an EFI system partition.
    """
    uefi = any(partition.type in _ESP for partition, _ in partitions)
    bios = mbr.code and (
        (table in (Table.MBR, Table.HYBRID) and (mbr.active or mbr.grub))
        or any(one.type == _BIOS_BOOT or flags & _LEGACY_BOOT for one, flags in partitions if _is_guid(one))
    )
    if uefi and bios:
        return BootStyle.BOTH
    if uefi:
        return BootStyle.UEFI
    return BootStyle.BIOS if bios else BootStyle.NONE


def _is_guid(partition: Partition) -> bool:
    """Whether it is a GPT's: there flags are attributes, in an MBR they are the active mark."""
    return "-" in partition.type


def _decoded(text: str) -> str:
    """Return what libblkid and libsmartcols wrote with \\xNN for what is not plain."""
    raw = _ESCAPED.sub(lambda match: bytes([int(match.group(1), 16)]), text.encode("utf-8", "replace"))
    return clean_inquiry(raw)
