"""Simulated verifications: they read no bytes, but take their time, and find what a script has harmed."""

import time
from collections.abc import Callable

from p2vd.copying.errors import ExitCode
from p2vd.copying.verification import VerifyProgress, VerifyReport, VerifyStart, decode, encode
from p2vd.model.size import MIB
from p2vd.system.descriptors import SeqpacketChannel, close_all

_STEP_S = 0.2

Ranges = tuple[tuple[int, int], ...]


class SimVerifier:
    """One verification, in the place of copying.verifier. `harm`: what differs on a volume by now."""

    def __init__(self, bytes_per_s: int, harm: Callable[[str], Ranges]) -> None:
        self._bytes_per_s = max(MIB, bytes_per_s)
        self._harm = harm

    def run(self, channel: SeqpacketChannel) -> int:
        """Answer the daemon on the other end; return the exit code."""
        packet = channel.receive()
        if packet is None:
            return int(ExitCode.STOPPED)
        try:
            start = decode(packet[0])
            if not isinstance(start, VerifyStart):
                return int(ExitCode.REFUSED)
            return self._read(channel, start)
        except BrokenPipeError:
            return int(ExitCode.STOPPED)
        finally:
            close_all(packet[1])

    def _read(self, channel: SeqpacketChannel, start: VerifyStart) -> int:
        began = time.monotonic()
        while (read := int((time.monotonic() - began) * self._bytes_per_s)) < start.size_bytes:
            channel.send(encode(VerifyProgress(read)))
            try:
                if channel.receive(min(_STEP_S, (start.size_bytes - read) / self._bytes_per_s)) is None:
                    return int(ExitCode.STOPPED)
            except TimeoutError:
                continue
        found = self._harm(start.dm_uuid)
        report = VerifyReport(
            bytes_read=start.size_bytes,
            equal=not found,
            against="digests",
            differing=found,
            differing_bytes=sum(length for _, length in found),
        )
        channel.send(encode(report))
        return int(ExitCode.DONE)
