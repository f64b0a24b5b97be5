"""Boot tests beside the lab: p2vd's own tester on a disk image, with QEMU as a child of this process.

What systemd does for the tester on a host (the unit, its user, its device filter) is shown inside the lab;
what the tester starts and makes of what it sees, is shown here at the speed of one emulation instead of two.
"""

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from p2vd.model.boot_test import BootDisk, BootMachine, BootReport, BootRequest
from p2vd.model.plan import DiskBus, Firmware
from p2vd.model.size import MIB
from p2vd.registration.boot_test import BootTester
from p2vd.registration.boot_unit import Host
from p2vd.system.command import Result, log_late

UUID = "22222222-2222-4222-8222-222222222222"
TIMEOUT_S = 600


class ChildUnits:
    """Commands that carry out what a boot test asks of systemd, and know of no open device."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._child: subprocess.Popen[bytes] | None = None

    def query(self, argv: Sequence[str], *, timeout_s: float = 30.0, ok: Sequence[int] = (0,)) -> Result:
        """Start or end QEMU; anything else has nothing to tell."""
        stdout = ""
        match argv[0]:
            case "systemd-run":
                word = next(word for word in argv if word.startswith("--property=RuntimeDirectory="))
                (self._run / word.rpartition("=")[2]).mkdir()
                command = [word.replace("$$", "$") for word in argv[argv.index("--") + 1 :]]
                self._child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
            case "systemctl":
                self._end()
                shutil.rmtree(self._run / argv[-1].removesuffix(".service"), ignore_errors=True)
            case "dmsetup":
                stdout = "0\n"
        return Result(tuple(argv), 0, stdout, "")

    def change(
        self,
        argv: Sequence[str],
        *,
        unit: str,
        deadline_s: float = 60.0,
        on_late: Callable[[str], None] = log_late,
        ok: Sequence[int] = (0,),
        properties: Sequence[str] = (),
        must_exit: bool = False,
    ) -> Result:
        """Fail: a boot test changes nothing."""
        raise AssertionError(f"a boot test changes nothing: {argv}")

    def running_changes(self) -> frozenset[str]:
        """Return none."""
        return frozenset()

    def _end(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None


def boot(disk: Path, firmware: Firmware, bus: DiskBus, expect: str, *, beside: int = 0) -> BootReport:
    """Boot a disk image as a boot test does, `beside` so many blank disks that come after it."""
    with tempfile.TemporaryDirectory() as name:
        run = Path(name)
        disks = [disk, *(run / f"blank{number}" for number in range(beside))]
        for blank in disks[1:]:
            blank.touch()
            os.truncate(blank, MIB)
        for each in disks:
            counters = run / "sys/class/block" / each.name
            counters.mkdir(parents=True)
            (counters / "stat").write_text(" ".join(["0"] * 17))
        shown = tuple(BootDisk(str(each), each.name, f"LAB-{n}") for n, each in enumerate(disks))
        # GRUB for UEFI wants more memory than the guest.
        machine = BootMachine(UUID, "lab", 512 * MIB, 1, firmware, bus, shown, kvm=False)
        tester = BootTester(ChildUnits(run), Host(run=run, sysfs=run / "sys"))
        return tester.run(BootRequest(machine, expect, TIMEOUT_S), threading.Event())
