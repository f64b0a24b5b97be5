"""The commands that make files of a machine's disks, for hypervisors that want files. Pure."""

import enum
import shlex
from collections.abc import Iterator

from p2vd.domain.definition import Definition
from p2vd.model.size import format_size


class ImageFormat(enum.Enum):
    """What the file is: VMware's, with the options that its import wants, or Hyper-V's."""

    VMDK = "vmdk"
    VHDX = "vhdx"


_OPTIONS = {
    ImageFormat.VMDK: ("-o", "subformat=streamOptimized"),
    ImageFormat.VHDX: ("-o", "subformat=dynamic"),
}


def export_script(definition: Definition, image: ImageFormat, directory: str) -> str:
    """Return a shell script that converts each disk to a file in `directory`. The disks are only read."""
    return "\n".join(_lines(definition, image, directory)) + "\n"


def _lines(definition: Definition, image: ImageFormat, directory: str) -> Iterator[str]:
    yield "#!/bin/sh"
    yield f"# Written by p2vd: the disks of {definition.name} as {image.value} files, in the machine's order."
    yield f"# For the machine beside them: {format_size(definition.memory_bytes)} of memory, "
    yield f"# {definition.topology.count} CPUs, {definition.firmware.value}; its NICs: {_macs(definition)}."
    yield "# It must not run meanwhile. A file that is there already is not written over."
    yield "set -eu"
    yield f"mkdir -p {shlex.quote(directory)}"
    for number, disk in enumerate(definition.disks):
        file = f"{directory}/{definition.name}-{number}.{image.value}"
        quoted = shlex.quote(file)
        convert = ("qemu-img", "convert", "-p", "-f", "raw", "-O", image.value, *_OPTIONS[image])
        yield f'if [ -e {quoted} ]; then echo "$0: {file} is there already" >&2; exit 1; fi'
        # Under its own name only when it is whole.
        part = shlex.quote(f"{file}.part")
        yield f"{shlex.join(convert)} {shlex.quote(disk.devnode)} {part}"
        yield f"qemu-img compare -f raw -F {image.value} {shlex.quote(disk.devnode)} {part}"
        yield f"mv {part} {quoted}"


def _macs(definition: Definition) -> str:
    return ", ".join(nic.mac for nic in definition.nics) or "none"
