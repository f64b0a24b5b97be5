"""A plan: what would be done to the disks of a machine, and for which virtual machine."""

import enum
from dataclasses import dataclass, field
from typing import TypeAlias

from p2vd.model.copying import Verify
from p2vd.model.disk import Transport
from p2vd.model.domain import (
    Conversion,
    CpuMode,
    DomainChoice,
    MacChoice,
    MachineType,
    NetworkRule,
    NicModel,
    Video,
)
from p2vd.model.fill import Allocation, PoolFill
from p2vd.model.forms import Compression, SourceFormat, TargetFormat, TargetKind
from p2vd.model.hook import HookFailure
from p2vd.model.rates import Estimate
from p2vd.model.size import KIB, MIB
from p2vd.model.window import Window


class Provisioning(enum.Enum):
    """How an LV gets its space."""

    THIN = "thin"
    THICK = "thick"


class Firmware(enum.Enum):
    """What a machine boots by."""

    BIOS = "bios"
    UEFI = "uefi"


class DiskBus(enum.Enum):
    """Where the guest finds its disk; `auto`: where its system can, as far as that is known."""

    VIRTIO = "virtio"
    SATA = "sata"
    SCSI = "scsi"
    IDE = "ide"
    XEN = "xen"
    AUTO = "auto"


class VirtType(enum.Enum):
    """How the hypervisor runs the guest: by the processor (`kvm`) or emulated (`qemu`)."""

    KVM = "kvm"
    QEMU = "qemu"


class Cutover(enum.Enum):
    """When a machine whose disks are proven is registered: by itself, or when the administrator says so."""

    AUTO = "auto"
    MANUAL = "manual"


@dataclass(frozen=True)
class SourceBinding:
    """What a source must be, at the start and at every resume."""

    id: str
    wwid: str
    transport: Transport
    size_bytes: int
    sector_size: int
    file_id: str = ""
    format: SourceFormat = SourceFormat.RAW


@dataclass(frozen=True)
class LvTarget:
    """The LV to make. `size_bytes` is the source's size rounded up to whole extents."""

    vg_uuid: str
    vg_name: str
    lv_name: str
    provisioning: Provisioning
    size_bytes: int
    sector_size: int
    pool_uuid: str = ""
    pool_name: str = ""
    single_host: bool = False
    autoactivate: bool = True
    kind: TargetKind = TargetKind.LV

    @property
    def path(self) -> str:
        """Where it is, for people and for definitions."""
        return f"/dev/{self.vg_name}/{self.lv_name}"

    @property
    def store_id(self) -> str:
        """What it is a part of."""
        return self.vg_uuid

    def __str__(self) -> str:
        return f"{self.vg_name}/{self.lv_name}"


@dataclass(frozen=True)
class LunTarget:
    """The whole LUN to fill. `size_bytes` is the LUN's, which may be more than the source's.

    `id`: as the inventory has it. `name`: that of its map, or of its device where it has none, when it was
    chosen. `unmap`: zeros may be unmapped, as the policy says of this array.
    """

    id: str
    wwid: str
    name: str
    size_bytes: int
    sector_size: int
    link: str
    unmap: bool = False
    kind: TargetKind = TargetKind.LUN

    @property
    def path(self) -> str:
        """Where it is, for people and for definitions: a link that names the LUN, not this boot's device."""
        return self.link

    @property
    def store_id(self) -> str:
        """What it is a part of: nothing but itself."""
        return self.id

    def __str__(self) -> str:
        return f"LUN {self.wwid}"


@dataclass(frozen=True)
class FileTarget:
    """The file to make in `directory`. `size_bytes` is the disk's, whatever the file takes.

    `mount`: the filesystem must be mounted there; empty: wherever the directory is. `owner` and `group` are
    names, empty: this daemon's. `mode`: of the file once it is proven; before, nobody else reads it.
    `cluster_bytes` and `compression` are qcow2's.
    """

    directory: str
    name: str
    format: TargetFormat
    size_bytes: int
    sector_size: int = 512
    mount: str = ""
    owner: str = ""
    group: str = ""
    mode: int = 0o600
    cluster_bytes: int = 64 * KIB
    compression: Compression = Compression.NONE
    kind: TargetKind = TargetKind.FILE

    @property
    def path(self) -> str:
        """Where it is once it is proven."""
        return f"{self.directory.rstrip('/')}/{self.name}"

    @property
    def store_id(self) -> str:
        """What it is a part of."""
        return self.directory

    def __str__(self) -> str:
        return self.path


Target: TypeAlias = LvTarget | LunTarget | FileTarget
"""Where a disk goes. Each has `kind`, `path`, `store_id`, `size_bytes` and `sector_size`."""


