"""Watches a starting guest through QEMU's sockets: serial port, agent, the BIOS's debug port, monitor."""

import contextlib
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from p2vd.registration import qemu
from p2vd.registration.boot_unit import START_S
from p2vd.registration.qmp import Answer, Event, Monitor, MonitorFailed
from p2vd.registration.screen import Picture
from p2vd.registration.signs import Signs, Verdict
from p2vd.system.clock import Clock

_LOOK_EVERY_S = 3.0
_LAST_PICTURE_S = 5.0
_POLL_S = 0.5
_PART = 65536
_PING = b'{"execute":"guest-ping"}\n'


class WatchEnded(Exception):
    """Nobody wants to know any more."""


class BootWatch:
    """One guest, from its first instruction to a verdict. Used by one thread. All raise MonitorFailed."""

    def __init__(
        self,
        directory: Path,
        monitor: Monitor,
        ports: dict[str, socket.socket],
        signs: Signs,
        clock: Clock,
        stop: threading.Event,
    ) -> None:
        self._screen = directory / qemu.SCREEN
        self._monitor = monitor
        self._ports = ports
        self._signs = signs
        self._now_s = clock.monotonic
        self._stop = stop
        self._picture: Picture | None = None

    @classmethod
    @contextlib.contextmanager
    def of(cls, directory: Path, signs: Signs, clock: Clock, stop: threading.Event) -> Iterator["BootWatch"]:
        """Connect to the sockets in `directory`, as soon as QEMU has made them. Raises WatchEnded."""
        with contextlib.ExitStack() as stack:

            def connected(name: str) -> socket.socket:
                return stack.enter_context(_connect(directory / name, clock, stop))

            monitor = Monitor(connected(qemu.MONITOR))
            ports = {name: connected(name) for name in (qemu.SERIAL, qemu.AGENT, qemu.FIRMWARE)}
            yield cls(directory, monitor, ports, signs, clock, stop)

    def until_verdict(self, timeout_s: float) -> Verdict:
        """Let the guest run until there is something to be said of it. Raises WatchEnded."""
        self._monitor.execute("qmp_capabilities", START_S)
        self._monitor.execute("cont", START_S)
        end_s, look_s = self._now_s() + timeout_s, self._now_s()
        while True:
            if self._now_s() >= look_s and not self._monitor.waits:
                self._look()
                look_s = self._now_s() + _LOOK_EVERY_S
            self._hear()
            over = self._now_s() >= end_s
            if (verdict := self._signs.verdict(self._now_s(), over=over)) is not None:
                return verdict
            if self._stop.is_set():
                raise WatchEnded

    def last_picture(self) -> Picture | None:
        """Return the screen of now, or the last one seen where QEMU is too busy."""
        if not self._monitor.waits:
            self._look()
        end_s = self._now_s() + _LAST_PICTURE_S
        while self._monitor.waits and self._now_s() < end_s and not self._stop.is_set():
            self._hear()
        return self._picture

    def _look(self) -> None:
        """Ask for what a guest does not tell by itself; the answers are heard later."""
        self._monitor.ask("query-blockstats")
        self._monitor.ask("screendump", filename=str(self._screen))
        # Nobody may read it: then the port is full at some time, and that is no error.
        with contextlib.suppress(BlockingIOError):
            self._ports[qemu.AGENT].send(_PING, socket.MSG_DONTWAIT)

    def _hear(self) -> None:
        """Take what comes within half a second."""
        names = {port.fileno(): name for name, port in self._ports.items()}
        poll = select.poll()  # a daemon of many jobs has more descriptors than select() can name
        for number in (self._monitor.fileno(), *names):
            poll.register(number, select.POLLIN)
        readable = {number for number, _ in poll.poll(_POLL_S * 1000)}
        # Also what came with the answer to a command: the socket does not tell of it again.
        for one in self._monitor.heard():
            self._take(one)
        for number in readable - {self._monitor.fileno()}:
            self._take_from(names[number])

    def _take(self, one: Event | Answer) -> None:
        match one:
            case Event("RESET"):
                self._signs.reset()
            case Event("SHUTDOWN"):
                self._signs.powered_off()
            case Answer(command, _, problem) if problem:
                raise MonitorFailed(command, problem)
            case Answer("query-blockstats", devices):
                self._signs.disks_read(sum(int(device["stats"]["rd_bytes"]) for device in devices))
            case Answer("screendump"):
                picture = Picture.from_ppm(self._screen.read_bytes())
                if picture is not None:
                    self._picture = picture
                    self._signs.screen(picture, self._now_s())

    def _take_from(self, port: str) -> None:
        data = self._ports[port].recv(_PART)
        if not data:
            raise MonitorFailed("running the guest", f"it closed its {port} port")
        if port == qemu.SERIAL:
            self._signs.serial(data, self._now_s())
        elif port == qemu.FIRMWARE:
            self._signs.firmware(data)
        elif b"return" in data:
            self._signs.agent(self._now_s())


def _connect(path: Path, clock: Clock, stop: threading.Event) -> socket.socket:
    end_s = clock.monotonic() + START_S
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(path))
        except OSError as error:
            connection.close()
            if clock.monotonic() > end_s:
                raise MonitorFailed("starting", f"its socket {path.name} is not there ({error})") from error
        else:
            return connection
        if clock.sleep(_POLL_S, stop):
            raise WatchEnded
