"""`p2vctl export`: names the commands that make files of disks, for hypervisors that want files."""

import argparse
import re
import shlex
from collections.abc import Sequence
from pathlib import PurePath

from p2vd.bus.names import MACHINE
from p2vd.cli import render
from p2vd.cli.client import Client, CliError, Exit, Object
from p2vd.cli.lookup import find, jobs_of
from p2vd.model.forms import PACKED_TARGETS

FORMATS = {"vmdk": "subformat=streamOptimized", "vhdx": "subformat=dynamic"}
"""What qemu-img(1) is told: the kind that VMware's import tools and Hyper-V take."""

_PROVEN = "proven"
_PACKED = [form.value for form in PACKED_TARGETS]
_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9_.-]")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.set_defaults(verbatim=True)  # commands, to be run as they are
    parser.add_argument("machine", metavar="MACHINE")
    parser.add_argument("--format", choices=sorted(FORMATS), required=True)
    parser.add_argument("--directory", required=True, metavar="DIR", help="where the files shall be")


def export(client: Client, arguments: argparse.Namespace) -> Exit:
    """Name the commands that convert a machine's disks to files."""
    objects = client.objects()
    machine = find(arguments.machine, objects, (MACHINE,))
    disks = jobs_of(machine, objects)
    if [disk["Disk"] for disk in disks] != [*range(1, max(len(disks), 1) + 1)]:
        raise CliError(
            f"Not every job of {machine['Name']} is listed any more, so not all its disks are known here. "
            "Their receipts tell: p2vctl receipt"
        )
    if copying := [disk for disk in disks if disk["Stage"] != _PROVEN]:
        which = ", ".join(f"{disk['Target']} ({disk['Stage']})" for disk in copying)
        raise CliError(f"Not all disks of {machine['Name']} are proven: {which}. Wait: p2vctl watch")
    if packed := [disk["Target"] for disk in disks if disk.properties.get("TargetFormat", "raw") in _PACKED]:
        raise CliError(f"qemu-img does not read {', '.join(packed)}: unpack a copy first (zstd -d, gunzip)")
    lines = commands(machine, disks, arguments.format, arguments.directory)
    if arguments.json:
        print(render.as_json(lines))
        return Exit.OK
    print("# The virtual machine has to be shut off, and its volumes active: lvchange -ay VG/LV")
    print("\n".join(shlex.join(line) for line in lines))
    return Exit.OK


def commands(machine: Object, disks: Sequence[Object], kind: str, directory: str) -> list[list[str]]:
    """Return one command a disk, in the order of the disks. Pure."""
    stem = _NOT_IN_NAME.sub("_", machine["Name"])
    names = [stem] if len(disks) == 1 else [f"{stem}-disk{number}" for number in range(len(disks))]
    return [
        [
            *(
                "qemu-img",
                "convert",
                "-p",
                "-T",
                "none",
                "-f",
                disk.properties.get("TargetFormat", "raw"),
                "-O",
                kind,
                "-o",
                FORMATS[kind],
            ),
            *(disk["Target"], str(PurePath(directory) / f"{name}.{kind}")),
        ]
        for name, disk in zip(names, disks, strict=True)
    ]
