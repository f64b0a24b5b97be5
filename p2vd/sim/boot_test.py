"""The simulated boot test: nothing is started, and a marker is said to have come over the serial port."""

import threading

from p2vd.model.boot_test import BootReport, BootRequest, Sign
from p2vd.registration.errors import BootTestInterrupted
from p2vd.registration.screen import Picture
from p2vd.registration.signs import Signs
from p2vd.sim.volumes import Volumes

_SECONDS = 1.0
_SCREEN = Picture(8, 8, bytes(8 * 8 * 3))


class SimBootTester:
    """Tests simulated machines. Thread-safe."""

    def __init__(self, volumes: Volumes) -> None:
        self._volumes = volumes

    def run(self, request: BootRequest, stop: threading.Event) -> BootReport:
        """Say after a second what a guest on the simulated volumes says. Raises BootTestInterrupted."""
        if stop.wait(_SECONDS):
            raise BootTestInterrupted(request.machine.name)
        signs = Signs(request.expect)
        signs.serial(b"Simulated guest login:\r\n", now_s=0.0)
        verdict = signs.verdict(0.0, over=True)
        if verdict is None:
            raise AssertionError("signs give a verdict when the time is up")
        sign = verdict.sign if verdict.booted else Sign.NONE
        return BootReport(
            verdict.booted, sign, verdict.seen, signs.serial_text, _SCREEN.to_png(), accelerator="tcg"
        )
