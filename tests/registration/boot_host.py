"""A host for boot tests: commands that answer, and a QEMU that is a thread behind its four sockets."""

import contextlib
import json
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from p2vd.model.boot_test import BootDisk, BootMachine, BootRequest
from p2vd.model.plan import DiskBus, Firmware
from p2vd.model.size import MIB
from p2vd.registration.boot_unit import Host
from p2vd.system.command import Result
from tests.fakes import FakeCommands

UUID = "22222222-2222-4222-8222-222222222222"
UNIT = f"p2vd-boot-test-{UUID}"
PATIENCE_S = 60.0
STAT = "100 0 800 5 {writes} 0 0 0 0 5 5 {discards} 0 0 0 0 0\n"
PPM = b"P6\n2 1\n255\n\xff\0\0\0\0\xff"


class FakeQemu:
    """QEMU as a boot test meets it. `guest` runs at `cont`, with the port to the serial port's other end."""

    def __init__(self, directory: Path, guest: Callable[["FakeQemu"], None]) -> None:
        directory.mkdir()
        self.directory = directory
        self.asked: list[str] = []
        self.mute: set[str] = set()
        self._guest = guest
        self._listeners = {name: self._listen(name) for name in ("qmp", "serial", "agent", "firmware")}
        self._threads = [
            threading.Thread(target=self._monitor, daemon=True),
            threading.Thread(target=self._accept, daemon=True),
        ]
        self._ready = threading.Event()
        self.ports: dict[str, socket.socket] = {}
        self.monitor: socket.socket | None = None
        for thread in self._threads:
            thread.start()

    def _listen(self, name: str) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.directory / name))
        listener.listen()
        return listener

    def _accept(self) -> None:
        for name in ("serial", "agent", "firmware"):
            self.ports[name], _ = self._listeners[name].accept()
        self._ready.set()

    def _monitor(self) -> None:
        self.monitor, _ = self._listeners["qmp"].accept()
        self._tell({"QMP": {"version": {}, "capabilities": []}})
        with contextlib.suppress(OSError), self.monitor.makefile("rb") as lines:  # until the tester goes
            for line in lines:
                request = json.loads(line)
                command, arguments = request["execute"], request["arguments"]
                self.asked.append(command)
                if command == "screendump":
                    Path(arguments["filename"]).write_bytes(PPM)
                if command in self.mute:
                    continue
                stats = [{"device": "disk0", "stats": {"rd_bytes": 5 * MIB}}]
                self._tell({"return": stats if command == "query-blockstats" else {}})
                if command == "cont":
                    self._ready.wait(PATIENCE_S)
                    self._guest(self)

    def _tell(self, message: object) -> None:
        assert self.monitor is not None
        with contextlib.suppress(OSError):  # the tester has gone
            self.monitor.sendall(json.dumps(message).encode() + b"\r\n")

    def event(self, name: str) -> None:
        self._tell({"event": name, "data": {}, "timestamp": {"seconds": 1, "microseconds": 2}})

    def say(self, text: bytes) -> None:
        self.ports["serial"].sendall(text)

    def end(self) -> None:
        for one in (*self._listeners.values(), *self.ports.values(), self.monitor):
            if one is not None:
                close(one)

    def join(self) -> None:
        """Wait until nobody writes to its directory any more."""
        self._threads[0].join(PATIENCE_S)


def close(one: socket.socket) -> None:
    """Close a socket that another thread may read."""
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()


@dataclass
class BootHost:
    """The host's files and commands. `guest` is what the machine does once it runs."""

    root: Path
    guest: Callable[[FakeQemu], None] = lambda _: None
    commands: FakeCommands = field(default_factory=FakeCommands)
    qemus: list[FakeQemu] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.root / "run").mkdir()
        (self.root / "dm-7").touch()
        (self.root / "vg_san-erp1").symlink_to("dm-7")
        (self.root / "sys/class/block/dm-7").mkdir(parents=True)
        self.wrote(4, 0)
        (self.root / "meminfo").write_text("MemTotal: 8000000 kB\nMemAvailable: 4000000 kB\n")
        (self.root / "firmware").mkdir()
        self.commands.on("systemd-run", self._start).on("systemctl stop", self._stop)
        self.commands.on("dmsetup info", "0\n").on("journalctl", "qemu: could not open disk image\n")

    def wrote(self, writes: int, discards: int) -> None:
        """Have the kernel count so many writes to the volume."""
        (self.root / "sys/class/block/dm-7/stat").write_text(STAT.format(writes=writes, discards=discards))

    @property
    def host(self) -> Host:
        return Host(
            run=self.root / "run",
            sysfs=self.root / "sys",
            kvm=self.root / "kvm",
            meminfo=self.root / "meminfo",
            firmware=(self.root / "firmware",),
        )

    def request(
        self,
        expect: str = "",
        timeout_s: int = 30,
        firmware: Firmware = Firmware.BIOS,
        memory: int = 64 * MIB,
    ) -> BootRequest:
        disk = BootDisk(str(self.root / "vg_san-erp1"), "vg_san-erp1", "36001405a")
        machine = BootMachine(UUID, "erp1", memory, 2, firmware, DiskBus.VIRTIO, (disk,))
        return BootRequest(machine, expect, timeout_s)

    @property
    def unit_properties(self) -> list[str]:
        """The properties that the last unit was started with."""
        argv = next(argv for argv in self.commands.queries if argv[0] == "systemd-run")
        return [word.removeprefix("--property=") for word in argv if word.startswith("--property=")]

    def _start(self, argv: tuple[str, ...]) -> Result:
        self.qemus.append(FakeQemu(self.root / "run" / UNIT, self.guest))
        return Result(argv, 0, "", "")

    def _stop(self, argv: tuple[str, ...]) -> Result:
        running = [qemu for qemu in self.qemus if qemu.directory.exists()]
        for qemu in running:
            qemu.end()
            qemu.join()
            for path in qemu.directory.iterdir():
                path.unlink()
            qemu.directory.rmdir()
        return Result(argv, 0 if running else 5, "", "")
