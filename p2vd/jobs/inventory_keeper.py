"""Keeps the inventory current: one thread scans, however many ask."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

from p2vd.model.errors import P2vdError
from p2vd.model.inventory import Inventory

log = logging.getLogger(__name__)

# A LUN with eight paths makes dozens of uevents: one scan for all of them. And a host that makes
# uevents all the time shall spend no more than a third of it on scans.
_SETTLE_S = 0.5
_SETTLE_SCANS = 2

Done = Callable[[P2vdError | None], None]


@dataclass(eq=False)
class ScanFailed(P2vdError):
    """The host could not be read, or what was seen could not be acted on; the next scan tries again."""

    cause: str
    template: ClassVar[str] = "The scan of the host failed: {cause}"


class Scanner(Protocol):
    """What can look at the host."""

    def scan(self) -> Inventory:
        """Return what is there now."""
        ...


class InventoryKeeper:
    """Scans on request, coalesced; never on the caller's thread, but for `fresh`."""

    def __init__(self, scanner: Scanner, on_change: Callable[[Inventory], None]) -> None:
        self._scanner = scanner
        self._on_change = on_change
        self._inventory = Inventory()
        self.scanned = False
        self._untold = False
        self._wanted = threading.Event()
        self._asked = threading.Event()
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._waiting: list[Done] = []
        self._thread = threading.Thread(target=self._run, name="inventory", daemon=True)

    def start(self) -> None:
        """Begin, with a first scan."""
        self._wanted.set()
        self._thread.start()

    def stop(self) -> None:
        """End after the scan under way; waits for none."""
        self._stopped.set()
        self._asked.set()
        self._wanted.set()

    def current(self) -> Inventory:
        """What the last scan saw."""
        return self._inventory

    def scanned_once(self) -> Inventory:
        """What the last scan saw, after waiting for the first one. Raises as `fresh` does."""
        return self.current() if self.scanned else self.fresh()

    def mark_dirty(self) -> None:
        """Scan soon. Cheap: a uevent handler may call it a thousand times."""
        self._wanted.set()

    def request(self, done: Done) -> None:
        """Scan soon, and call `done` (on the scanning thread) after a scan that began after this call."""
        with self._lock:
            self._waiting.append(done)
            self._asked.set()
        self._wanted.set()

    def fresh(self, timeout_s: float = 60.0) -> Inventory:
        """Return an inventory begun after this call. Raises what the scan raised, or TimeoutError."""
        finished = threading.Event()
        errors: list[P2vdError | None] = []

        def done(error: P2vdError | None) -> None:
            errors.append(error)
            finished.set()

        self.request(done)
        if not finished.wait(timeout_s):
            raise TimeoutError(f"the scan of the host did not end within {timeout_s:.0f} s")
        if errors[0] is not None:
            raise errors[0]
        return self._inventory

    def _run(self) -> None:
        took_s = 0.0
        while not self._stopped.is_set():
            self._wanted.wait()
            if not self._waiting:
                self._asked.wait(max(_SETTLE_S, took_s * _SETTLE_SCANS))
            self._wanted.clear()
            with self._lock:
                self._asked.clear()
                waiting, self._waiting = self._waiting, []
            began = time.monotonic()
            self._scan(waiting)
            took_s = time.monotonic() - began

    def _scan(self, waiting: list[Done]) -> None:
        problem: ScanFailed | None = None
        try:
            inventory = self._scanner.scan()
            changed = inventory != self._inventory or not self.scanned
            self._inventory = inventory
            self.scanned = True
            if changed or self._untold:
                self._untold = True
                self._on_change(inventory)
                self._untold = False
        except (P2vdError, OSError) as error:
            log.error("scan: %s", error)  # noqa: TRY400 - a sick host, no defect of ours
            problem = ScanFailed(str(error))
        for done in waiting:
            done(problem)
