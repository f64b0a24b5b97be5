"""A plan as one reads it before it runs. Pure."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from p2vd.cli.render import table
from p2vd.model.size import format_size

_WIDTH = 100


def plan(page: Mapping[str, Any]) -> str:
    """A plan as one reads it before it runs: of one disk a list of facts, of several a table besides."""
    disks: Sequence[Mapping[str, Any]] = page["Disks"]
    facts = (
        ("Machine", page["MachineName"]),
        *((("Record", page["Record"]),) if page["Record"] else ()),
        *(_one_disk(disks[0]) if len(disks) == 1 else ()),
        ("Time", page["Estimate"]),
        *((("Cutover", "manual: registered when told to"),) if page["Cutover"] == "manual" else ()),
        (
            "Domain",
            f"{page['Hypervisor']}, {page['Cpus']} CPUs, {format_size(page['Memory'])} memory, "
            f"{page['Firmware']}",
        ),
    )
    lines = [f"Plan {page['Id']}", ""]
    lines += [f"  {name.ljust(9)}  {value}" for name, value in facts]
    if len(disks) > 1:
        lines += ["", *_disks(disks)]
    lines += ["", "Steps", *(f"  {number}. {step}" for number, step in enumerate(page["Steps"], 1))]
    lines += _choices(page["DomainChoices"])
    if page["Warnings"]:
        lines += ["", "Warnings", *(f"  ! {warning}" for warning in page["Warnings"])]
    lines += ["", "Nothing was written. To run it:", f"  p2vctl migrate {page['Id']} --wait"]
    return "\n".join(lines)


def _choices(choices: Sequence[tuple[str, str, str]]) -> list[str]:
    """How the virtual machine will look, with the reason of each choice; none from an older p2vd."""
    if not choices:
        return []
    width = max(len(key) for key, _, _ in choices)
    lines = ["", "Virtual machine"]
    for key, value, why in choices:
        first, *rest = textwrap.wrap(f"{value}. {why}", _WIDTH - width - 4, break_on_hyphens=False)
        lines += [f"  {key.ljust(width)}  {first}", *(" " * (width + 4) + line for line in rest)]
    return lines


def _one_disk(disk: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    thin = f"thin in {disk['Pool']}" if disk["Pool"] else disk["Provisioning"]
    yield (
        "Source",
        f"{disk['SourceId']} ({format_size(disk['SourceSize'])}, "
        f"{disk['SourceSectorSize']}-byte sectors, {disk['Transport']})",
    )
    yield "Offline", "declared" if disk["SourceOffline"] else "not declared"
    path = f"{disk['VolumeGroup']}/{disk['LogicalVolume']}"
    yield "Target", f"{path}, {thin}, {format_size(disk['TargetSize'])}"
    yield "Space", f"up to {format_size(disk['WorstCaseBytes'])} of {disk['Pool'] or disk['VolumeGroup']}"
    yield "Policy", f"{disk['Policy']} ({disk['PolicyFile']})"
    yield "Verify", disk["Verify"]
    yield "Bandwidth", f"{format_size(disk['Bandwidth'])}/s" if disk["Bandwidth"] else "no limit"


def _disks(disks: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """One line a disk, and what all of them take of each pool and volume group."""
    rows = [
        (
            str(number),
            disk["SourceId"],
            format_size(disk["SourceSize"]),
            disk["Transport"],
            f"{disk['VolumeGroup']}/{disk['LogicalVolume']}",
            f"thin in {disk['Pool']}" if disk["Pool"] else disk["Provisioning"],
            disk["Verify"],
            disk["Policy"],
        )
        for number, disk in enumerate(disks, 1)
    ]
    head = ("DISK", "SOURCE", "SIZE", "TRANSPORT", "TARGET", "SPACE", "VERIFY", "POLICY")
    yield from (f"  {line}" for line in table(head, rows).splitlines())
    yield ""
    taken: dict[str, int] = {}
    for disk in disks:
        place = f"{disk['VolumeGroup']}/{disk['Pool']}" if disk["Pool"] else disk["VolumeGroup"]
        taken[place] = taken.get(place, 0) + disk["WorstCaseBytes"]
    yield from (f"  Together up to {format_size(size)} of {place}." for place, size in taken.items())
