"""The simulated LVM commands: fullreport, lvcreate, lvchange, lvremove, in the forms that p2vd uses.

Answers have the form of LVM 2.03.16's, of which captures are in tests/fixtures. What p2vd does not
use is refused, never guessed.
"""

import json
import re
import uuid as uuids
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from p2vd.sim.mapper import dm_name
from p2vd.sim.volumes import EXTENT_BYTES, SimLv, SimVg, Volumes, lvm_uuid

Row = dict[str, str]

# LVM's exit statuses: ECMD_FAILED, EINVALID_CMD_LINE.
_FAILED, _WRONG_LINE = 5, 3
_FLAGS = frozenset({"--yes", "--thin", "--binary", "--nosuffix", "--foreign", "--shared", "--nolocking"})
_CONFIG = {
    "devices/scan_lvs": "0",
    "devices/filter": '["a|.*|"]',
    "devices/global_filter": '["a|.*|"]',
    "devices/use_devicesfile": "0",
    "devices/devicesfile": '"system.devices"',
    "global/event_activation": "0",
    "activation/thin_pool_autoextend_threshold": "100",
    "activation/thin_pool_autoextend_percent": "20",
}
_SELECTION = re.compile(r'(vg_uuid|lv_uuid|lv_tags)="?([^"\s]+)"?')


class Answered(Exception):
    """A command ended: its exit status, and what it said on standard error."""

    def __init__(self, returncode: int, stderr: str) -> None:
        super().__init__(stderr)
        self.returncode = returncode
        self.stderr = stderr


