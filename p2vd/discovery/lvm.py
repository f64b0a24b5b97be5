"""Volume groups, from one `lvm fullreport` over an explicit list of devices.

Seen on LVM 2.03.16:
- `--readonly` asks device-mapper nothing: every LV's state is "unknown" and a pool's fill is empty.
  So reports run without it.
- Without `--nolocking` a report waits for as long as a change holds the VG's lock, and a stuck change
  would blind p2vd. Metadata is checksummed as a whole, so a VG is read whole or not at all.
- Without `--foreign` and `--shared` VGs of other hosts and lockd VGs are passed over in silence;
  they must be seen, in order to be refused by name.
- A path in `--devices` would be used in place of its map: callers name maps and never paths.
- A device that is absent is no error: its VG just has a missing PV, or is not there.
- A PV that is there twice (a clone, a snapshot) is reported once, as if all were well; a warning on
  standard error and `pvs --all` alone tell of the other device.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from p2vd.model.errors import OutputUnclear, P2vdError
from p2vd.model.lvm import Lv, Pv, ThinPool, Vg
from p2vd.system.command import CommandFailed, Commands, Result

_VG_FIELDS = (
    "vg_uuid,vg_name,vg_size,vg_free,vg_extent_size,vg_lock_type,vg_systemid,vg_missing_pv_count,"
    "vg_exported,vg_clustered,vg_tags"
)
_PV_FIELDS = "pv_uuid,pv_name,pv_major,pv_minor,pv_size,pv_free,pv_missing,pv_duplicate"
_LV_FIELDS = (
    "lv_uuid,lv_name,lv_size,lv_tags,pool_lv,lv_active_locally,lv_autoactivation,"
    "data_percent,metadata_percent,lv_health_status,lv_profile,lv_metadata_size"
)
_FORMAT = ("--reportformat", "json", "--units", "b", "--nosuffix", "--binary", "--foreign", "--shared")
_AUTOEXTEND = ("thin_pool_autoextend_threshold", "thin_pool_autoextend_percent")
_SEGMENT_FIELDS = "lv_uuid,segtype,chunk_size,zero"

# The kernel takes at most 128 KiB in one argument; `--devices` may be repeated.
_DEVICES_AN_ARGUMENT = 500

_MISSING_DEVICE_NUMBER = "-1:-1"

Row = Mapping[str, str]


@dataclass(eq=False)
class ReportFailed(P2vdError):
    """LVM's report could not be read; nothing follows from it, least of all that something is gone."""

    problem: str
    template: ClassVar[str] = "LVM's report cannot be used: {problem}"


@dataclass(frozen=True)
class LvmDevice:
    """A device that LVM may look at: the node to name, the logical sector size, the disk's id."""

    path: str
    sector_size: int
    source_id: str = ""


@dataclass(frozen=True)
class Report:
    """Volume groups that were read; `complaint` is LVM's, where it said that something is wrong."""

    volume_groups: tuple[Vg, ...]
    complaint: str = ""


def device_arguments(paths: list[str]) -> list[str]:
    """Return the options that restrict an LVM command to `paths`."""
    groups = [paths[at : at + _DEVICES_AN_ARGUMENT] for at in range(0, len(paths), _DEVICES_AN_ARGUMENT)]
    return [word for group in groups for word in ("--devices", ",".join(group))]


def read_volume_groups(
    commands: Commands, devices: Mapping[str, LvmDevice], *, vg_uuid: str = "", locking: bool = False
) -> Report:
    """Return the volume groups on `devices` (by MAJ:MIN), or the one of `vg_uuid`.

    No devices: no volume groups, and LVM is not asked (without `--devices` it would look at all).
    A report with an exit status but whole JSON is returned with its complaint.
    Raises ReportFailed, CommandTimedOut.
    """
    if not devices:
        return Report(())
    argv = _argv(devices, vg_uuid, locking)
    try:
        # 5 is ECMD_FAILED: something was wrong with some VG; the others were reported.
        result = commands.query(argv, ok=(0, 5))
    except CommandFailed as error:
        raise ReportFailed(str(error)) from error
    sections = _sections(result)
    try:
        clones = _clones(commands, devices) if result.stderr.strip() else []
        volume_groups = tuple(_vg(section, devices, clones) for section in sections if section.get("vg"))
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise ReportFailed(f"a field is missing or no number: {error!r}") from error
    complaint = " ".join(result.stderr.split()) if result.returncode else ""
    return Report(volume_groups, complaint or ("LVM says no cause." if result.returncode else ""))


