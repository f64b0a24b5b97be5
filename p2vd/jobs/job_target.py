"""What a job copies to, as it is at this moment: how it is opened, and what proves that it is the one."""

from dataclasses import dataclass
from typing import TypeAlias

from p2vd.copying.opening import TargetToOpen
from p2vd.copying.terms import TargetForm, TargetTraits
from p2vd.model.disk import Source
from p2vd.model.forms import TargetFormat
from p2vd.model.lvm import Lv, ThinPool, Vg
from p2vd.model.plan import FileTarget, LunTarget
from p2vd.model.size import KIB

UNMAP_CHUNK_BYTES = 64 * KIB
"""Of a LUN that may be unmapped: less than this is written. What a discard left is read back and written."""

CREDIT_CHUNK_BYTES = 64 * KIB
"""In such pieces a file's writes are counted against what its filesystem has free: no filesystem's blocks are
larger, and a piece that was written in part counts as a whole."""


@dataclass(frozen=True)
class JobLv:
    """The LV of a job and the VG that it is in, as LVM reported them just now."""

    vg: Vg
    lv: Lv

    @property
    def dm_name(self) -> str:
        """The LV's device-mapper name."""
        return self.vg.dm_name(self.lv)

    @property
    def dm_uuid(self) -> str:
        """The LV's device-mapper UUID: what proves a descriptor."""
        return self.vg.dm_uuid(self.lv)

    @property
    def devnode(self) -> str:
        """Where the LV is opened."""
        return f"/dev/mapper/{self.dm_name}"

    @property
    def id(self) -> str:
        """What a checkpoint belongs to."""
        return f"{self.vg.uuid}/{self.lv.uuid}"

    @property
    def pool(self) -> ThinPool | None:
        """The pool of a thin LV."""
        return self.vg.pool(self.lv.pool)

    def to_open(self, *, fresh: bool) -> TargetToOpen:
        """Return what the helper shall open. `fresh` makes no difference: LVM has just made it."""
        return TargetToOpen(self.devnode, self.lv.size_bytes, self.vg.sector_size, self.dm_uuid)

    def traits(self) -> TargetTraits:
        """Return what the worker is told."""
        pool = self.pool
        return TargetTraits(
            size_bytes=self.lv.size_bytes,
            sector_size=self.vg.sector_size,
            dm_uuid=self.dm_uuid,
            thin_chunk_bytes=pool.chunk_size_bytes if pool else 0,
            pool_zeroes=bool(pool and pool.zeroes),
        )


@dataclass(frozen=True)
class JobLun:
    """The LUN of a job, as it was seen last."""

    lun: Source
    target: LunTarget

    @property
    def dm_name(self) -> str:
        """The map's device-mapper name; "" where the LUN has no map."""
        return self.lun.name if self.lun.dm_uuid else ""

    @property
    def dm_uuid(self) -> str:
        """The map's device-mapper UUID; "" where it has none."""
        return self.lun.dm_uuid

    @property
    def devnode(self) -> str:
        """Where the LUN is opened."""
        return self.lun.devnode

    @property
    def id(self) -> str:
        """What a checkpoint belongs to."""
        return self.lun.id

    def to_open(self, *, fresh: bool) -> TargetToOpen:
        """Return what the helper shall open. `fresh`: nothing was written to it, so it must be empty."""
        return TargetToOpen(
            self.devnode,
            self.lun.size_bytes,
            self.lun.sector_size,
            self.dm_uuid,
            wwid=self.lun.wwid,
            path_devices=tuple(path.device for path in self.lun.paths) or (self.lun.device,),
            must_be_empty=fresh,
        )

    def traits(self) -> TargetTraits:
        """Return what the worker is told: no LUN's zeros are taken for granted."""
        return TargetTraits(
            size_bytes=self.lun.size_bytes,
            sector_size=self.lun.sector_size,
            dm_uuid=self.dm_uuid,
            thin_chunk_bytes=UNMAP_CHUNK_BYTES if self.target.unmap else 0,
        )


@dataclass(frozen=True)
class JobFile:
    """The file of a job. `path`: the name that it has at this moment."""

    target: FileTarget
    path: str
    file_id: str
    dm_name: str = ""
    dm_uuid: str = ""

    @property
    def devnode(self) -> str:
        """Where the file is opened."""
        return self.path

    @property
    def id(self) -> str:
        """What a checkpoint belongs to."""
        return f"{self.target.directory}#{self.file_id}"

    def to_open(self, *, fresh: bool) -> TargetToOpen:
        """Return what the helper shall open. `fresh` makes no difference: the file was made empty."""
        size = self.target.size_bytes if self.target.format is TargetFormat.RAW else 0
        return TargetToOpen(
            self.path,
            size,
            self.target.sector_size,
            file_id=self.file_id,
            locked_by_user=self.target.format is TargetFormat.QCOW2,
        )

    def form(self) -> TargetForm:
        """Return how the file is to hold the disk."""
        return TargetForm(self.target.format, self.target.cluster_bytes, self.target.compression)

    def traits(self) -> TargetTraits:
        """Return what the worker is told."""
        return TargetTraits(
            size_bytes=self.target.size_bytes,
            sector_size=self.target.sector_size,
            is_file=True,
            credit_chunk_bytes=CREDIT_CHUNK_BYTES,
        )


JobTarget: TypeAlias = JobLv | JobLun | JobFile
