"""The table `[rule.target]` of a policy: where disks go, and what each kind of target has to be told."""

import re
from collections.abc import Sequence
from dataclasses import replace

from p2vd.model.domain import Conversion
from p2vd.model.forms import PACKED_TARGETS, Compression, TargetFormat, TargetKind
from p2vd.model.plan import DomainOptions, Provisioning
from p2vd.model.size import KIB, MIB
from p2vd.policy.domain import NO_HYPERVISOR
from p2vd.policy.match_table import match_of
from p2vd.policy.model import FileRule, SectorSizeRemedy, TargetRule
from p2vd.policy.names import template_problem
from p2vd.policy.toml import Table

_KEYS = {
    TargetKind.LV: ("volume_groups", "provisioning", "thin_pool", "single_host", "autoactivate"),
    TargetKind.LUN: ("lun", "unmap"),
    TargetKind.FILE: ("directory", "require_mount", "owner", "group", "mode", "cluster_size", "compression"),
}
"""What only targets of that kind have; the first one is required, and tells the kind where it is not said."""

_MODE = re.compile(r"0?[0-7]{3}")
_MIN_CLUSTER, _MAX_CLUSTER = 64 * KIB, 2 * MIB
"""What is copied is looked at for zeros in pieces of 64 KiB, and QEMU takes no more than 2 MiB."""

_OWNER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}")


def target_of(table: Table) -> TargetRule:
    """Return what the table says; all that is wrong in it is recorded there."""
    kind = _kind(table)
    for other, keys in _KEYS.items():
        for key in keys if other is not kind else ():
            table.refuse(
                key, f'is for kind = "{other.value}", and this is "{kind.value}"; remove one of them'
            )
    name = table.text("name", TargetRule.name)
    if "name" in table and (problem := template_problem(name)):
        table.error("name", problem)
    form = table.choice("format", TargetFormat.RAW)
    if kind is not TargetKind.FILE and form is not TargetFormat.RAW:
        table.error("format", f'"{form.value}" is for files; with kind = "{kind.value}" bytes are raw')
    lun = kind is TargetKind.LUN and "lun" in table
    target = TargetRule(
        name=name,
        sector_size_remedy=table.choice("sector_size_remedy", SectorSizeRemedy.NONE),
        kind=kind,
        luns=match_of(table.table("lun")) if lun else None,
        unmap=kind is TargetKind.LUN and table.flag("unmap"),
        files=_files(table, form) if kind is TargetKind.FILE else None,
    )
    if kind is TargetKind.LV:
        target = _with_volume(table, target)
    if kind is TargetKind.LUN:
        _check_lun(table, target)
    table.finish()
    return target


def refuse_contradictions(target: TargetRule, domain: DomainOptions, rule: Table) -> None:
    """Record what target, pool and virtual machine each allow, and what does not go together."""
    where = rule.table("target")
    if not target.is_thin and target.kind is TargetKind.LV and "pool" in rule:
        rule.error("pool", 'a thick volume has no pool; remove the table or write provisioning = "thin"')
    if target.kind is TargetKind.LUN and "pool" in rule:
        rule.error("pool", "a whole LUN has no pool; remove the table")
    if target.kind is TargetKind.FILE:
        for key in ("over_commit", "extend"):
            if key in rule.table("pool"):
                rule.table("pool").error(key, "is for thin pools; of a filesystem see reserve_percent")
    if target.kind is not TargetKind.LV and domain.conversion is not Conversion.NONE:
        rule.table("domain").error(
            "conversion", "needs an undo point of each disk, and only a logical volume has one"
        )
    files = target.files
    if files is None or domain.uri == NO_HYPERVISOR:
        return
    if files.format in PACKED_TARGETS:
        where.error(
            "format",
            f'no hypervisor starts a machine from "{files.format.value}"; write domain.hypervisor = '
            f'"{NO_HYPERVISOR}" to keep such files, or "raw" or "qcow2"',
        )
    if domain.uri == "kubevirt":
        where.error("kind", 'a node of Kubernetes has no files of this host; write "lv" or "lun"')


