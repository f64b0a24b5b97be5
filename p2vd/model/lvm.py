"""LVM objects, as LVM's own JSON reports tell them."""

from dataclasses import dataclass

from p2vd.model.errors import Reason

JOB_TAG = "p2vd.job="
"""Of each volume that p2vd made, before the UUID of the job that it was made for."""
GENERATION_TAG = "p2vd.generation="
INCOMPLETE_TAG = "p2vd.incomplete"
"""Of a volume that is being copied, or whose copy was given up."""

_SHARED_LOCK_TYPES = ("sanlock", "dlm", "idm")


@dataclass(frozen=True)
class Pv:
    """A physical volume. `device` is the node LVM shall use: the multipath map, never a path.

    `source_id` is the id of the disk that it is on (its WWID, where it has one); empty while missing.
    `rejected`: by the filter of this host's lvm.conf.
    """

    uuid: str
    device: str
    size_bytes: int
    free_bytes: int
    missing: bool = False
    duplicate: bool = False
    source_id: str = ""
    rejected: bool = False


@dataclass(frozen=True)
class Lv:
    """A logical volume; `pool` is its thin pool's name, empty for a thick one."""

    uuid: str
    name: str
    size_bytes: int
    tags: frozenset[str] = frozenset()
    pool: str = ""
    active: bool = False
    autoactivation: bool = False


@dataclass(frozen=True)
class ThinPool:
    """A thin pool. `zeroes`: it zeroes new chunks (`lv_attr`). `health` is empty when it is well.

    `health` holds LVM's `lv_health_status` word: `failed`, `out_of_data`, `metadata_read_only`.
    While a pool is not `active` nobody knows how full it is: its percentages are 0. LVM extends it by
    `autoextend_percent` when it is fuller than `autoextend_threshold_percent`; 100 means never.
    Both are of the metadata `profile` where the pool has one, else of lvm.conf. `metadata_size_bytes` 0: not
    known. `reserved_bytes`: what of `data_percent` is not used yet, but counted for what was planned before.
    """

    uuid: str
    name: str
    size_bytes: int
    chunk_size_bytes: int
    zeroes: bool
    data_percent: float
    metadata_percent: float
    virtual_size_bytes: int
    health: str = ""
    active: bool = True
    profile: str = ""
    autoextend_threshold_percent: int = 100
    autoextend_percent: int = 20
    metadata_size_bytes: int = 0
    reserved_bytes: int = 0

    @property
    def used_bytes(self) -> int:
        """Bytes of the pool's data that are mapped."""
        return round(self.size_bytes * self.data_percent / 100)


@dataclass(frozen=True)
class PoolUse:
    """What happens in a thin pool while copies run into it, in bytes.

    `reserved_bytes`: what they may take and have not yet. `others_bytes`: what others took since they began.
    """

    reserved_bytes: int = 0
    others_bytes: int = 0


@dataclass(frozen=True)
class Vg:
    """A volume group; it is named by `uuid`, its name can change.

    `late_change`: the unit of a change of p2vd's that does not end, which only plans are told; "" for none.
    """

    uuid: str
    name: str
    size_bytes: int
    free_bytes: int
    extent_size_bytes: int
    sector_size: int
    lock_type: str = ""
    system_id: str = ""
    missing_pv_count: int = 0
    exported: bool = False
    clustered: bool = False
    tags: frozenset[str] = frozenset()
    pvs: tuple[Pv, ...] = ()
    lvs: tuple[Lv, ...] = ()
    thin_pools: tuple[ThinPool, ...] = ()
    late_change: str = ""

    def refusals(self, system_id: str) -> tuple[Reason, ...]:
        """Why the host with that LVM system ID may not change it, whatever a policy says (design: §4.7)."""
        reasons = []
        if self.exported:
            text = f"The volume group {self.name} is exported. Import it: vgimport {self.name}."
            reasons.append(Reason("vg-exported", text))
        if self.clustered:
            text = (
                f"The volume group {self.name} has the clustered flag of clvmd, which is gone. "
                f"Convert it: vgchange --lock-type sanlock {self.name} (lvmlockd(8))."
            )
            reasons.append(Reason("vg-clustered", text))
        if self.missing_pv_count:
            text = (
                f"{self.missing_pv_count} of the PVs of the volume group {self.name} are missing. Attach "
                "their LUNs: a change without them would leave inconsistent metadata."
            )
            reasons.append(Reason("vg-missing-pvs", text))
        if duplicates := [pv.device for pv in self.pvs if pv.duplicate]:
            text = (
                f"The volume group {self.name} has PVs that are there twice, again on "
                f"{', '.join(duplicates)}. Detach the copies (clones or snapshots of the LUN)."
            )
            reasons.append(Reason("vg-duplicate-pvs", text))
        if rejected := [pv.device for pv in self.pvs if pv.rejected]:
            text = (
                f"This host's LVM is not to use PVs of the volume group {self.name}: the filter or "
                f"global_filter of its lvm.conf rejects {', '.join(rejected)}. Name another volume group, or "
                "have them accepted there, then rescan."
            )
            reasons.append(Reason("vg-filtered", text))
        if self.system_id and not self.shared and self.system_id != system_id:
            text = (
                f"The volume group {self.name} belongs to the host with the system ID {self.system_id}; LVM "
                f"refuses it here. Hand it over there: vgchange --systemid {system_id or 'ID'} {self.name} "
                "(lvmsystemid(7))."
            )
            reasons.append(Reason("vg-foreign", text))
        return tuple(reasons)

    @property
    def shared(self) -> bool:
        """Whether lvmlockd guards it, so that several hosts may use it."""
        return self.lock_type in _SHARED_LOCK_TYPES

    def device_arguments(self) -> tuple[str, ...]:
        """The option that shows an LVM command this VG's PVs and nothing else (design: §4.7)."""
        return ("--devices", ",".join(pv.device for pv in self.pvs if not pv.missing))

    def pool(self, name: str) -> ThinPool | None:
        """The thin pool of that name, if there is one."""
        return next((pool for pool in self.thin_pools if pool.name == name), None)

    def lv(self, uuid: str) -> Lv | None:
        """The LV of that UUID, if there is one."""
        return next((lv for lv in self.lvs if lv.uuid == uuid), None)

    def is_called(self, word: str) -> bool:
        """Whether a policy's word, a name or `@tag`, means this VG."""
        return word[1:] in self.tags if word.startswith("@") else self.name == word

    def dm_uuid(self, lv: Lv) -> str:
        """The device-mapper UUID of a visible LV."""
        return lv_dm_uuid(self.uuid, lv.uuid)

    def dm_name(self, lv: Lv) -> str:
        """The device-mapper name of a visible LV: `VG-LV`, dashes inside a name doubled (libdm)."""
        return "-".join(name.replace("-", "--") for name in (self.name, lv.name))


def lv_dm_uuid(vg_uuid: str, lv_uuid: str) -> str:
    """Return the device-mapper UUID of a visible LV: `LVM-` and both UUIDs without dashes (libdm)."""
    return "LVM-" + (vg_uuid + lv_uuid).replace("-", "")
