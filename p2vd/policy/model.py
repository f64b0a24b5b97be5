"""Rules: what a policy file says, checked and typed."""

import enum
from dataclasses import dataclass, field

from p2vd.model.disk import Transport
from p2vd.model.forms import Compression, TargetFormat, TargetKind
from p2vd.model.nbd import NbdExport
from p2vd.model.plan import CopyOptions, Cutover, DomainOptions, Provisioning
from p2vd.model.size import KIB
from p2vd.policy.toml import FileError


class SectorSizeRemedy(enum.Enum):
    """What is done where source and target have unequal logical sector sizes."""

    NONE = "none"
    DOMAIN = "domain"


class FirmwareChoice(enum.Enum):
    """What the virtual machine boots by: as its disk was made for, or always the same."""

    AUTO = "auto"
    BIOS = "bios"
    UEFI = "uefi"


@dataclass(frozen=True)
class PolicyText:
    """A policy file: where it lies and what it says, or the `problem` why it could not be read."""

    path: str
    text: str
    problem: str = ""


@dataclass(frozen=True)
class Match:
    """Which sources a rule is for. Every criterion that is set must hold; an empty one is not set.

    Strings are globs of the shell, upper and lower case distinct; one of a list suffices. `portal`,
    `target` and `wwpn` ask for one path that fits; a WWPN is that of the array's port, and its globs
    are without colons (`plain_wwn`). `size_max_bytes` 0: no limit.
    """

    transport: tuple[Transport, ...] = ()
    wwid: tuple[str, ...] = ()
    vendor: tuple[str, ...] = ()
    model: tuple[str, ...] = ()
    serial: tuple[str, ...] = ()
    portal: tuple[str, ...] = ()
    target: tuple[str, ...] = ()
    machine: tuple[str, ...] = ()
    size_min_bytes: int = 0
    size_max_bytes: int = 0
    wwpn: tuple[str, ...] = ()


@dataclass(frozen=True)
class FileRule:
    """The files of a rule whose targets are files.

    `mount`: must be mounted, or nothing is written; empty: the directory may be on any filesystem. `owner`
    and `group` empty: the daemon's. `cluster_bytes` and `compression` are qcow2's.
    """

    directory: str
    format: TargetFormat = TargetFormat.RAW
    mount: str = ""
    owner: str = ""
    group: str = ""
    mode: int = 0o600
    cluster_bytes: int = 64 * KIB
    compression: Compression = Compression.NONE


@dataclass(frozen=True)
class TargetRule:
    """Where disks go.

    `kind` says which of the others count: volume groups by name or `@tag`, in order of preference; whole
    LUNs that `luns` describes, of which the smallest is taken that holds the disk; `files`.
    `thin_pool` empty: the volume group's only one. `name` empty: the default (`policy.names.lv_name`).
    """

    volume_groups: tuple[str, ...] = ()
    provisioning: Provisioning = Provisioning.THIN
    thin_pool: str = ""
    name: str = ""
    single_host: bool = False
    autoactivate: bool = True
    sector_size_remedy: SectorSizeRemedy = SectorSizeRemedy.NONE
    kind: TargetKind = TargetKind.LV
    luns: Match | None = None
    unmap: bool = False
    files: FileRule | None = None

    @property
    def is_thin(self) -> bool:
        """Whether the target is a volume in a thin pool."""
        return self.kind is TargetKind.LV and self.provisioning is Provisioning.THIN


@dataclass(frozen=True)
class Rule:
    """One rule. `text` is what was written, in a form in which equal rules are equal.

    `over_commit` is how many times its size a pool may promise to thin LVs. `firmware` decides that
    of `domain`. `allow_hibernated`: a machine's memory on the disk does not forbid its migration.
    `cutover`: when its machine is registered. `auto`: disks of known machines are started by themselves.
    """

    name: str
    path: str
    line: int
    text: str
    match: Match
    target: TargetRule
    copy: CopyOptions = field(default_factory=CopyOptions)
    domain: DomainOptions = field(default_factory=DomainOptions)
    over_commit: float = 1.0
    source_offline: bool = False
    firmware: FirmwareChoice = FirmwareChoice.AUTO
    allow_hibernated: bool = False
    cutover: Cutover = Cutover.AUTO
    auto: bool = False


@dataclass(frozen=True)
class PolicySet:
    """All rules in the order in which they apply, and the NBD exports that are sources.

    With any error there are no rules at all.
    A rule that was left out could let a later one match: so files with errors are not used in part.
    """

    rules: tuple[Rule, ...] = ()
    errors: tuple[FileError, ...] = ()
    exports: tuple[NbdExport, ...] = ()
