"""LVM objects, as LVM's own JSON reports tell them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Pv:
    """A physical volume. `device` is the node LVM shall use: the multipath map, never a path."""

    uuid: str
    device: str
    size_bytes: int
    free_bytes: int
    missing: bool = False
    duplicate: bool = False


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

    @property
    def used_bytes(self) -> int:
        """Bytes of the pool's data that are mapped."""
        return round(self.size_bytes * self.data_percent / 100)


@dataclass(frozen=True)
class Vg:
    """A volume group; it is named by `uuid`, its name can change."""

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
        """The device-mapper UUID of a visible LV: `LVM-` and both UUIDs without dashes (libdm)."""
        return "LVM-" + (self.uuid + lv.uuid).replace("-", "")

    def dm_name(self, lv: Lv) -> str:
        """The device-mapper name of a visible LV: `VG-LV`, dashes inside a name doubled (libdm)."""
        return "-".join(name.replace("-", "--") for name in (self.name, lv.name))
