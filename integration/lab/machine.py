"""The virtual machine as QEMU sees it: its disks, its command line, its monitor."""

import json
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

MEMORY = "2048M"
KERNEL_OPTIONS = (
    "console=ttyS0 net.ifnames=0 quiet mitigations=off audit=0 nokaslr random.trust_cpu=on "
    "systemd.show_status=0 raid=noautodetect panic=-1 "
    # The processor's counter is the clock. Left to itself the kernel mistrusts an emulated one and asks the
    # HPET, a device behind QEMU's one lock, at each look at the time.
    "tsc=reliable"
)
# TCG: the lab needs no KVM, which a virtual build machine seldom has.
ACCELERATOR = "tcg,thread=multi,tb-size=512"
# All that TCG can, but erms and fsrm: with these, kernel and C library copy and clear byte by byte
# (`rep movsb`), which is an emulated loop here.
PROCESSOR = "max,erms=off,fsrm=off"
# One: no atomic instruction, no barrier and no flush of another's TLB need be emulated; the other core runs
# another test's machine.
PROCESSORS = 1


@dataclass(frozen=True)
class Disk:
    """A disk of the machine; its serial number is what the guest knows it by."""

    name: str
    size: str
    sector_size: int = 512

    @property
    def serial(self) -> str:
        """The serial number, as udev reports it in ID_SERIAL."""
        return f"LAB-{self.name.upper()}"


ROOT = Disk("root", "6G")
SRV = Disk("srv", "16G")
LOCAL = (Disk("disk512", "32M"), Disk("disk4k", "24M", sector_size=4096))
DISKS = (ROOT, SRV, *LOCAL)
"""In the order of /dev/vda, vdb, ...: root, the SAN's array, and two local disks that may be sources."""


def create_disks(directory: Path, image: Path, parent: Path | None) -> None:
    """Create the machine's disks in `directory`, over the snapshot `parent` or over the image."""
    for disk in DISKS:
        command = ["qemu-img", "create", "-q", "-f", "qcow2"]
        if parent is not None:
            command += [
                "-b",
                str(parent / f"{disk.name}.qcow2"),
                "-F",
                "qcow2",
                str(directory / f"{disk.name}.qcow2"),
            ]
        elif disk in (ROOT, SRV):
            command += [
                "-b",
                str(image / f"{disk.name}.img"),
                "-F",
                "raw",
                str(directory / f"{disk.name}.qcow2"),
            ]
        else:
            command += [str(directory / f"{disk.name}.qcow2"), disk.size]
        subprocess.run(command, check=True)


def command_line(
    directory: Path,
    image: Path,
    *,
    name: str,
    cache: str,
    ram: Path,
    shared_ram: bool,
    incoming: bool,
    port: int,
) -> list[str]:
    """Return QEMU's command line for a machine whose files lie in `directory`.

    RAM is a file: written into when `shared_ram` (it can become a snapshot), else copied on write.
    """
    share = "on" if shared_ram else "off"
    command = ["qemu-system-x86_64", "-name", name, "-accel", ACCELERATOR]
    command += ["-M", "q35,memory-backend=ram", "-cpu", PROCESSOR, "-smp", str(PROCESSORS), "-m", MEMORY]
    command += ["-object", f"memory-backend-file,id=ram,size={MEMORY},mem-path={ram},share={share}"]
    command += ["-nodefaults", "-display", "none", "-no-reboot"]
    command += [
        "-kernel",
        str(image / "vmlinuz"),
        "-initrd",
        str(image / "initrd"),
        "-append",
        KERNEL_OPTIONS,
    ]
    command += [
        "-chardev",
        f"file,id=console,path={directory}/console.log,append=on",
        "-serial",
        "chardev:console",
    ]
    command += ["-qmp", f"unix:{directory}/qmp,server=on,wait=off"]
    for disk in DISKS:
        # "unsafe" ignores the guest's flushes: fast, and wrong where the power will be cut.
        drive = f"file={directory}/{disk.name}.qcow2,if=none,id={disk.name},cache={cache},discard=unmap"
        sectors = f"logical_block_size={disk.sector_size},physical_block_size=4096"
        command += ["-drive", drive]
        command += ["-device", f"virtio-blk-pci,drive={disk.name},serial={disk.serial},{sectors}"]
    command += ["-device", "virtio-rng-pci"]
    command += ["-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-10.0.2.15:22"]
    command += ["-device", "virtio-net-pci,netdev=net,romfile="]
    command += ["-device", "virtio-serial-pci"]
    command += ["-chardev", f"file,id=journal,path={directory}/journal.log,append=on"]
    command += ["-device", "virtserialport,chardev=journal,name=lab.journal"]
    return command + (["-incoming", "defer"] if incoming else [])


class Monitor:
    """A connection to QEMU's monitor (QMP)."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(180)
        self._socket.connect(str(path))
        self._file = self._socket.makefile("rw")
        self._file.readline()
        self.execute("qmp_capabilities")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._file.close()
        self._socket.close()

    def execute(self, command: str, **arguments: Any) -> Any:  # Any: the monitor's replies differ by command
        """Run a command of the monitor; its reply. Raises RuntimeError with QEMU's own words."""
        self._file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._file.flush()
        while True:
            line = self._file.readline()
            if not line:
                raise RuntimeError(f"QEMU closed its monitor during {command}")
            reply = json.loads(line)
            if "error" in reply:
                raise RuntimeError(f"QEMU refused {command}: {reply['error']['desc']}")
            if "return" in reply:
                return reply["return"]

    def ignore_shared_ram(self) -> None:
        """Leave RAM out of the next migration: it is in its file."""
        self.execute(
            "migrate-set-capabilities", capabilities=[{"capability": "x-ignore-shared", "state": True}]
        )