@dataclass(frozen=True)
class PoolExtension:
    """How p2vd may extend a thin pool that is too short for its copies. All in bytes.

    By `step_bytes` at a time, never beyond `max_bytes`, and only while `vg_free_bytes` of the volume
    group stay free. Metadata that is short grows by `metadata_step_bytes`.
    """

    step_bytes: int
    max_bytes: int
    vg_free_bytes: int = 0
    metadata_step_bytes: int = 128 * MIB


@dataclass(frozen=True)
class CopyOptions:
    """How the bytes are moved, and when. `bandwidth_bytes_per_s` 0: as fast as it goes.

    `bad_sectors`: how many of the source may be unreadable. `priority`: of the jobs that wait, those of
    the higher one come first. `windows`: it runs only while one of them is open; none: at any time.
    `max_latency_us`: of a read of the source, beyond which the copy slows down; 0: it never does.
    `pool_extension` None: only others extend its pool. `hook_failure`: what a hook that fails does.
    """

    verify: Verify = Verify.READ_BACK
    queue_depth: int = 8
    bandwidth_bytes_per_s: int = 0
    pool_reserve_percent: int = 5
    bad_sectors: int = 0
    priority: int = 0
    windows: tuple[Window, ...] = ()
    max_latency_us: int = 0
    pool_extension: PoolExtension | None = None
    hook_failure: HookFailure = HookFailure.AUTO


@dataclass(frozen=True)
class DomainOptions:
    """How the virtual machine shall look, as far as policy or the plan says.

    `uri`: a libvirt connection, or `xl`, `proxmox` or `kubevirt`, for which files go into `directory`.
    `memory_bytes` and `vcpus` 0: as the machine's passport says. `network`: where a NIC goes that no rule in
    `networks` is for: a network of the hypervisor, or `bridge:NAME`; empty: nowhere. `logical_block_size`:
    the sector size the guest sees, that of the source; 0: the hypervisor's default, which is 512. `start`: it
    runs once it is registered. `nodes` and `namespace` are Kubernetes's.
    """

    uri: str = "qemu:///system"
    memory_bytes: int = 0
    vcpus: int = 0
    firmware: Firmware = Firmware.BIOS
    bus: DiskBus = DiskBus.AUTO
    network: str = ""
    logical_block_size: int = 0
    virt_type: VirtType = VirtType.KVM
    directory: str = ""
    machine_type: MachineType = MachineType.AUTO
    cpu_mode: CpuMode = CpuMode.AUTO
    nic_model: NicModel = NicModel.AUTO
    mac: MacChoice = MacChoice.KEEP
    networks: tuple[NetworkRule, ...] = ()
    video: Video = Video.AUTO
    start: bool = False
    conversion: Conversion = Conversion.NONE
    nodes: tuple[str, ...] = ()
    namespace: str = "default"

    @property
    def started_by_p2vd(self) -> bool:
        """Whether p2vd starts the machine; what is made of files is started by the tool that takes them."""
        return self.start and not self.directory


@dataclass(frozen=True)
class DiskPlan:
    """One disk's way; it is disk `number` (from 1) `of` so many. `id` is that of the plan it is a part of.

    `digest_parts` is what of this disk must not change before it is made, in order, so that a plan that
    no longer holds can name the difference. `worst_case_bytes`: what the copy may take of its pool or
    VG at most. `expected`: what of it is expected, by a sample of the source. `estimate`: of this moment,
    what copying takes.
    """

    id: str
    machine_name: str
    source: SourceBinding
    target: Target
    copy: CopyOptions
    policy: str
    policy_file: str
    source_offline: bool
    worst_case_bytes: int
    digest_parts: tuple[tuple[str, str], ...]
    number: int = 1
    of: int = 1
    steps: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    estimate: Estimate = field(default_factory=Estimate)
    expected: Allocation | None = None


@dataclass(frozen=True)
class Plan:
    """A machine's way: its disks in the order in which the virtual machine finds them.

    `id` is a hash of `digest_parts`, of all that must not change before it runs (design: §7). `domain`:
    with what was left to the passport filled in; `domain_choices`: how the virtual machine will look, and
    why. `passport`: the name of the record that named the disks, empty where the caller did. `steps`
    and `warnings` are those of the disks too. `estimate`: of this moment, what copying takes; `fills`: how
    full its thin pools will be.
    """

    id: str
    machine_name: str
    disks: tuple[DiskPlan, ...]
    domain: DomainOptions
    digest_parts: tuple[tuple[str, str], ...]
    cutover: Cutover = Cutover.AUTO
    passport: str = ""
    steps: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    domain_choices: tuple[DomainChoice, ...] = ()
    estimate: Estimate = field(default_factory=Estimate)
    fills: tuple[PoolFill, ...] = ()
