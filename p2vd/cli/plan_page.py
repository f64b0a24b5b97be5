"""A plan as one reads it before it runs. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from p2vd.cli.fill_text import pool_facts
from p2vd.cli.layout import facts, fold, prose, table
from p2vd.model.size import format_size


def plan(page: Mapping[str, Any]) -> str:
    """A plan as one reads it before it runs: of one disk a list of facts, of several a table besides."""
    disks: Sequence[Mapping[str, Any]] = page["Disks"]
    told = (
        ("Machine", page["MachineName"]),
        *((("Record", page["Record"]),) if page["Record"] else ()),
        *(_one_disk(disks[0]) if len(disks) == 1 else ()),
        *pool_facts(page),
        ("Time", page["Estimate"]),
        *((("Cutover", "manual: registered when told to"),) if page["Cutover"] == "manual" else ()),
        ("Domain", _domain(page)),
    )
    lines = [f"Plan {page['Id']}", "", facts(told, indent=2, least=9)]
    if len(disks) > 1:
        lines += ["", *_disks(disks)]
    lines += ["", "Steps"]
    for number, step in enumerate(page["Steps"], 1):
        lines += fold(f"  {number}. {step}", 5)
    lines += [*_choices(page["DomainChoices"]), *_warnings(page["Warnings"])]
    lines += ["", "Nothing was written. To run it:", f"  p2vctl migrate {page['Id']} --wait"]
    return "\n".join(lines)


def cutover(choice: Mapping[str, Any], machine_name: str) -> str:
    """The virtual machine that a cutover would define."""
    said_by = "an earlier cutover" if choice["Kept"] else "its plan"
    if choice["Policy"]:
        said_by = f'the policy "{choice["Policy"]}" in force now'
    told = (
        ("Machine", machine_name),
        ("Said by", said_by),
        ("Conversion", choice["Conversion"]),
        ("Domain", _domain(choice)),
        ("Start", "p2vd starts it" if choice["Start"] else "p2vd does not start it"),
    )
    lines = [facts(told), *_choices(choice["DomainChoices"]), *_warnings(choice["Warnings"])]
    return "\n".join(lines)


def _domain(page: Mapping[str, Any]) -> str:
    memory = format_size(page["Memory"])
    return f"{page['Hypervisor']}, {page['Cpus']} CPUs, {memory} memory, {page['Firmware']}"


def _warnings(warnings: Sequence[str]) -> list[str]:
    lines = ["", "Warnings"] if warnings else []
    for warning in warnings:
        lines += fold(f"  ! {warning}", 4)
    return lines


def _choices(choices: Sequence[tuple[str, str, str]]) -> list[str]:
    """How the virtual machine will look, with the reason of each choice; none from an older p2vd."""
    if not choices:
        return []
    width = max(len(key) for key, _, _ in choices)
    lines = ["", "Virtual machine"]
    for key, value, why in choices:
        lines.append(prose(f"{value}. {why}", first=f"  {key.ljust(width)}  ", rest=" " * (width + 4)))
    return lines


def _one_disk(disk: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield (
        "Source",
        f"{disk['SourceId']} ({format_size(disk['SourceSize'])}, "
        f"{disk['SourceSectorSize']}-byte sectors, {disk['Transport']})",
    )
    yield "Offline", "declared" if disk["SourceOffline"] else "not declared"
    path, how, place = _target(disk)
    yield "Target", f"{path}, {how}, {format_size(disk['TargetSize'])}"
    yield "Space", f"up to {format_size(disk['WorstCaseBytes'])} of {disk.get('Pool') or place}"
    yield "Policy", f"{disk['Policy']} ({disk['PolicyFile']})"
    yield "Verify", disk["Verify"]
    yield "Bandwidth", f"{format_size(disk['Bandwidth'])}/s" if disk["Bandwidth"] else "no limit"


def _target(disk: Mapping[str, Any]) -> tuple[str, str, str]:
    """What a disk becomes, in which form, and of what it takes its space."""
    match disk.get("TargetKind", "lv"):
        case "lun":
            return disk["Target"], "whole LUN", f"the LUN {disk['TargetWwid']}"
        case "file":
            return (
                disk["Target"],
                disk["TargetFormat"],
                f"the filesystem of {disk['Target'].rpartition('/')[0]}",
            )
    group, pool = disk["VolumeGroup"], disk["Pool"]
    how = f"thin in {pool}" if pool else disk["Provisioning"]
    return f"{group}/{disk['LogicalVolume']}", how, f"{group}/{pool}" if pool else group


def _disks(disks: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """One line a disk, and what all of them take of each pool and volume group."""
    rows = [
        (
            str(number),
            disk["SourceId"],
            format_size(disk["SourceSize"]),
            disk["Transport"],
            *_target(disk)[:2],
            disk["Verify"],
            disk["Policy"],
        )
        for number, disk in enumerate(disks, 1)
    ]
    head = ("DISK", "SOURCE", "SIZE", "TRANSPORT", "TARGET", "SPACE", "VERIFY", "POLICY")
    yield table(head, rows, indent=2)
    yield ""
    taken: dict[str, int] = {}
    for disk in disks:
        place = _target(disk)[2]
        taken[place] = taken.get(place, 0) + disk["WorstCaseBytes"]
    yield from (f"  Together up to {format_size(size)} of {place}." for place, size in taken.items())