def _kind(table: Table) -> TargetKind:
    if "kind" in table:
        return table.choice("kind", TargetKind.LV)
    table.choice("kind", TargetKind.LV)  # so that it is known
    return next((kind for kind, keys in _KEYS.items() if keys[0] in table), TargetKind.LV)


def _with_volume(table: Table, target: TargetRule) -> TargetRule:
    groups = table.texts("volume_groups")
    if "volume_groups" not in table:
        table.error("volume_groups", 'is missing: a list of names or "@tags" of volume groups')
    provisioning = table.choice("provisioning", Provisioning.THIN)
    if "provisioning" not in table:
        table.error("provisioning", 'is missing: "thin" or "thick"')
    thin_pool = table.text("thin_pool")
    if provisioning is Provisioning.THICK and thin_pool:
        table.error("thin_pool", 'a thick volume has no pool; remove the key or write provisioning = "thin"')
    return replace(
        target,
        volume_groups=groups,
        provisioning=provisioning,
        thin_pool=thin_pool,
        single_host=table.flag("single_host"),
        autoactivate=table.flag("autoactivate", TargetRule.autoactivate),
    )


def _check_lun(table: Table, target: TargetRule) -> None:
    if target.luns is None:
        table.error("lun", 'is missing: a table of what the LUNs are, as { wwid = "3600a0980*" }')
    elif target.luns.machine:
        table.table("lun").error("machine", "an empty LUN belongs to no machine")
    if target.name:
        table.error("name", "a LUN has the name that the array gave it; remove the key")


def _files(table: Table, form: TargetFormat) -> FileRule:
    directory = _path(table, "directory")
    if not directory:
        table.error("directory", "is missing: where the files are made, an absolute path")
    mount = _path(table, "require_mount")
    if mount and directory and not _is_below(directory, mount):
        table.error("require_mount", f"{directory} is not below {mount}: its mount would say nothing of it")
    mode = table.text("mode", "0600")
    if not _MODE.fullmatch(mode):
        table.error("mode", f'must be three octal digits, as "0660", not {mode!r}')
        mode = "0600"
    cluster = table.size("cluster_size", FileRule.cluster_bytes)
    if "cluster_size" in table and (not _MIN_CLUSTER <= cluster <= _MAX_CLUSTER or cluster & (cluster - 1)):
        table.error("cluster_size", 'must be a power of two from "64 KiB" to "2 MiB"')
    compression = table.choice("compression", FileRule.compression)
    if compression is not Compression.NONE and cluster != _MIN_CLUSTER:
        table.error("cluster_size", 'must be "64 KiB" where clusters are compressed; remove the key')
    for key in ("cluster_size", "compression"):
        if form is not TargetFormat.QCOW2 and key in table:
            table.error(key, f'is for format = "qcow2", not for "{form.value}"; remove the key')
    return FileRule(
        directory=directory,
        format=form,
        mount=mount,
        owner=_owner(table, "owner"),
        group=_owner(table, "group"),
        mode=int(mode, 8),
        cluster_bytes=cluster,
        compression=compression,
    )


def _path(table: Table, key: str) -> str:
    """Return an absolute path without `.`, `..` and doubled slashes: it is compared as text later."""
    path = table.text(key)
    parts: Sequence[str] = path.split("/")[1:]
    if path and (not path.startswith("/") or any(part in (".", "..") for part in parts)):
        table.error(key, f"must be an absolute path without . and .., not {path!r}")
        return ""
    return "/" + "/".join(part for part in parts if part) if path else ""


def _is_below(path: str, mount: str) -> bool:
    return path == mount or path.startswith(mount.rstrip("/") + "/")


def _owner(table: Table, key: str) -> str:
    name = table.text(key)
    if name and not _OWNER.fullmatch(name):
        table.error(key, f"{name!r} is no name of a user or group")
    return name
