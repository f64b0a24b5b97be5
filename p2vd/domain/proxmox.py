"""A definition as a configuration of Proxmox VE, qm.conf(5), and the commands that bring it there. Pure."""

import shlex
from collections.abc import Iterator
from urllib.parse import quote

from p2vd.domain.definition import DefinedDisk, DefinedNic, Definition
from p2vd.model.domain import CpuMode, MachineType, Video
from p2vd.model.passport import ClockOffset
from p2vd.model.plan import DiskBus, Firmware
from p2vd.model.size import MIB

_CPU = {CpuMode.HOST_PASSTHROUGH: "host", CpuMode.MAXIMUM: "max"}

_VIDEO = {Video.VGA: "std", Video.VIRTIO: "virtio", Video.NONE: "serial0"}

_OSTYPE = (
    ((10, 0), "win10"),
    ((6, 2), "win8"),
    ((6, 1), "win7"),
    ((6, 0), "w2k8"),
    ((5, 2), "w2k3"),
    ((5, 1), "wxp"),
    ((5, 0), "w2k"),
)
"""From which version of Windows on; by it Proxmox chooses Hyper-V's interfaces and timers."""

_SCRIPT = """\
#!/bin/sh
# Written by p2vd for the machine {uuid}: registers {name} on the Proxmox VE host on which it is to run.
#
#   {file} [--storage STORAGE] [--import] [VMID]
#
# The machine's volumes are used where they are, so this host must see them and have them active; with
# --import they are copied into STORAGE. {why_storage}
# Without VMID the cluster's next free one is taken; a machine that has the number is not touched.
set -eu
conf=$(dirname "$0")/{conf}
vmid='' storage='' import=''
while [ $# -gt 0 ]; do
    case $1 in
        --storage) storage=${{2:?--storage needs a name}}; shift ;;
        --import) import=yes ;;
        [1-9]*) vmid=$1 ;;
        *) echo "$0: $1 is not understood; see the head of this file" >&2; exit 2 ;;
    esac
    shift
done
if [ -n "{needs_storage}$import" ] && [ -z "$storage" ]; then
    echo "$0: --storage STORAGE is missing" >&2
    exit 2
fi
for disk in {paths}; do
    if [ ! -e "$disk" ]; then
        echo "$0: this host does not see $disk: activate it (lvchange -ay)" >&2
        exit 1
    fi
done
if [ -z "$vmid" ]; then vmid=$(pvesh get /cluster/nextid); fi
if [ -e "/etc/pve/qemu-server/$vmid.conf" ] || qm status "$vmid" > /dev/null 2>&1; then
    echo "$0: $vmid is taken; name another VMID" >&2
    exit 1
fi
unfinished() {{
    echo "$0: not finished; before another attempt: rm /etc/pve/qemu-server/$vmid.conf" >&2
}}
trap unfinished EXIT
set -C
if [ -n "$import" ]; then
    grep -Ev '^(ide|sata|scsi|virtio)[0-9]+:' "$conf" > "/etc/pve/qemu-server/$vmid.conf"
{imports}
else
    cat "$conf" > "/etc/pve/qemu-server/$vmid.conf"
fi
{variables}trap - EXIT
echo "{name} is $vmid. Start it: qm start $vmid"
"""


def qm_conf(definition: Definition) -> str:
    """Return what becomes /etc/pve/qemu-server/VMID.conf. NICs are on bridges, by their names."""
    return "\n".join(_lines(definition)) + "\n"


def import_script(definition: Definition, conf_name: str, script_name: str) -> str:
    """Return the shell script that registers the machine on a Proxmox VE host; `conf_name` lies beside it."""
    uefi = definition.firmware is Firmware.UEFI
    return _SCRIPT.format(
        name=definition.name,
        uuid=definition.uuid,
        file=script_name,
        conf=shlex.quote(conf_name),
        paths=" ".join(shlex.quote(disk.devnode) for disk in definition.disks),
        needs_storage="uefi" if uefi else "",
        why_storage=(
            "STORAGE also takes the firmware's variables, which a UEFI machine needs."
            if uefi
            else "Else no STORAGE is needed."
        ),
        imports="\n".join(_imports(definition)),
        variables=_variables(definition) if uefi else "",
    )


def _lines(definition: Definition) -> Iterator[str]:
    yield f"#Written by p2vd for the machine {definition.uuid}."
    if definition.guest_agent:
        yield "agent: 1"
    yield f"bios: {'ovmf' if definition.firmware is Firmware.UEFI else 'seabios'}"
    yield f"boot: order={';'.join(device(disk, n) for n, disk in enumerate(definition.disks))}"
    yield f"cores: {definition.topology.cores * definition.topology.threads}"
    yield f"cpu: {_CPU[definition.cpu_mode]}"
    yield f"localtime: {int(definition.clock is ClockOffset.LOCAL)}"
    yield f"machine: {'q35' if definition.machine_type is MachineType.Q35 else 'pc'}"
    yield f"memory: {definition.memory_bytes // MIB}"
    yield f"name: {_host_name(definition.name)}"
    for number, nic in enumerate(definition.nics):
        yield f"net{number}: {_nic(nic)}"
    yield f"ostype: {_ostype(definition)}"
    if definition.rng:
        yield "rng0: source=/dev/urandom"
    if any(disk.bus is DiskBus.SCSI for disk in definition.disks):
        yield "scsihw: virtio-scsi-pci"
    for number, disk in enumerate(definition.disks):
        yield f"{device(disk, number)}: {disk.devnode},{_disk_options(disk)}"
    yield "serial0: socket"
    yield f"smbios1: uuid={definition.uuid}"
    yield f"sockets: {definition.topology.sockets}"
    yield f"vga: {_VIDEO[definition.video]}"


def _imports(definition: Definition) -> Iterator[str]:
    for number, disk in enumerate(definition.disks):
        source = f"import-from={disk.devnode},{_disk_options(disk)}"
        yield f'    qm set "$vmid" --{device(disk, number)} "$storage:0,"{shlex.quote(source)}'
    order = ";".join(device(disk, number) for number, disk in enumerate(definition.disks))
    yield f"    qm set \"$vmid\" --boot 'order={order}'"


def _variables(definition: Definition) -> str:
    keys = int(definition.secure_boot)
    return f'qm set "$vmid" --efidisk0 "$storage:1,efitype=4m,pre-enrolled-keys={keys}"\n'


def device(disk: DefinedDisk, number: int) -> str:
    """Return Proxmox's name of a disk: `scsi0`."""
    return f"{disk.bus.value}{number}"


def _disk_options(disk: DefinedDisk) -> str:
    discard = "on" if disk.discard else "ignore"
    return f"aio=native,cache=none,discard={discard},serial={quote(disk.serial, safe='')}"


def _nic(nic: DefinedNic) -> str:
    return f"{nic.model.value}={nic.mac.upper()},bridge={nic.network}"


def _host_name(name: str) -> str:
    """Proxmox's names are those of hosts in DNS: no `_` and no `+`."""
    return name.replace("_", "-").replace("+", "-").strip("-.")


def _ostype(definition: Definition) -> str:
    if not definition.windows:
        return "l26"
    version = definition.windows_version or (10, 0)
    return next((name for since, name in _OSTYPE if version >= since), "other")
