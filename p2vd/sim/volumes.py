"""The simulated volume groups and their volumes, and what of them outlives a restart."""

import hashlib
import string
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from p2vd.model.codec import from_json, to_json
from p2vd.model.errors import P2vdError
from p2vd.model.size import MIB
from p2vd.sim.mapper import DmDevice, Mapper, dm_name, dm_uuid
from p2vd.sim.san import Lun, San
from p2vd.sim.script import Pool, Script, VolumeGroup, pool_metadata_bytes

EXTENT_BYTES = 4 * MIB
METADATA_BLOCK_BYTES = 4096
OTHERS = "other_vm"
"""The volume by which somebody else fills a pool."""
_UUID_GROUPS = (6, 4, 4, 4, 4, 4, 6)
_UUID_LETTERS = string.digits + string.ascii_letters
# What LVM formats a small pool's metadata with (seen: 112 of 1024 blocks), and entries of a leaf block.
_FIRST_METADATA_BLOCKS = 112
_MAPPINGS_A_BLOCK = 120


@dataclass(eq=False)
class StateUnusable(P2vdError):
    """The simulator's own memory in the state directory does not fit."""

    path: str
    problem: str
    template: ClassVar[str] = (
        "{path} cannot be used: {problem}. Name another --state-dir, or remove this one."
    )


@dataclass(frozen=True)
class SimLv:
    """A volume. `segtype`: linear, thin or thin-pool; `allocated_bytes`: of its pool.

    `metadata_bytes`: of a pool whose metadata was extended; 0: as the script made it.
    """

    uuid: str
    name: str
    size_bytes: int
    segtype: str
    pool: str = ""
    tags: frozenset[str] = frozenset()
    active: bool = True
    autoactivation: bool = True
    allocated_bytes: int = 0
    metadata_bytes: int = 0


@dataclass(frozen=True)
class SimPv:
    """A LUN that is a PV."""

    uuid: str
    lun: Lun


@dataclass
class SimVg:
    """A volume group; its volumes by UUID."""

    name: str
    uuid: str
    kind: VolumeGroup
    pvs: list[SimPv]
    lvs: dict[str, SimLv] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        """All extents: the first one of each PV is its metadata's."""
        return sum(pv.lun.kind.size_bytes - EXTENT_BYTES for pv in self.pvs)

    @property
    def free_bytes(self) -> int:
        """What no volume takes."""
        return self.size_bytes - sum(self._takes(lv) for lv in self.lvs.values())

    def _takes(self, lv: SimLv) -> int:
        if lv.segtype == "thin":
            return 0
        return lv.size_bytes + (self.metadata_bytes if lv.segtype == "thin-pool" else 0)

    @property
    def metadata_bytes(self) -> int:
        """The size of the pool's metadata."""
        if self.kind.pool is None:
            return 0
        pool = self.named(self.kind.pool.name)
        return pool.metadata_bytes if pool and pool.metadata_bytes else pool_metadata_bytes(self.kind.pool)

    def named(self, name: str) -> SimLv | None:
        """The volume of that name."""
        return next((lv for lv in self.lvs.values() if lv.name == name), None)

    def pool_used_bytes(self) -> int:
        """What the thin volumes have allocated of the pool."""
        return sum(lv.allocated_bytes for lv in self.lvs.values())

    def metadata_blocks(self) -> tuple[int, int]:
        """Used and total blocks of the pool's metadata."""
        chunk = self.kind.pool.chunk_bytes if self.kind.pool else 1
        used = _FIRST_METADATA_BLOCKS + self.pool_used_bytes() // chunk // _MAPPINGS_A_BLOCK
        total = self.metadata_bytes // METADATA_BLOCK_BYTES
        return min(used, total), total


@dataclass(frozen=True)
class _Saved:
    """What a restart of the daemon must find again. `san` tells one script's SAN from another's."""

    san: str
    lvs: dict[str, tuple[SimLv, ...]] = field(default_factory=dict)
    domains: dict[str, str] = field(default_factory=dict)
    filled: tuple[str, ...] = ()


