"""Keeps what a machine said, also before a power cut, and how its storage is at the end."""

import re
import shutil
from pathlib import Path

from integration.lab.vm import GuestError, Vm

STATE = {
    "storage": "lsblk -o NAME,SIZE,TYPE,FSTYPE,RO,WWN,SERIAL; multipath -ll; "
    "dmsetup info -c; dmsetup table; dmsetup status",
    "lvm": "pvs -v; vgs -v; lvs -a -o +lv_uuid,lv_tags,lv_active,data_percent,metadata_percent",
    "units": "systemctl --no-pager list-units 'p2vd*'; systemctl --no-pager status p2vd; "
    "ls -lR /var/lib/p2vd /etc/p2vd",
    "processes": "ps -eo pid,ppid,user,stat,wchan:32,etimes,args",
}
PARTS = {
    "p2vd": re.compile(r" p2vd[-\w]*(\[\d+\])?: "),
    "kernel": re.compile(r" kernel: "),
    "udev": re.compile(r" (systemd-udevd|\(udev-worker\)|udevadm)(\[\d+\])?: "),
    "multipathd": re.compile(r" multipathd?(\[\d+\])?: "),
}


def collect(vm: Vm, directory: Path) -> None:
    """Write the machine's logs into `directory`: a file for each speaker, the whole journal, the console."""
    directory.mkdir(parents=True, exist_ok=True)
    journal = vm.directory / "journal.log"
    lines = journal.read_text(errors="replace").splitlines(keepends=True) if journal.exists() else []
    for name, pattern in PARTS.items():
        (directory / f"{name}.log").write_text("".join(line for line in lines if pattern.search(line)))
    for name in ("journal.log", "console.log", "qemu.log"):
        if (vm.directory / name).exists():
            shutil.copy(vm.directory / name, directory / name)
    for name, command in STATE.items():
        text = "the machine is off\n"
        if vm.running():
            try:
                # A hung disk hangs some of these: each has its own time.
                done = vm.run(f"timeout 30 sh -c {command!r}", timeout_s=60, check=False)
                text = done.stdout + done.stderr
            except GuestError as error:
                text = f"{error}\n"
        (directory / f"{name}.txt").write_text(text)
