"""Starts a machine from throw-away overlays and tells what it shows; its volumes are never written.

QEMU may open them for reading only (p2vd.registration.boot_unit). That nobody else wrote either is proven by
the kernel's counters of writes to each volume. No exclusive open: QEMU's lock on the device keeps a domain
from being started on it meanwhile, and fails beside one.
"""

import contextlib
import logging
import os
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from p2vd.model.boot_test import BootMachine, BootReport, BootRequest
from p2vd.model.plan import Firmware
from p2vd.model.size import format_size
from p2vd.registration import qemu, uefi
from p2vd.registration.boot_unit import BESIDE_GUEST_BYTES, START_S, BootUnit, Host
from p2vd.registration.errors import (
    BootTestCannotRun,
    BootTestEnded,
    BootTestInterrupted,
    VolumeInUse,
    VolumeWritten,
)
from p2vd.registration.qmp import Monitor, MonitorFailed
from p2vd.registration.screen import Picture
from p2vd.registration.signs import Signs, Verdict
from p2vd.system.clock import Clock, SystemClock
from p2vd.system.command import Commands

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 3.0
_POLL_S = 0.5
_PART = 65536
_PING = b'{"execute":"guest-ping"}\n'


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
            asked = ["dmsetup", "info", "-c", "--noheadings", "-o", "open", disk.dm_name]
            count = self._commands.query(asked).stdout.strip()
            if count != "0":
                raise VolumeInUse(machine.name, disk.devnode, count)

    def _writes(self, machine: BootMachine) -> dict[str, tuple[str, str]]:
        """Return of each volume how many writes and discards the kernel has completed."""
        counts = {}
        for disk in machine.disks:
            name = Path(disk.devnode).resolve().name
            # Documentation/admin-guide/iostats.rst: the 5th number is of writes, the 12th of discards.
            numbers = (self._host.sysfs / "class/block" / name / "stat").read_text().split()
            counts[disk.devnode] = (numbers[4], numbers[11])
        return counts

    # -- while it runs ------------------------------------------------------------------------

    def _watch(self, request: BootRequest, unit: BootUnit, stop: threading.Event) -> BootReport:
        directory = unit.directory
        signs = Signs(request.expect)
        try:
            with self._sockets(directory, stop) as (monitor, ports):
                monitor.execute("cont")
                verdict = self._until_verdict(request, directory, signs, monitor, ports, stop)
                picture = self._picture(monitor, directory)
        except MonitorFailed as error:
            raise BootTestEnded(request.machine.name, str(error), unit.why_it_ended()) from error
        return BootReport(
            verdict.booted,
            verdict.sign,
            verdict.seen,
            signs.serial_text,
            picture.to_png() if picture else b"",
            "kvm" if unit.means.kvm else "tcg",
        )

    def _until_verdict(
        self,
        request: BootRequest,
        directory: Path,
        signs: Signs,
        monitor: Monitor,
        ports: dict[str, socket.socket],
        stop: threading.Event,
    ) -> Verdict:
        now_s = self._clock.monotonic
        end_s, look_s = now_s() + request.timeout_s, now_s()
        while True:
            self._read(signs, monitor, ports)
            if now_s() >= look_s:
                signs.disks_read(_read_bytes(monitor))
                if (picture := self._picture(monitor, directory)) is not None:
                    signs.screen(picture, now_s())
                self._ping(ports)
                look_s = now_s() + _LOOK_EVERY_S
            over = now_s() >= end_s
            if (verdict := signs.verdict(now_s(), over=over)) is not None:
                return verdict
            if stop.is_set():
                raise BootTestInterrupted(request.machine.name)

    def _read(self, signs: Signs, monitor: Monitor, ports: dict[str, socket.socket]) -> None:
        """Take what comes within half a second."""
        names = {port.fileno(): name for name, port in ports.items()}
        readable, _, _ = select.select([monitor.fileno(), *names], [], [], _POLL_S)
        # Also those that came with the answer to a command: the socket does not tell of them again.
        for event in monitor.events():
            if event == "RESET":
                signs.reset()
            elif event == "SHUTDOWN":
                signs.powered_off()
        for number in set(readable) - {monitor.fileno()}:
            name = names[number]
            data = ports[name].recv(_PART)
            if not data:
                raise MonitorFailed("running the guest", f"it closed its {name} port")
            if name == qemu.SERIAL:
                signs.serial(data, self._clock.monotonic())
            elif name == qemu.FIRMWARE:
                signs.firmware(data)
            elif b"return" in data:
                signs.agent(self._clock.monotonic())

    @staticmethod
    def _ping(ports: dict[str, socket.socket]) -> None:
        # Nobody may read it: then the port is full at some time, and that is no error.
        with contextlib.suppress(BlockingIOError):
            ports[qemu.AGENT].send(_PING, socket.MSG_DONTWAIT)

    @staticmethod
    def _picture(monitor: Monitor, directory: Path) -> Picture | None:
        monitor.execute("screendump", filename=str(directory / qemu.SCREEN))
        return Picture.from_ppm((directory / qemu.SCREEN).read_bytes())

    @contextlib.contextmanager
    def _sockets(
        self, directory: Path, stop: threading.Event
    ) -> Iterator[tuple[Monitor, dict[str, socket.socket]]]:
        """Connect to the monitor and the ports, as soon as QEMU has made them."""
        with contextlib.ExitStack() as stack:
            monitor = Monitor(stack.enter_context(self._connected(directory / qemu.MONITOR, stop)))
            ports = {
                name: stack.enter_context(self._connected(directory / name, stop))
                for name in (qemu.SERIAL, qemu.AGENT, qemu.FIRMWARE)
            }
            yield monitor, ports

    def _connected(self, path: Path, stop: threading.Event) -> socket.socket:
        end_s = self._clock.monotonic() + START_S
        while True:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(str(path))
            except OSError as error:
                connection.close()
                if self._clock.monotonic() > end_s:
                    raise MonitorFailed(
                        "starting", f"its socket {path.name} is not there ({error})"
                    ) from error
            else:
                return connection
            if self._clock.sleep(_POLL_S, stop):
                raise BootTestInterrupted(path.parent.name)


def _read_bytes(monitor: Monitor) -> int:
    """Return how much the guest has read of all its disks."""
    return sum(int(device["stats"]["rd_bytes"]) for device in monitor.execute("query-blockstats"))


def _available_bytes(meminfo: Path) -> int:
    """Return what can be had without swapping: MemAvailable of /proc/meminfo (proc(5))."""
    lines = (line.split() for line in meminfo.read_text().splitlines())
    return next(int(words[1]) << 10 for words in lines if words[0] == "MemAvailable:")
