"""Keeps the inventory current: one thread scans, however many ask."""

import logging
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol

from p2vd.model.errors import P2vdError
from p2vd.model.inventory import Difference, Inventory, difference
from p2vd.system.clock import now_us

log = logging.getLogger(__name__)

# A host that makes uevents all the time shall spend no more than a third of it on looking.
_SETTLE_SCANS = 2
# A host that could not be read is looked at again without being asked.
_RETRY_S = 15.0

Done = Callable[[P2vdError | None], None]
Names = Collection[str]


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

    def refresh(self, names: Names, /) -> Inventory:
        """Return what is there now, after changes of the devices `names` and no others."""
        ...


@dataclass
class _Wish:
    """What is to be looked at: devices, or `everything`; and who waits for it."""

    names: set[str] = field(default_factory=set)
    everything: bool = False
    waiting: list[Done] = field(default_factory=list)

    def add(self, names: Names | None) -> None:
        """Ask for devices; None: for everything."""
        self.everything = self.everything or names is None
        self.names.update(names or ())


class InventoryKeeper:
    """Looks at the host on request, coalesced; never on the caller's thread, but for `fresh`.

    Of a look that failed, or that could not read a part of the host, nothing follows: what the last good
    one saw stays in force, marked stale. Only before the first good one a part is better than nothing.

    `on_change` gets what is seen and in what it differs from what it got before.
    """

    def __init__(self, scanner: Scanner, on_change: Callable[[Inventory, Difference], None]) -> None:
        self._scanner = scanner
        self._on_change = on_change
        self._inventory = Inventory()
        self._told = Inventory()
        self.scanned = False
        self._untold = False
        self._wanted = threading.Event()
        self._asked = threading.Event()
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._wish = _Wish(everything=True)
        self._thread = threading.Thread(target=self._run, name="inventory", daemon=True)

    def start(self) -> None:
        """Begin, with a first scan."""
        self._wanted.set()
        self._thread.start()

    def stop(self) -> None:
        """End after the scan under way; waits for none. Who waits for a later one is told that none comes."""
        with self._lock:
            self._stopped.set()
        self._asked.set()
        self._wanted.set()
        if not self._thread.is_alive():
            self._refuse()

    def current(self) -> Inventory:
        """What the last scan saw."""
        return self._inventory

    def scanned_once(self) -> Inventory:
        """What the last scan saw, after waiting for the first one. Raises as `fresh` does."""
        return self.current() if self.scanned else self.fresh()

    def mark_dirty(self, names: Names | None = None) -> None:
        """Look soon at the devices `names`; None: at all. Cheap: may be called a thousand times."""
        with self._lock:
            self._wish.add(names)
        self._wanted.set()

    def request(self, done: Done, names: Names | None = None) -> None:
        """Look soon, and call `done` (on the looking thread) after a look that began after this call.

        At the devices `names`; None: at all. After a stop `done` is called with an error, on this thread.
        """
        with self._lock:
            self._wish.add(names)
            self._wish.waiting.append(done)
            self._asked.set()
        self._wanted.set()
        if self._stopped.is_set():
            self._refuse()

    def fresh(self, timeout_s: float = 60.0, names: Names | None = None) -> Inventory:
        """Return an inventory that was looked for after this call, as far as `names` goes; None: all of it.

        Raises what the look raised, ScanFailed too where it did not end in time.
        """
        finished = threading.Event()
        errors: list[P2vdError | None] = []

        def done(error: P2vdError | None) -> None:
            errors.append(error)
            finished.set()

        self.request(done, names)
        if not finished.wait(timeout_s):
            raise ScanFailed(f"it did not end within {timeout_s:.0f} s.")
        if errors[0] is not None:
            raise errors[0]
        return self._inventory

    def _run(self) -> None:
        # By kind of look: a scan that took long does not delay the next refresh.
        not_before_s = {True: 0.0, False: 0.0}
        while not self._stopped.is_set():
            self._wanted.wait(_RETRY_S if self._inventory.stale_since_us else None)
            self._asked.wait(max(0.0, not_before_s[self._wish.everything] - time.monotonic()))
            self._wanted.clear()
            with self._lock:
                if self._stopped.is_set():
                    break
                self._asked.clear()
                wish, self._wish = self._wish, _Wish()
            began = time.monotonic()
            self._look(wish)
            ended = time.monotonic()
            not_before_s[wish.everything] = ended + (ended - began) * _SETTLE_SCANS
        self._refuse()

    def _refuse(self) -> None:
        """Tell all who wait for a look that there is none any more."""
        with self._lock:
            wish, self._wish = self._wish, _Wish()
        for done in wish.waiting:
            done(ScanFailed("p2vd stops."))

    def _look(self, wish: _Wish) -> None:
        inventory, problem = self._see(wish)
        changed = inventory != self._inventory or not (self.scanned or problem)
        self._inventory = inventory
        self.scanned = self.scanned or problem is None
        try:
            if changed or self._untold:
                self._untold = True
                self._on_change(inventory, difference(self._told, inventory))
                self._told = inventory
                self._untold = False
        except (P2vdError, OSError) as error:
            log.error("scan: %s", error)  # noqa: TRY400 - a sick host, no defect of ours
            problem = problem or ScanFailed(str(error))
        if problem:
            with self._lock:  # what was to be looked at still is
                self._wish.add(None if wish.everything else wish.names)
        for done in wish.waiting:
            done(problem)

    def _see(self, wish: _Wish) -> tuple[Inventory, ScanFailed | None]:
        """Return what is in force after a look, and why that is not what the look saw."""
        try:
            whole = wish.everything or not self.scanned
            seen = self._scanner.scan() if whole else self._scanner.refresh(wish.names)
            if not seen.unread:
                return seen, None
            cause = " ".join(seen.unread)
        except (P2vdError, OSError) as error:
            seen, cause = self._inventory, str(error)
        log.error("scan: %s", cause)
        known = self._inventory if self.scanned else seen
        since_us = self._inventory.stale_since_us or now_us()
        return replace(known, stale_since_us=since_us, stale_cause=cause), ScanFailed(cause)