def with_autoextend(commands: Commands, volume_groups: Collection[Vg]) -> tuple[Vg, ...]:
    """Return the volume groups with what LVM would do about pools that fill up.

    Asks once for each profile that a pool has. Raises CommandFailed, CommandTimedOut, OutputUnclear.
    """
    profiles = {pool.profile for vg in volume_groups for pool in vg.thin_pools}
    settings = {profile: _autoextend(commands, profile) for profile in sorted(profiles)}
    return tuple(
        replace(vg, thin_pools=tuple(_extended(pool, *settings[pool.profile]) for pool in vg.thin_pools))
        for vg in volume_groups
    )


def _extended(pool: ThinPool, threshold: int, percent: int) -> ThinPool:
    return replace(pool, autoextend_threshold_percent=threshold, autoextend_percent=percent)


def _autoextend(commands: Commands, profile: str) -> tuple[int, int]:
    chosen = ["--metadataprofile", profile] if profile else []
    argv = ["lvm", "lvmconfig", "--type", "full", *chosen, *(f"activation/{name}" for name in _AUTOEXTEND)]
    answer = commands.query(argv).stdout
    found = dict(line.strip().partition("=")[::2] for line in answer.splitlines())
    values = [found.get(name, "") for name in _AUTOEXTEND]
    if not all(value.isascii() and value.isdecimal() for value in values):
        raise OutputUnclear(" ".join(argv), answer[:80])
    return int(values[0]), int(values[1])


def _device_list(devices: Mapping[str, LvmDevice]) -> list[str]:
    return device_arguments(sorted(device.path for device in devices.values()))


def _argv(devices: Mapping[str, LvmDevice], vg_uuid: str, locking: bool) -> list[str]:
    selection = ["--select", f"vg_uuid={vg_uuid}"] if vg_uuid else []
    reports = {
        "vg": _VG_FIELDS,
        "pv": _PV_FIELDS,
        "lv": _LV_FIELDS,
        "seg": _SEGMENT_FIELDS,
        "pvseg": "pv_uuid",
    }
    return [
        "lvm",
        "fullreport",
        *_FORMAT,
        *(() if locking else ("--nolocking",)),
        *_device_list(devices),
        *(
            word
            for name, fields in reports.items()
            for word in ("--configreport", name, *selection, "-o", fields)
        ),
    ]


def _sections(result: Result) -> list[Mapping[str, list[Row]]]:
    try:
        sections: list[Mapping[str, list[Row]]] = json.loads(result.stdout)["report"]
    except (ValueError, KeyError, TypeError) as error:
        said = " ".join(result.stderr.split()) or "nothing"
        raise ReportFailed(f"it is not whole JSON ({error}); LVM said {said}.") from error
    if not isinstance(sections, list) or not all(isinstance(section, dict) for section in sections):
        raise ReportFailed("its sections are not what LVM writes.")
    return sections


def _clones(commands: Commands, devices: Mapping[str, LvmDevice]) -> list[Row]:
    """Return the devices that LVM does not use because each holds a PV that another device holds, too."""
    argv = ["lvm", "pvs", "--all", "--select", "pv_duplicate=1", *_FORMAT, "--nolocking"]
    try:
        result = commands.query([*argv, *_device_list(devices), "-o", _PV_FIELDS], ok=(0, 5))
    except CommandFailed as error:
        raise ReportFailed(str(error)) from error
    return [row for section in _sections(result) for row in section["pv"]]