class Lvm:
    """LVM over the simulated volume groups. Used under the SAN's lock. Methods raise Answered."""

    def __init__(self, volumes: Volumes) -> None:
        self._volumes = volumes
        self.commands: dict[str, Callable[[Sequence[str]], str]] = {
            "lvcreate": self._create,
            "lvchange": self._change,
            "lvremove": self._remove,
            "lvextend": self._extend,
        }

    def lvmconfig(self, words: Sequence[str]) -> str:
        """Answer `lvm lvmconfig --type full NAME...`: a host set up as p2vd wants it."""
        try:
            return "".join(f"{name.partition('/')[2]}={_CONFIG[name]}\n" for name in words)
        except KeyError as error:
            raise Answered(_FAILED, f"  Configuration node {error.args[0]} not found\n") from None

    def fullreport(self, words: Sequence[str]) -> str:
        """Answer `lvm fullreport ...` with the fields that were asked for, as JSON."""
        reports: dict[str, tuple[str, list[str]]] = {}
        devices: set[str] = set()
        report = selection = ""
        iterator = iter(words)
        for word in iterator:
            if word in _FLAGS:
                continue
            value = next(iterator, "")
            match word:
                case "--devices":
                    devices |= set(value.split(","))
                case "--configreport":
                    report, selection = value, ""
                case "--select":
                    selection = value
                case "-o":
                    reports[report] = (selection, value.split(","))
                case "--reportformat" | "--units":
                    pass
                case _:
                    raise Answered(_WRONG_LINE, f"  unrecognized option '{word}'\n")
        sections = []
        for group in self._volumes.groups.values():
            if rows := _rows(group, devices):
                sections.append({name: _picked(rows, name, *asked) for name, asked in reports.items()})
        return json.dumps({"report": sections}, indent=4) + "\n"

    def _create(self, words: Sequence[str]) -> str:
        options, name = _parse(words)
        group, lv_name = self._group(name), options["--name"][0]
        if group.named(lv_name) is not None:
            said = f'Logical Volume "{lv_name}" already exists in volume group "{group.name}"'
            raise Answered(_FAILED, f"  {said}\n")
        thin = "--thin" in options
        size = int(options["--virtualsize" if thin else "--size"][0].removesuffix("b"))
        size = -(-size // EXTENT_BYTES) * EXTENT_BYTES
        if not thin and size > group.free_bytes:
            said = (
                f'Volume group "{group.name}" has insufficient free space '
                f"({group.free_bytes // EXTENT_BYTES} extents): {size // EXTENT_BYTES} required."
            )
            raise Answered(_FAILED, f"  {said}\n")
        pool = options["--thinpool"][0] if thin else ""
        if thin and getattr(group.named(pool), "segtype", "") != "thin-pool":
            raise Answered(_FAILED, f"  Failed to find thin pool {group.name}/{pool}.\n")
        lv = SimLv(
            lvm_uuid(str(uuids.uuid4())),
            lv_name,
            size,
            "thin" if thin else "linear",
            pool,
            tags=frozenset(options["--addtag"]),
        )
        self._volumes.add(group, lv)
        self._volumes.save()
        return f'  Logical volume "{lv_name}" created.\n'

    def _extend(self, words: Sequence[str]) -> str:
        """Extend a pool: `-L SIZEb` its data, `--poolmetadatasize SIZEb` its metadata."""
        *options, name = words
        values = dict(zip(options[::1], [*options[1:], ""], strict=True))
        group = self._group(name.partition("/")[0])
        pool = group.named(name.partition("/")[2])
        if pool is None or pool.segtype != "thin-pool":
            raise Answered(_FAILED, f"  Failed to find logical volume {name}\n")
        data = "-L" in values
        now = pool.size_bytes if data else group.metadata_bytes
        wanted = int(values["-L" if data else "--poolmetadatasize"].removesuffix("b"))
        wanted = -(-wanted // EXTENT_BYTES) * EXTENT_BYTES
        if wanted <= now:
            said = f"New size given ({wanted // EXTENT_BYTES} extents) not larger than existing size "
            raise Answered(_FAILED, f"  {said}({now // EXTENT_BYTES} extents)\n")
        if wanted - now > group.free_bytes:
            said = f"Insufficient free space: {(wanted - now) // EXTENT_BYTES} extents needed, but only "
            raise Answered(_FAILED, f"  {said}{group.free_bytes // EXTENT_BYTES} available\n")
        if data:
            self._volumes.grow_pool(group, replace(pool, size_bytes=wanted))
        else:
            self._volumes.grow_pool(group, replace(pool, metadata_bytes=wanted))
        self._volumes.save()
        return f"  Logical volume {name} successfully resized.\n"

    def _change(self, words: Sequence[str]) -> str:
        options, name = _parse(words)
        group = self._group(name)
        for lv in _selected(group, options["--select"][0]):
            changed = replace(lv, tags=(lv.tags | set(options["--addtag"])) - set(options["--deltag"]))
            if "--setautoactivation" in options:
                changed = replace(changed, autoactivation=options["--setautoactivation"][0] == "y")
            if "--activate" in options:
                changed = replace(changed, active=options["--activate"][0] == "y")
            if lv.active and not changed.active:
                self._refuse_open(group, lv)
            self._volumes.change(group, changed)
        self._volumes.save()
        return ""

    def _remove(self, words: Sequence[str]) -> str:
        options, name = _parse(words)
        group = self._group(name)
        for lv in _selected(group, options["--select"][0]):
            self._refuse_open(group, lv)
            self._volumes.remove(group, lv)
        self._volumes.save()
        return ""

    def _group(self, name: str) -> SimVg:
        group = self._volumes.groups.get(name)
        if group is None:
            raise Answered(
                _FAILED, f'  Volume group "{name}" not found\n  Cannot process volume group {name}\n'
            )
        return group

    def _refuse_open(self, group: SimVg, lv: SimLv) -> None:
        mapper = self._volumes.mapper
        device = mapper.devices.get(dm_name(group.name, lv.name))
        if device is not None and mapper.open_count(device):
            raise Answered(_FAILED, f"  Logical volume {group.name}/{lv.name} in use.\n")


def _parse(words: Sequence[str]) -> tuple[dict[str, list[str]], str]:
    """Return options with their values, and the volume group, which comes last."""
    options: dict[str, list[str]] = defaultdict(list)
    iterator = iter(words[:-1])
    known = {"--devices", "--virtualsize", "--size", "--zero", "--thinpool", "--name", "--wipesignatures"}
    known |= {"--addtag", "--deltag", "--setautoactivation", "--activate", "--select"}
    for word in iterator:
        if word in _FLAGS:
            options[word] = []
        elif word in known:
            options[word].append(next(iterator, ""))
        else:
            raise Answered(_WRONG_LINE, f"  unrecognized option '{word}'\n")
    return options, words[-1]


def _selected(group: SimVg, selection: str) -> list[SimLv]:
    wanted = dict(_SELECTION.findall(selection))
    if set(wanted) != {"vg_uuid", "lv_uuid", "lv_tags"} or selection.count("&&") != len(wanted) - 1:
        raise Answered(_WRONG_LINE, f"  The simulator does not understand the selection {selection}.\n")
    if wanted["vg_uuid"] != group.uuid:
        return []
    lv = group.lvs.get(wanted["lv_uuid"])
    return [lv] if lv is not None and wanted["lv_tags"] in lv.tags else []


def _picked(rows: dict[str, list[Row]], report: str, selection: str, fields: Collection[str]) -> list[Row]:
    if selection and selection != f"vg_uuid={rows['vg'][0]['vg_uuid']}":
        return []
    try:
        return [{field: row[field] for field in fields} for row in rows[report]]
    except KeyError as error:
        raise Answered(_WRONG_LINE, f"  Unrecognised field: {error.args[0]}\n") from None


def _rows(group: SimVg, devices: Collection[str]) -> dict[str, list[Row]]:
    """Return every row of every report of one group; none where no PV of it is shown to LVM."""
    shown = [pv.lun.mapped and pv.lun.node in devices for pv in group.pvs]
    if not any(shown):
        return {}
    vg = {
        "vg_uuid": group.uuid,
        "vg_name": group.name,
        "vg_size": str(group.size_bytes),
        "vg_free": str(group.free_bytes),
        "vg_extent_size": str(EXTENT_BYTES),
        "vg_lock_type": "",
        "vg_systemid": "",
        "vg_missing_pv_count": str(shown.count(False)),
        "vg_exported": "0",
        "vg_clustered": "0",
        "vg_tags": ",".join(group.kind.tags),
    }
    left = group.size_bytes - group.free_bytes
    pvs = []
    for pv, is_shown in zip(group.pvs, shown, strict=True):
        size = pv.lun.kind.size_bytes - EXTENT_BYTES
        used = min(size, left)
        left -= used
        major, minor = pv.lun.number.split(":") if is_shown else ("0", "0")
        pvs.append(
            {
                "pv_uuid": pv.uuid,
                "pv_name": pv.lun.node if is_shown else "[unknown]",
                "pv_major": major,
                "pv_minor": minor,
                "pv_size": str(size),
                "pv_free": str(size - used),
                "pv_missing": "0" if is_shown else "1",
                "pv_duplicate": "0",
            }
        )
    return {
        "vg": [vg],
        "pv": pvs,
        "lv": [_lv_row(group, lv) for lv in group.lvs.values()],
        "seg": [_segment_row(group, lv) for lv in group.lvs.values()],
        "pvseg": [{"pv_uuid": pv.uuid} for pv in group.pvs],
    }


def _lv_row(group: SimVg, lv: SimLv) -> Row:
    data = metadata = ""
    if lv.active and lv.segtype == "thin":
        data = f"{100 * lv.allocated_bytes / lv.size_bytes:.2f}"
    elif lv.active and lv.segtype == "thin-pool":
        data = f"{100 * group.pool_used_bytes() / lv.size_bytes:.2f}"
        used, total = group.metadata_blocks()
        metadata = f"{100 * used / total:.2f}"
    return {
        "lv_uuid": lv.uuid,
        "lv_name": lv.name,
        "lv_size": str(lv.size_bytes),
        "lv_tags": ",".join(sorted(lv.tags)),
        "pool_lv": lv.pool,
        "lv_active_locally": str(int(lv.active)),
        "lv_autoactivation": str(int(lv.autoactivation)),
        "data_percent": data,
        "metadata_percent": metadata,
        "lv_health_status": "",
        "lv_profile": "",
        "lv_metadata_size": str(group.metadata_bytes) if lv.segtype == "thin-pool" else "",
    }


def _segment_row(group: SimVg, lv: SimLv) -> Row:
    pool = group.kind.pool
    chunk = pool.chunk_bytes if pool and lv.segtype == "thin-pool" else 0
    zero = "-1" if pool is None or lv.segtype == "linear" else str(int(pool.zeroes))
    return {"lv_uuid": lv.uuid, "segtype": lv.segtype, "chunk_size": str(chunk), "zero": zero}
