"""The process that reads a volume again: `python -m p2vd.copying.verifier --channel FD --verify JOB`.

It gets one descriptor, opened for reading alone, so that it cannot write whatever it does. What it needs of
the host it opens first (the job's checkpoint, the device's counters); then it drops every privilege. A
channel that closes ends it.
"""

import argparse
import contextlib
import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from p2vd.copying.checkpoint import Checkpoint
from p2vd.copying.controls import Controls, Gauge, Interrupted, Outstanding
from p2vd.copying.devices import Device
from p2vd.copying.digests import DigestKind
from p2vd.copying.errors import CopyError, ExitCode, OpenFailed, TargetChanged
from p2vd.copying.layout import Layout
from p2vd.copying.opened import name_of
from p2vd.copying.protocol import Stalled
from p2vd.copying.rereading import Rereading
from p2vd.copying.terms import Failure
from p2vd.copying.throttle import ChunkCredit
from p2vd.copying.verification import (
    MAX_RANGES,
    VERSION,
    Message,
    VerifyProgress,
    VerifyReport,
    VerifyStart,
    decode,
    encode,
)
from p2vd.model.copying import MAX_QUEUE_DEPTH
from p2vd.model.errors import P2vdError
from p2vd.system import block, memory, privileges
from p2vd.system.clock import Clock, SystemClock
from p2vd.system.descriptors import SeqpacketChannel, close_all

log = logging.getLogger(__name__)

_TICK_S = 0.5
_STALLED_S = 5.0
_START_WITHIN_S = 60.0


@dataclass
class Witness:
    """What the kernel tells of a device through files of sysfs that stay open: each read asks it anew."""

    uuid_fd: int = -1
    stat_fd: int = -1
    sequence: str = ""

    @classmethod
    def of(cls, fd: int, sysfs: Path = block.SYSFS) -> "Witness":
        """Open them for the block device on `fd`; a file has none."""
        if not block.is_block(fd):
            return cls()
        place = sysfs / "dev/block" / block.device_number(fd)
        sequence = block.attribute(fd, "diskseq", sysfs).decode().strip()
        return cls(_open(place / "dm/uuid"), _open(place / "stat"), sequence)

    def dm_uuid(self) -> str:
        """The device-mapper UUID of now; "" where there is none."""
        return os.pread(self.uuid_fd, 4096, 0).decode().strip() if self.uuid_fd >= 0 else ""

    def writes(self) -> int:
        """How many writes and discards were completed; -1: that is not known."""
        if self.stat_fd < 0:
            return -1
        return block.completed_writes(os.pread(self.stat_fd, 4096, 0))


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1


def trusted_checkpoint(start: VerifyStart) -> tuple[Checkpoint | None, str]:
    """Return the checkpoint whose digests are those of the receipt, or why there is none."""
    path = Path(start.checkpoint_path)
    try:
        checkpoint = Checkpoint.read(path)
    except FileNotFoundError:
        return None, "the job's checkpoint is gone"
    except (CopyError, OSError) as error:
        return None, str(error)
    binding = checkpoint.header.binding
    mine = (binding.job, binding.generation, checkpoint.layout.source_bytes, checkpoint.layout.target_bytes)
    if mine != (start.job, start.generation, start.source_bytes, start.size_bytes):
        return None, f"the checkpoint {path} is of another copy"
    if len(checkpoint.complete) != checkpoint.layout.regions or checkpoint.whole_digest() != start.digest:
        return None, f"the digests in {path} are not those of the receipt"
    return checkpoint, ""


@dataclass
class Verifier:
    """One verification, all that it needs open; `run` reads."""

    start: VerifyStart
    reading: Rereading
    witness: Witness
    gauge: Gauge
    controls: Controls
    without_checkpoint: str

    def run(self) -> VerifyReport:
        """Read and compare. Every end is a report."""
        writes = self.witness.writes()
        report = VerifyReport(
            against="digests" if self.reading.checkpoint else "whole-digest",
            without_checkpoint=self.without_checkpoint,
            sequence=self.witness.sequence,
            writes_before=writes,
        )
        try:
            digest = self.reading.run()
            if (uuid := self.witness.dm_uuid()) != self.start.dm_uuid:
                raise TargetChanged("device-mapper UUID", self.start.dm_uuid, uuid or "none")
        except Interrupted:
            failure = Failure("VerifyInterrupted", "It was ended from outside.")
            return replace(report, bytes_read=self.reading.bytes_read, failure=failure)
        except P2vdError as error:
            failure = Failure(error.name, str(error), getattr(error, "offset", -1))
            return replace(report, bytes_read=self.reading.bytes_read, failure=failure)
        differing = self.reading.differing
        return replace(
            report,
            bytes_read=self.reading.bytes_read,
            equal=not differing and digest == self.start.digest,
            differing=tuple(differing[:MAX_RANGES]),
            differing_bytes=sum(length for _, length in differing),
            writes_after=self.witness.writes(),
        )


