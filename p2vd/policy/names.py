"""Names of machines and logical volumes: where they come from, and what LVM and libvirt accept."""

import re
import string

from p2vd.model.disk import Source

_DM_NAME_LENGTH = 127
"""libdm's DM_NAME_LEN less the NUL: what `VG-LV` may take, with each dash within a name doubled."""

_FILE_NAME_LENGTH = 200
"""Filesystems take 255 bytes; while a file is made, its job's UUID is in its name."""

_RESERVED_PREFIXES = ("pvmove", "snapshot")
_RESERVED_PARTS = (
    *("_cdata", "_cmeta", "_corig", "_cpool", "_cvol", "_imeta", "_iorig", "_mimage", "_mlog", "_pmspare"),
    *("_rimage", "_rmeta", "_tdata", "_tmeta", "_vdata", "_vorigin", "_vpool", "_wcorig"),
)
"""Of lvm(8), VALID NAMES, and of LVM's lib/misc/lvm-string.c, which knows more."""

_IDENTIFYING = ("machine", "wwid")
_TEMPLATE_FIELDS = (*_IDENTIFYING, "disk")
_DEFAULT = "{machine}"
_DEFAULT_OF_MANY = "{machine}-{disk}"
_FOREIGN = re.compile(r"[^A-Za-z0-9+_.-]")


def default_machine_name(source: Source) -> str:
    """Return the name of a machine that nobody named: `p2v-` and the end of its disk's WWID."""
    return "p2v-" + _FOREIGN.sub("_", source.wwid or source.id)[-12:].lstrip("-._+")


def template_problem(template: str) -> str:
    """Return why `template` is no pattern of an LV's name; "" if it is one."""
    try:
        fields = [
            (field, spec, conversion) for _, field, spec, conversion in _parsed(template) if field is not None
        ]
    except ValueError as error:
        return f"is not a template: {error}"
    for field, spec, conversion in fields:
        if field not in _TEMPLATE_FIELDS or spec or conversion:
            return f"may name {{machine}}, {{wwid}} and {{disk}} only, not {{{field}}}"
    if not any(field in _IDENTIFYING for field, _, _ in fields):
        return "must name {machine} or {wwid}: an LV's name is taken once"
    return ""


def lv_name(template: str, machine_name: str, source: Source, number: int = 1, of: int = 1) -> str:
    """Return the name of the LV for disk `number` (from 1) `of` so many; what LVM refuses becomes `_`.

    An empty `template`: `{machine}`, and `{machine}-{disk}` for a machine of several disks.
    """
    template = template or (_DEFAULT if of == 1 else _DEFAULT_OF_MANY)
    filled = template.format(machine=machine_name, wwid=source.wwid or source.id, disk=number)
    name = _FOREIGN.sub("_", filled)
    return "_" + name[1:] if name.startswith("-") else name


def lv_name_problem(vg_name: str, name: str) -> str:
    """Return why LVM would refuse `name` in that VG; "" if it would not."""
    if name in ("", ".", ".."):
        return f"{name!r} is no name of an LV."
    if name.startswith(_RESERVED_PREFIXES):
        return f"LVM keeps names that begin with {' or '.join(_RESERVED_PREFIXES)} for itself: {name}."
    reserved = next((part for part in _RESERVED_PARTS if part in name), "")
    if reserved:
        return f"LVM keeps names that contain {reserved} for itself: {name}."
    if sum(len(part) + part.count("-") for part in (vg_name, name)) + 1 > _DM_NAME_LENGTH:
        return f"{vg_name}/{name} is longer than device-mapper allows ({_DM_NAME_LENGTH} characters)."
    return ""


def file_name(
    template: str, machine_name: str, source: Source, suffix: str, number: int = 1, of: int = 1
) -> str:
    """Return the name of the file for disk `number` (from 1) `of` so many, as `lv_name` has it of an LV.

    A name that would hide the file, or be taken for an option, begins with `_`.
    """
    name = lv_name(template, machine_name, source, number, of)
    return ("_" + name[1:] if name.startswith(".") else name) + suffix


def file_name_problem(name: str) -> str:
    """Return why no file could have that name while it is made and after; "" if it could."""
    if len(name.encode()) > _FILE_NAME_LENGTH:
        return f"{name} is longer than the {_FILE_NAME_LENGTH} characters that the name of a file may have."
    return ""


def _parsed(template: str) -> list[tuple[str, str | None, str | None, str | None]]:
    return list(string.Formatter().parse(template))
