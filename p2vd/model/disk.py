"""Source disks: LUNs with their paths, and the host's own disks."""

import enum
import re
from dataclasses import dataclass

from p2vd.model.contents import Contents, Examination
from p2vd.model.errors import Reason
from p2vd.model.forms import SourceFormat
from p2vd.model.nbd import NbdExport


class Transport(enum.Enum):
    """How the host reaches a disk, in the words of policy files."""

    ISCSI = "iscsi"
    FC = "fc"
    NVME = "nvme"
    VIRTIO = "virtio"
    LOOP = "loop"
    MD = "md"
    IMAGE = "image"
    NBD = "nbd"
    LOCAL = "local"


class PathState(enum.Enum):
    """What multipathd's checker says of a path (its `chk_st`), or sysfs where there is no map."""

    READY = "ready"
    FAULTY = "faulty"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Portal:
    """An iSCSI portal."""

    address: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ScsiPath:
    """One route to a LUN. `device` is the kernel's name of this moment (`sda`): never an identity.

    Over iSCSI it has a `portal` and a `target_iqn`; over Fibre Channel the WWPN of this host's port, WWPN
    and WWNN of the array's, and that port's state in the kernel's words (`Online`, `Blocked`).
    `priority` and `group` are multipathd's: paths of one ALUA state share a priority, and I/O goes
    by one group at a time. `group` 0: the path is in no map.
    """

    device: str
    hctl: str
    wwid: str
    state: PathState
    size_bytes: int
    portal: Portal | None = None
    target_iqn: str = ""
    hba_wwpn: str = ""
    target_wwpn: str = ""
    target_wwnn: str = ""
    port_state: str = ""
    priority: int = 0
    group: int = 0

    @property
    def host(self) -> str:
        """The SCSI host (`host3`) that the path goes out by, "" where it is no SCSI path."""
        return f"host{self.hctl.partition(':')[0]}" if self.hctl else ""


@dataclass(frozen=True, slots=True)
class Source:
    """A disk that can be copied: one per WWID, its paths are properties.

    `id` is the WWID; for a disk without one it is what cannot drift (`virtio-SERIAL`, `md-UUID`, or
    an image's canonical path, with `file_id` to tell it from another file that comes to have that
    path). `device` is the kernel's name of this moment (`dm-3`, `vdb`), empty for an image file. An
    empty `reasons` means that it may be a source now; `warnings` do not forbid it. `contents` is what
    was found on it, as far as `examination` says: planning.contents tells what follows.

    `format`: how an image file holds the disk, and `size_bytes` then is the disk's, 0 while nothing tells it.
    `modified_us`: when such a file was last written; 0 of all others, whose bytes are the disk's own.
    `export`: where it is served, if it is an NBD export. Its `id` is that place, and its `file_id` are the
    digests of its first and last MiB, as no server tells an identity: empty where they could not be read.
    """

    id: str
    wwid: str
    device: str
    name: str
    dm_uuid: str
    size_bytes: int
    sector_size: int
    transport: Transport
    vendor: str = ""
    model: str = ""
    serial: str = ""
    paths: tuple[ScsiPath, ...] = ()
    reasons: tuple[Reason, ...] = ()
    file_id: str = ""
    warnings: tuple[Reason, ...] = ()
    examination: Examination = Examination.NO
    contents: Contents | None = None
    examination_problem: str = ""
    format: SourceFormat = SourceFormat.RAW
    modified_us: int = 0
    export: NbdExport | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the bytes of a file or device of this host are the disk's."""
        return self.format is SourceFormat.RAW and self.export is None

    @property
    def kind(self) -> str:
        """What it is, in a sentence, where it is not plain."""
        return "an NBD export" if self.export is not None else f"an image in the format {self.format.value}"

    @property
    def devnode(self) -> str:
        """Where the disk is opened: the kernel's node of this moment, or the image file."""
        return f"/dev/{self.device}" if self.device else self.id

    @property
    def paths_ready(self) -> int:
        """How many of the paths answer."""
        return sum(path.state is PathState.READY for path in self.paths)

    def __str__(self) -> str:
        return f"{self.id} ({self.name})"


_MD_UUID = re.compile(r"[0-9a-f]{8}(:[0-9a-f]{8}){3}")


def md_uuid(export: str) -> str:
    """Return the array's UUID in what `mdadm --detail --export` printed. Raises ValueError."""
    # mdadm escapes blanks and quotes in names: a value never spans lines.
    found = [line.removeprefix("MD_UUID=") for line in export.splitlines() if line.startswith("MD_UUID=")]
    if len(found) != 1 or not _MD_UUID.fullmatch(found[0]):
        raise ValueError(f"no UUID of an md array in {export[:80]!r}")
    return found[0]
