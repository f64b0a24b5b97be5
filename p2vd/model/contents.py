"""What is on a disk, as it was read once. Facts only: what follows from them is planning's business."""

import enum
from dataclasses import dataclass

from p2vd.model.errors import Reason

UNDER_EXAMINATION = "is being looked at"
"""In the sentence that refuses a source whose contents are not known yet: clients ask again."""


class Table(enum.Enum):
    """The partition table. `hybrid`: a GPT whose MBR names partitions of its own.

    `gpt-other-sectors`: a GPT that was written on a disk with other logical sectors, and cannot be
    read with those of this one. `gpt-damaged`: its header does not fit the disk or itself.
    """

    GPT = "gpt"
    HYBRID = "hybrid"
    MBR = "mbr"
    GPT_OTHER_SECTORS = "gpt-other-sectors"
    GPT_DAMAGED = "gpt-damaged"
    OTHER = "other"
    NONE = "none"


class BootStyle(enum.Enum):
    """Which firmware a disk was made to boot by. `both`: it carries loaders for either."""

    BIOS = "bios"
    UEFI = "uefi"
    BOTH = "both"
    NONE = "none"


class Examination(enum.Enum):
    """How much is known of a source's contents.

    `no`: nobody looked, for no policy matches it, it is in use, or a job has it; or nothing can be known
    before its copy, and the source says why. `silent`: the disk gave no answer in time. `failed`: it could
    not be read.
    """

    NO = "no"
    UNDER_WAY = "under-way"
    DONE = "done"
    SILENT = "silent"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Signature:
    """What begins at one place of a disk. `type` is libblkid's word (`ext4`, `LVM2_member`), "" for none.

    `ambiguous`: several that contradict each other; then `type` is `vfat|ext4`. `volume_group`: whose
    PV it is. `dirty`: an NTFS that was not unmounted. `hibernated`: a machine's memory lies there.
    """

    type: str = ""
    label: str = ""
    uuid: str = ""
    version: str = ""
    ambiguous: bool = False
    volume_group: str = ""
    dirty: bool = False
    hibernated: bool = False


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition. `type` is the GPT's GUID or the MBR's number (`0x83`)."""

    number: int
    start_bytes: int
    size_bytes: int
    type: str
    name: str = ""
    signature: Signature = Signature()


@dataclass(frozen=True, slots=True)
class Reservation:
    """SCSI persistent reservation: the holder's key and the type, as the target said them."""

    key: str
    type: str


@dataclass(frozen=True, slots=True)
class Findings:
    """What speaks against a source now, and what should be known of it: paths, use, and contents."""

    reasons: tuple[Reason, ...] = ()
    warnings: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True)
class Contents:
    """All of a disk that matters to its migration.

    `signature` is what the whole disk holds, without or beside a partition table. `blank`: its first
    and last MiB are zero. `registered_keys`: of initiators, reserving or not. `problems`: what could
    not be read, as sentences.
    """

    table: Table
    boot: BootStyle
    physical_sector_size: int
    signature: Signature = Signature()
    partitions: tuple[Partition, ...] = ()
    reservation: Reservation | None = None
    registered_keys: int = 0
    blank: bool = False
    problems: tuple[str, ...] = ()

    def places(self) -> tuple[tuple[str, Signature], ...]:
        """What was found, each with where it is: `partition 2`, `the disk`."""
        places = [("the disk", self.signature)]
        places += [(f"partition {part.number}", part.signature) for part in self.partitions]
        return tuple((where, found) for where, found in places if found.type)
