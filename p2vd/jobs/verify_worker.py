"""The process that reads a volume again, as the daemon sees it: started, heard, ended."""

import logging
import sys
import threading
from collections.abc import Callable

from p2vd.copying.protocol import Stalled
from p2vd.copying.verification import VerifyProgress, VerifyReport, VerifyStart, decode, encode
from p2vd.jobs.verify_errors import VerifyFailed, VerifyInterrupted
from p2vd.system.descriptors import close_all
from p2vd.system.process import Spawn, hand_over

log = logging.getLogger(__name__)

_POLL_S = 0.25
_ENDS_S = 8.0


def read_again(
    spawn: Spawn,
    volume: str,
    start: VerifyStart,
    descriptors: list[int],
    stop: threading.Event,
    on_progress: Callable[[int, str], None],
) -> VerifyReport:
    """Have a process read the volume on `descriptors`, which are closed here, and return what it found.

    `on_progress` hears of bytes read, and of a read that hangs ("": none does). A process that is stuck in
    the kernel is left to itself at `stop`. Raises VerifyInterrupted, VerifyFailed.
    """

    def program(channel_fd: int) -> list[str]:
        words = [sys.executable, "-m", "p2vd.copying.verifier", "--channel", str(channel_fd)]
        return [*words, "--verify", start.job]

    child, ours = hand_over(spawn, program, encode(start), descriptors)
    read = 0
    report: VerifyReport | None = None
    with ours:
        while report is None and not stop.is_set():
            try:
                packet = ours.receive(_POLL_S)
            except TimeoutError:
                continue
            if packet is None:
                break
            data, descriptors_sent = packet
            close_all(descriptors_sent)  # it is asked for none
            match message := decode(data):
                case VerifyProgress():
                    read = message.bytes_read
                    on_progress(read, "")
                case Stalled():
                    hangs = f"A read at offset {message.offset} hangs." if message.since_us else ""
                    on_progress(read, hangs)
                case VerifyReport():
                    report = message
    try:
        child.wait(_ENDS_S)
    except TimeoutError:
        log.warning("process %d, which verifies %s, is stuck in the kernel; it is left", child.pid, volume)
    if report is not None and report.failure is None:
        return report
    if stop.is_set():
        raise VerifyInterrupted(volume)
    if report is None or report.failure is None:
        raise VerifyFailed(volume, "The process that read it ended without a report; see journalctl -u p2vd.")
    raise VerifyFailed(volume, report.failure.message)
