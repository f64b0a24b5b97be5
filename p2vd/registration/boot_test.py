"""Starts a machine from throw-away overlays and tells what it shows; its volumes are never written.

QEMU may open them for reading only (p2vd.registration.boot_unit). That nobody else wrote either is proven by
the kernel's counters of writes to each volume. No exclusive open: QEMU's lock on the device keeps a domain
from being started on it meanwhile, and fails beside one.
"""

import os
import threading
from pathlib import Path

from p2vd.model.boot_test import BootMachine, BootReport, BootRequest
from p2vd.model.plan import Firmware
from p2vd.model.size import format_size
from p2vd.registration import qemu, uefi
from p2vd.registration.boot_unit import BESIDE_GUEST_BYTES, BootUnit, Host
from p2vd.registration.boot_watch import BootWatch, WatchEnded
from p2vd.registration.errors import (
    BootTestCannotRun,
    BootTestEnded,
    BootTestInterrupted,
    VolumeInUse,
    VolumeWritten,
)
from p2vd.registration.qmp import MonitorFailed
from p2vd.registration.signs import Signs
from p2vd.system import block
from p2vd.system.clock import Clock, SystemClock
from p2vd.system.command import Commands


class BootTester:
    """Carries out boot tests. Thread-safe: it keeps no state."""

    def __init__(self, commands: Commands, host: Host | None = None, clock: Clock | None = None) -> None:
        self._commands = commands
        self._host = host or Host()
        self._clock = clock or SystemClock()

    def run(self, request: BootRequest, stop: threading.Event) -> BootReport:
        """Start the machine, watch it until there is a verdict, end it. Takes minutes.

        `stop` ends it early. Raises BootTestCannotRun, BootTestEnded, BootTestInterrupted, VolumeInUse,
        VolumeWritten, MonitorFailed, CommandFailed, CommandTimedOut.
        """
        machine = request.machine
        means = self._means(machine)
        unit = BootUnit(self._commands, self._host, request, means)
        unit.end()  # what an earlier daemon left of this machine, if anything
        self._refuse_open(machine)
        written = self._writes(machine)
        try:
            unit.begin()
            report = self._watch(request, unit, stop)
        finally:
            unit.end()
        if changed := [name for name, count in self._writes(machine).items() if count != written[name]]:
            raise VolumeWritten(machine.name, ", ".join(changed))
        return report

    # -- before -------------------------------------------------------------------------------

    def _means(self, machine: BootMachine) -> qemu.Means:
        firmware = None
        if machine.firmware is Firmware.UEFI:
            firmware = uefi.find(self._host.firmware)
            if firmware is None:
                raise BootTestCannotRun(
                    machine.name,
                    "this host has no UEFI firmware for guests. Install it: apt-get install ovmf",
                )
        available = _available_bytes(self._host.meminfo)
        if machine.memory_bytes + BESIDE_GUEST_BYTES > available:
            raise BootTestCannotRun(
                machine.name,
                f"it has {format_size(machine.memory_bytes)} of memory, QEMU itself takes up to "
                f"{format_size(BESIDE_GUEST_BYTES)}, and this host has {format_size(available)} free. "
                "Test it with less: --memory",
            )
        return qemu.Means(
            kvm=machine.kvm and os.access(self._host.kvm, os.R_OK | os.W_OK),
            cpus=len(os.sched_getaffinity(0)),
            firmware=firmware,
        )

    def _refuse_open(self, machine: BootMachine) -> None:
        for disk in machine.disks:
            if not disk.dm_name:
                continue  # QEMU locks a file or disk by itself, and ends with the reason where it cannot
            asked = ["dmsetup", "info", "-c", "--noheadings", "-o", "open", disk.dm_name]
            count = self._commands.query(asked).stdout.strip()
            if count != "0":
                raise VolumeInUse(machine.name, disk.devnode, count)

    def _writes(self, machine: BootMachine) -> dict[str, tuple[int, ...]]:
        """Return of each disk how many writes and discards the kernel has completed; of a file, its times."""
        counts: dict[str, tuple[int, ...]] = {}
        for disk in machine.disks:
            path = Path(disk.devnode).resolve()
            if disk.is_file:
                status = path.stat()
                counts[disk.devnode] = (status.st_mtime_ns, status.st_blocks)
                continue
            stat = self._host.sysfs / "class/block" / path.name / "stat"
            counts[disk.devnode] = (block.completed_writes(stat.read_bytes()),)
        return counts

    def _watch(self, request: BootRequest, unit: BootUnit, stop: threading.Event) -> BootReport:
        signs = Signs(request.expect)
        try:
            with BootWatch.of(unit.directory, signs, self._clock, stop) as watch:
                verdict = watch.until_verdict(request.timeout_s)
                picture = watch.last_picture()
        except MonitorFailed as error:
            raise BootTestEnded(request.machine.name, str(error), unit.why_it_ended()) from error
        except WatchEnded as error:
            raise BootTestInterrupted(request.machine.name) from error
        return BootReport(
            verdict.booted,
            verdict.sign,
            verdict.seen,
            signs.serial_text,
            picture.to_png() if picture else b"",
            "kvm" if unit.means.kvm else "tcg",
        )


def _available_bytes(meminfo: Path) -> int:
    """Return what can be had without swapping: MemAvailable of /proc/meminfo (proc(5))."""
    lines = (line.split() for line in meminfo.read_text().splitlines())
    return next(int(words[1]) << 10 for words in lines if words[0] == "MemAvailable:")