class Volumes:
    """All volume groups by name. Used under the SAN's lock."""

    def __init__(self, san: San, script: Script, state: Path) -> None:
        """Make the LUNs and groups of `script`, with the volumes kept in `state`. Raises StateUnusable."""
        self.san = san
        self.mapper = Mapper(san)
        self.groups: dict[str, SimVg] = {}
        self.spare: list[str] = []
        """WWIDs of the script's LUNs that are no PVs, in its order."""
        self._state = state
        self._maps: dict[str, DmDevice] = {}
        self._saved = _load(state, script)
        self.domains = dict(self._saved.domains)
        """The simulated hypervisor's domains, XML by UUID. After a change call `save`."""
        self.running: set[str] = set()
        """Of these, the ones that run: until the simulated host starts anew."""
        self.libvirt_down = False
        self.harmed: dict[str, tuple[tuple[int, int], ...]] = {}
        """By UUID of a volume: what somebody overwrote there since it was copied."""
        for kind in script.volume_groups:
            self._make(kind)
        for luns in script.luns:
            self.spare += [lun.wwid for lun in san.attach(luns)]
        self.save()

    def save(self) -> None:
        """Write what a restart must find again."""
        lvs = {name: tuple(group.lvs.values()) for name, group in self.groups.items()}
        self._saved = replace(self._saved, lvs=lvs, domains=self.domains)
        temporary = self._state.with_suffix(".new")
        temporary.write_text(to_json(self._saved) + "\n")
        temporary.replace(self._state)

    def add(self, group: SimVg, lv: SimLv) -> None:
        """Make a volume, and its device if it is active."""
        group.lvs[lv.uuid] = lv
        if lv.active:
            self._activate(group, lv)
        self._committed(group)

    def change(self, group: SimVg, lv: SimLv) -> None:
        """Replace the volume of that UUID, and make or remove its device."""
        before = group.lvs[lv.uuid]
        group.lvs[lv.uuid] = lv
        if lv.active and not before.active:
            self._activate(group, lv)
        elif before.active and not lv.active:
            self.mapper.drop(dm_name(group.name, lv.name))
        self._committed(group)

    def grow_pool(self, group: SimVg, pool: SimLv) -> None:
        """Put a larger pool in the place of the one of that UUID, and reload its devices."""
        group.lvs[pool.uuid] = pool
        names = (dm_name(group.name, f"{pool.name}_tdata"), dm_name(group.name, pool.name, "tpool"))
        for name in (*names, dm_name(group.name, pool.name)):
            self.mapper.resize(name, pool.size_bytes)
        self._committed(group)

    def remove(self, group: SimVg, lv: SimLv) -> None:
        """Remove a volume and its device."""
        if lv.active:
            self.mapper.drop(dm_name(group.name, lv.name))
        del group.lvs[lv.uuid]
        self._committed(group)

    def allocate(self, group: SimVg, uuid: str, more_bytes: int) -> None:
        """Let a thin volume take more of its pool; any other takes nothing."""
        lv = group.lvs.get(uuid)
        if lv is not None and lv.segtype == "thin":
            taken = min(lv.allocated_bytes + more_bytes, lv.size_bytes)
            group.lvs[uuid] = replace(lv, allocated_bytes=taken)

    def fill_pool(self, group: SimVg, percent: float) -> None:
        """Have somebody else's volume take so much that the pool is used to `percent`."""
        pool = self._pool_of(group)
        self.empty_pool(group)
        taken = max(0, int(pool.size_bytes * percent / 100) - group.pool_used_bytes())
        uuid = lvm_uuid(f"others {group.name}")
        lv = SimLv(uuid, OTHERS, pool.size_bytes, "thin", pool.name, allocated_bytes=taken)
        self.add(group, lv)
        self.save()

    def empty_pool(self, group: SimVg) -> None:
        """Remove somebody else's volume, if it is there."""
        with self.san.lock:
            if (lv := group.named(OTHERS)) is not None:
                self.remove(group, lv)
                self.save()

    def extend_pool(self, group: SimVg, size_bytes: int) -> None:
        """Extend the pool to that size, as `lvextend` does; one that is as large stays as it is."""
        pool = self._pool_of(group)
        more = size_bytes - pool.size_bytes
        if more > group.free_bytes:
            raise ValueError(f"{group.name} has no room for a pool of {size_bytes} bytes")
        if more <= 0:
            return
        group.lvs[pool.uuid] = replace(pool, size_bytes=size_bytes)
        for name in (dm_name(group.name, pool.name, "tpool"), dm_name(group.name, pool.name)):
            self.mapper.resize(name, size_bytes)
        self.mapper.resize(dm_name(group.name, f"{pool.name}_tdata"), size_bytes)
        self._committed(group)
        self.save()

    @staticmethod
    def _pool_of(group: SimVg) -> SimLv:
        return next(lv for lv in group.lvs.values() if lv.segtype == "thin-pool")

    def device(self, dm_uuid_wanted: str) -> tuple[SimVg, SimLv, DmDevice] | None:
        """Return the active volume with that device-mapper UUID."""
        for group in self.groups.values():
            for lv in group.lvs.values():
                device = self.mapper.devices.get(dm_name(group.name, lv.name))
                if device is not None and device.uuid == dm_uuid_wanted:
                    return group, lv, device
        return None

    def harm(self, dm_uuid_wanted: str) -> tuple[tuple[int, int], ...]:
        """What of a volume is no longer what was copied there: byte offset and length."""
        with self.san.lock:
            found = self.device(dm_uuid_wanted)
            return self.harmed.get(found[1].uuid, ()) if found else ()

    def map_of(self, lun: Lun) -> DmDevice:
        """Return the multipath map of a LUN, as a device that can be open."""
        known = self._maps.get(lun.wwid)
        if known is None or known.device != lun.device:
            table = f"0 {lun.size_bytes // 512} multipath"
            known = DmDevice(lun.device, lun.map_name, f"mpath-{lun.wwid}", table, lun.path_names)
            self._maps[lun.wwid] = known
        return known

    def map_named(self, name: str) -> DmDevice | None:
        """Return the multipath map of that name."""
        lun = next((lun for lun in self.san.luns.values() if lun.mapped and lun.map_name == name), None)
        return None if lun is None else self.map_of(lun)

    def is_empty(self, lun: Lun) -> bool:
        """Whether nothing is on a LUN: neither from the start nor by a job."""
        return lun.kind.empty and lun.wwid not in self._saved.filled

    def fill(self, lun: Lun) -> None:
        """Let a LUN be no longer empty, also after a restart."""
        if lun.wwid not in self._saved.filled:
            self._saved = replace(self._saved, filled=(*self._saved.filled, lun.wwid))
            self.save()

    def group_of_pool(self, tpool: str) -> SimVg | None:
        """Return the group whose pool has that device-mapper name (`VG-POOL-tpool`)."""
        for group in self.groups.values():
            if group.kind.pool and dm_name(group.name, group.kind.pool.name, "tpool") == tpool:
                return group
        return None

    def _committed(self, group: SimVg) -> None:
        # LVM has the PVs open for writing while it commits: udev tells of them when it closes them.
        self.san.uevents.send("change", *(pv.lun.device for pv in group.pvs))

    def _make(self, kind: VolumeGroup) -> None:
        luns = self.san.attach(kind.luns)
        pvs = [SimPv(lvm_uuid(f"pv {lun.wwid}"), lun) for lun in luns]
        group = self.groups[kind.name] = SimVg(kind.name, lvm_uuid(f"vg {kind.name}"), kind, pvs)
        lvs = self._saved.lvs.get(kind.name)
        if lvs is None:
            lvs = (_pool_lv(kind.name, kind.pool),) if kind.pool else ()
        for lv in lvs:
            self.add(group, lv)

    def _activate(self, group: SimVg, lv: SimLv) -> None:
        name, uuid = dm_name(group.name, lv.name), dm_uuid(group.uuid, lv.uuid)
        pv = group.pvs[0].lun.device
        size, sector = lv.size_bytes, group.kind.luns.sector_size
        if lv.segtype == "linear":
            self.mapper.make(name, uuid, "linear {} 2048", [pv], size, sector)
        elif lv.segtype == "thin":
            pool = self.mapper.devices[dm_name(group.name, lv.pool, "tpool")]
            self.mapper.make(name, uuid, f"thin {{}} {_thin_id(lv)}", [pool.device], size, sector)
        else:
            parts = [
                self.mapper.make(
                    dm_name(group.name, f"{lv.name}_{layer}"),
                    dm_uuid(group.uuid, lvm_uuid(f"{layer} {lv.uuid}"), layer),
                    "linear {} 2048",
                    [pv],
                    size,
                    sector,
                ).device
                for layer in ("tmeta", "tdata")
            ]
            chunk = group.kind.pool.chunk_bytes // 512 if group.kind.pool else 0
            target = f"thin-pool {{}} {{}} {chunk} 0 0 "
            tpool = self.mapper.make(
                dm_name(group.name, lv.name, "tpool"), f"{uuid}-tpool", target, parts, size, sector
            )
            self.mapper.make(name, f"{uuid}-pool", "linear {} 0", [tpool.device], size, sector)