def _vg(section: Mapping[str, list[Row]], devices: Mapping[str, LvmDevice], clones: Sequence[Row]) -> Vg:
    (row,) = section["vg"]
    uuids = {pv["pv_uuid"] for pv in section["pv"]}
    pvs = [*section["pv"], *(pv for pv in clones if pv["pv_uuid"] in uuids)]
    present = {f"{pv['pv_major']}:{pv['pv_minor']}" for pv in section["pv"]}
    sectors = [device.sector_size for number, device in devices.items() if number in present]
    segments = {segment["lv_uuid"]: segment for segment in section["seg"]}
    rows = {lv["lv_uuid"]: lv for lv in section["lv"]}
    return Vg(
        uuid=row["vg_uuid"],
        name=row["vg_name"],
        size_bytes=_count(row["vg_size"]),
        free_bytes=_count(row["vg_free"]),
        extent_size_bytes=_count(row["vg_extent_size"]),
        # A stack's sector is the largest below it; LVM refuses to mix unless told to.
        sector_size=max(sectors, default=512),
        lock_type=row["vg_lock_type"],
        system_id=row["vg_systemid"],
        missing_pv_count=_count(row["vg_missing_pv_count"]),
        exported=_flag(row["vg_exported"]),
        clustered=_flag(row["vg_clustered"]),
        tags=_tags(row["vg_tags"]),
        pvs=tuple(_pv(pv, devices) for pv in pvs),
        lvs=tuple(_lv(lv) for lv in rows.values()),
        thin_pools=tuple(
            _pool(lv, segments[uuid], rows.values())
            for uuid, lv in rows.items()
            if segments[uuid]["segtype"] == "thin-pool"
        ),
    )


def _pv(row: Row, devices: Mapping[str, LvmDevice]) -> Pv:
    number = f"{row['pv_major']}:{row['pv_minor']}"
    device = devices.get(number)
    missing = _flag(row["pv_missing"]) or number == _MISSING_DEVICE_NUMBER
    return Pv(
        uuid=row["pv_uuid"],
        device=device.path if device else row["pv_name"],
        size_bytes=_count(row["pv_size"]),
        free_bytes=_count(row["pv_free"]),
        missing=missing,
        duplicate=_flag(row["pv_duplicate"]),
        source_id=device.source_id if device and not missing else "",
    )


def _lv(row: Row) -> Lv:
    return Lv(
        uuid=row["lv_uuid"],
        name=row["lv_name"],
        size_bytes=_count(row["lv_size"]),
        tags=_tags(row["lv_tags"]),
        pool=row["pool_lv"],
        active=_flag(row["lv_active_locally"]),
        autoactivation=_flag(row["lv_autoactivation"]),
    )


def _pool(row: Row, segment: Row, lvs: Collection[Row]) -> ThinPool:
    return ThinPool(
        uuid=row["lv_uuid"],
        name=row["lv_name"],
        size_bytes=_count(row["lv_size"]),
        chunk_size_bytes=_count(segment["chunk_size"]),
        zeroes=_flag(segment["zero"]),
        data_percent=_percent(row["data_percent"]),
        metadata_percent=_percent(row["metadata_percent"]),
        virtual_size_bytes=sum(_count(lv["lv_size"]) for lv in lvs if lv["pool_lv"] == row["lv_name"]),
        health=row["lv_health_status"],
        active=_flag(row["lv_active_locally"]),
        profile=row["lv_profile"],
        metadata_size_bytes=_count(row.get("lv_metadata_size") or "0"),
    )


def _flag(value: str) -> bool:
    # --binary: "1", "0", "-1" where LVM does not know, empty where it does not apply.
    if value not in ("1", "0", "-1", ""):
        raise ValueError(f"{value!r} is no flag")
    return value == "1"


def _percent(value: str) -> float:
    # Empty while the pool is inactive.
    percent = float(value) if value else 0.0
    if not 0 <= percent <= 100:
        raise ValueError(f"{value!r} is no percentage")
    return percent


def _count(value: str) -> int:
    if not (value.isascii() and value.isdecimal()):
        raise ValueError(f"{value!r} is no number")
    return int(value)


def _tags(value: str) -> frozenset[str]:
    return frozenset(value.split(",")) if value else frozenset()
