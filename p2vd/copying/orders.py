"""What the daemon says to its worker, obeyed: while it prepares the copy, and while the copy runs."""

import logging
import threading
from dataclasses import dataclass

from p2vd.copying.controls import Controls
from p2vd.copying.protocol import Bandwidth, Credit, Pause, Resume, Stop, decode
from p2vd.system.descriptors import SeqpacketChannel, close_all

log = logging.getLogger(__name__)


@dataclass
class Orders:
    """The hearing half of the protocol, on the main thread alone. `stop_asked`: a signal came.

    `alone`: the daemon is gone. `running`: the copy runs, on other threads.
    """

    channel: SeqpacketChannel
    controls: Controls
    stop_asked: threading.Event
    alone: bool = False
    running: bool = False

    def ended(self) -> bool:
        """Whether to give up: asked by what takes its time. Once the copy runs, others listen."""
        if not self.running:
            if not self.alone:
                self.listen(0.0)
            if self.stop_asked.is_set():
                self.controls.stop()
        return self.controls.ended.is_set()

    def listen(self, within_s: float) -> None:
        """Obey the next message, if one comes in time."""
        try:
            packet = self.channel.receive(within_s)
            message = None if packet is None else decode(packet[0])
        except TimeoutError:
            return
        except ValueError:
            log.exception("the daemon said what this worker does not understand; it stops")
            self.controls.stop()
            return
        if packet is not None:
            close_all(packet[1])  # no later message brings any
        match message:
            case None:
                log.warning("the daemon is gone: the copy stops at a checkpoint")
                self.alone = True
                self.controls.stop()
            case Pause():
                self.controls.pause(True)
            case Resume():
                self.controls.pause(False)
            case Bandwidth():
                self.controls.set_bandwidth(message.bytes_per_s)
            case Credit():
                self.controls.grant(message.total_bytes)
            case Stop():
                self.controls.stop()
            case _:
                log.error("%s is nothing a daemon says now", type(message).__name__)
