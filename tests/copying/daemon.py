"""The daemon's end of a worker, for tests that speak the protocol."""

import os
import random
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from p2vd.copying.layout import BLOCK
from p2vd.copying.protocol import VERSION, Hello, Pause, ProgressReport, Start, ToWorker, decode, encode
from p2vd.copying.terms import Binding, Report, TargetTraits
from p2vd.system.descriptors import SeqpacketChannel
from p2vd.system.process import Child, spawn

SIZE = 12 * BLOCK + 512
NOBODY = 65534
PATIENCE_S = 60.0


class Daemon:
    """A daemon's end of one worker."""

    def __init__(self, directory: Path):
        self.source, self.target = directory / "source", directory / "target"
        self.source.write_bytes(random.Random(1).randbytes(9 * BLOCK) + bytes(SIZE - 9 * BLOCK))
        with self.target.open("wb") as file:
            file.truncate(SIZE + 4 * BLOCK)
        self.start = Start(
            VERSION,
            Binding("job", 1, "wwid", SIZE, 512, "vg/lv"),
            str(directory / "checkpoint"),
            TargetTraits(SIZE + 4 * BLOCK, 512),
            worker_uid=NOBODY,
            worker_gid=NOBODY,
        )
        self.channel: SeqpacketChannel
        self.worker: Child | None = None
        self.pid = 0
        self.room_bytes = 0
        self.heard: list[object] = []

    def spawn(self, *before: str, program: Sequence[str] = ("-m", "p2vd.copying.worker")) -> None:
        """Start the worker, by the command `before` it if there is one, and hear its hello."""
        self.channel, theirs = SeqpacketChannel.pair()
        if self.room_bytes:
            with socket.socket(fileno=os.dup(theirs.fileno())) as raw:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.room_bytes)
        words = ["--daemon", str(theirs.fileno()), "--job", "job"]
        self.worker = spawn([*before, sys.executable, *program, *words], theirs.fileno())
        theirs.close()
        self.heard = []
        hello = self.hear()
        assert isinstance(hello, Hello)
        assert hello.version == VERSION
        assert before or hello.pid == self.worker.pid
        self.pid = hello.pid

    def begin(self, **changes: object) -> None:
        """Start the worker and have it begin."""
        self.spawn()
        self.send_start(**changes)

    def send_start(self, **changes: object) -> None:
        """Send Start with both descriptors."""
        self.start = replace(self.start, **changes)  # type: ignore[arg-type]  # the fields' own types
        fds = [os.open(self.source, os.O_RDONLY), os.open(self.target, os.O_RDWR)]
        self.channel.send(encode(self.start), fds)
        for fd in fds:
            os.close(fd)

    def tell(self, message: ToWorker) -> None:
        self.channel.send(encode(message))

    def hear(self) -> object:
        packet = self.channel.receive(PATIENCE_S)
        message = None if packet is None else decode(packet[0])
        self.heard.append(message)
        return message

    def until(self, kind: type[object]) -> object:
        while not isinstance(message := self.hear(), kind):
            assert message is not None, f"no {kind.__name__} in {self.heard}"
        return message

    def progress(self) -> ProgressReport:
        message = self.until(ProgressReport)
        assert isinstance(message, ProgressReport)
        return message

    def end(self) -> tuple[int, Report]:
        report = self.until(Report)
        assert isinstance(report, Report)
        assert self.worker is not None
        code = self.worker.wait(PATIENCE_S)
        assert code == report.exit_code
        return code, report

    def gone(self) -> int:
        """Wait for the worker's end without hearing it; return its exit status."""
        assert self.worker is not None
        return self.worker.wait(PATIENCE_S)

    def equal(self) -> bool:
        return self.source.read_bytes() + bytes(4 * BLOCK) == self.target.read_bytes()


def paused(daemon: Daemon) -> None:
    """Pause a copy that runs, and wait until nothing moves any more and all of it is committed."""
    daemon.until(ProgressReport)
    daemon.tell(Pause())
    seen: list[int] = []
    safe = False
    while not safe or len(seen) < 8 or len(set(seen[-4:])) > 1:
        now = daemon.progress().progress
        seen.append(now.bytes_copied)
        safe = now.committed_bytes == now.bytes_copied + now.bytes_zero
        assert now.committed_bytes < SIZE, "it goes on"