def _load(state: Path, script: Script) -> _Saved:
    san = hashlib.sha256(repr((script.luns, script.volume_groups)).encode()).hexdigest()
    try:
        saved = from_json(_Saved, state.read_text())
    except FileNotFoundError:
        return _Saved(san)
    except (OSError, ValueError) as error:
        raise StateUnusable(str(state), str(error)) from error
    if saved.san != san:
        raise StateUnusable(str(state), "it is of another script, whose LUNs or volume groups differ")
    return saved


def lvm_uuid(seed: str) -> str:
    """Return a UUID of LVM's form, always the same one for a `seed`."""
    letters = _letters(seed)
    return "-".join("".join(next(letters) for _ in range(count)) for count in _UUID_GROUPS)


def _letters(seed: str) -> Iterator[str]:
    for byte in hashlib.sha512(seed.encode()).digest():
        yield _UUID_LETTERS[byte % len(_UUID_LETTERS)]


def _thin_id(lv: SimLv) -> int:
    return int(hashlib.sha256(lv.uuid.encode()).hexdigest()[:4], 16)


def _pool_lv(vg_name: str, pool: Pool) -> SimLv:
    return SimLv(lvm_uuid(f"pool {vg_name}/{pool.name}"), pool.name, pool.size_bytes, "thin-pool")