def prepare(start: VerifyStart, fds: Sequence[int], clock: Clock) -> Verifier:
    """Open what is needed besides the volume; afterwards the process has no privilege left.

    Raises P2vdError; ValueError where the start makes no sense.
    """
    if len(fds) != 1:
        raise ValueError(f"the start brought {len(fds)} descriptors, not the volume's")
    if not 1 <= start.threads <= MAX_QUEUE_DEPTH or start.bandwidth_bytes_per_s < 0:
        raise ValueError(f"{start.threads} threads or a bandwidth of {start.bandwidth_bytes_per_s}")
    kind = DigestKind.named(start.digest.partition(":")[0])
    layout = Layout(start.source_bytes, start.size_bytes)
    (fd,) = fds
    name = name_of(fd)
    try:
        if block.is_writable(fd):
            raise OpenFailed(name, "it came with the right to write, which a verification must not have")
        if (size := block.size_bytes(fd)) < start.size_bytes:
            raise OpenFailed(name, f"it has {size} bytes, less than the receipt says")
        gauge = Gauge(clock)
        device = Device(fd, name, start.size_bytes, gauge)
        witness = Witness.of(fd)
    except OSError as error:
        raise OpenFailed(name, error.strerror or str(error)) from error
    checkpoint, why_not = trusted_checkpoint(start)
    privileges.become(start.worker_uid, start.worker_gid)
    controls = Controls(clock, ChunkCredit(0), start.bandwidth_bytes_per_s)
    reading = Rereading(device, layout, kind, checkpoint, controls, start.threads)
    return Verifier(start, reading, witness, gauge, controls, why_not)


def converse(channel: SeqpacketChannel, verifier: Verifier) -> VerifyReport:
    """Run the verification on a thread of its own; tell of it, and end it where the daemon is gone."""
    reports: list[VerifyReport] = []
    runner = threading.Thread(target=lambda: reports.append(verifier.run()), name="verification")
    runner.start()
    told_stall: Outstanding | None = None
    while runner.is_alive():
        try:
            packet = channel.receive(_TICK_S)
            if packet is None:
                verifier.controls.stop()
                runner.join(_TICK_S)
                continue
            close_all(packet[1])
        except (TimeoutError, ValueError):
            pass  # nothing more is to be said to it
        _tell(channel, verifier, VerifyProgress(verifier.reading.bytes_read))
        stall = verifier.gauge.oldest(_STALLED_S)
        if stall != told_stall:
            if stall is not None:
                _tell(channel, verifier, Stalled(stall.operation, stall.offset, stall.since_us))
            elif told_stall is not None:
                _tell(channel, verifier, Stalled(told_stall.operation, told_stall.offset, 0))
            told_stall = stall
    runner.join()
    return reports[0] if reports else _failed("Defect", "the verification ended without a report")


def _tell(channel: SeqpacketChannel, verifier: Verifier, message: Message) -> None:
    try:
        channel.send(encode(message), timeout_s=1.0)
    except TimeoutError:
        log.warning("the daemon does not read; %s is dropped", type(message).__name__)
    except BrokenPipeError:
        verifier.controls.stop()


def _failed(name: str, message: str) -> VerifyReport:
    return VerifyReport(failure=Failure(name, message))


def serve(channel: SeqpacketChannel) -> int:
    """Do one verification for the daemon on the other end; return the exit code."""
    try:
        packet = channel.receive(_START_WITHIN_S)
        if packet is None:
            return int(ExitCode.STOPPED)
        data, fds = packet
        if data.get("version") != VERSION:
            raise ValueError(f"the daemon speaks version {data.get('version')!r}, this process {VERSION}")
        start = decode(data)
        if not isinstance(start, VerifyStart):
            raise ValueError(f"a {type(start).__name__} came first")  # noqa: TRY004 - a wrong message
        report = converse(channel, prepare(start, fds, SystemClock()))
    except (P2vdError, ValueError, TimeoutError) as error:
        log.error("%s", error)  # noqa: TRY400 - a refusal, no defect
        name = error.name if isinstance(error, P2vdError) else "ProtocolMismatch"
        report = _failed(name, str(error))
    with contextlib.suppress(BrokenPipeError, TimeoutError):
        channel.send(encode(report))
    return int(ExitCode.DONE if report.failure is None else ExitCode.REFUSED)


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer on the inherited channel."""
    parser = argparse.ArgumentParser(prog="p2vd-verify", description=__doc__)
    parser.add_argument("--channel", type=int, required=True)
    parser.add_argument("--verify", default="", metavar="JOB", help="the job's UUID: who this is, in ps(1)")
    logging.basicConfig(level=logging.INFO, format="p2vd-verify %(levelname)s: %(message)s")
    memory.one_arena()
    with SeqpacketChannel.from_fd(parser.parse_args(arguments).channel) as channel:
        return serve(channel)


if __name__ == "__main__":
    raise SystemExit(main())
