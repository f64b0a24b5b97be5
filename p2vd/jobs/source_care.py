"""Keeps the host's hands off the disks that are seen, and has what is on them looked at."""

import threading

from p2vd.config import QuarantineMode
from p2vd.jobs.host_maps import maps_in_use, target_maps
from p2vd.jobs.planner import Planner
from p2vd.jobs.services import Services
from p2vd.model.errors import P2vdError
from p2vd.model.inventory import Difference, Inventory


class SourceCare:
    """Acts on each new inventory. `lock`: as long as it is held, no job begins."""

    def __init__(self, services: Services, planner: Planner, lock: threading.RLock) -> None:
        self._services = services
        self._planner = planner
        self._lock = lock
        self._overlooked = False
        self._look_again = False

    def inventory_changed(self, inventory: Inventory, changed: Difference | None) -> None:
        """Put every source that a policy matches, or describes as a target, into quarantine, and look at it.

        Where `changed` says so, the changed sources only. On a stale inventory nothing follows: it does
        not say who uses what now. All sources get their turn with the next current one.
        """
        if inventory.stale_since_us:
            self._overlooked = True
        else:
            self._act_on(inventory, None if self._overlooked else changed)
            self._overlooked = False
            self._retry_if_wanted()

    def rescanned(self, error: P2vdError | None) -> None:
        """Somebody had the host scanned: look again at what gave no answer, by what that scan saw.

        Where it failed, once the next one did not: until then it is not known who uses what.
        """
        self._look_again = True
        if error is None:
            self._retry_if_wanted()

    def _retry_if_wanted(self) -> None:
        if self._look_again:
            self._look_again = False
            self._services.contents.retry()

    def _act_on(self, inventory: Inventory, changed: Difference | None) -> None:
        self._keep_unknown(inventory)
        sources = [s for s in inventory.sources if changed is None or s.id in changed.sources]
        care = self._planner
        matched = [source for source in sources if care.may_touch(source) or care.may_be_target(source)]
        self._services.quarantine.add_sources(matched)
        with self._lock:  # no job shall begin in between: its source is its own
            held = self._planner.held_sources()
            wanted = [source for source in matched if source.id not in held]
            self._services.contents.want(wanted, held, None if changed is None else changed.sources)

    def _keep_unknown(self, inventory: Inventory) -> None:
        quarantine = self._services.quarantine
        if self._services.config.quarantine is not QuarantineMode.UNKNOWN:
            quarantine.release_unknown()
            return
        own = target_maps(inventory, self._services.policies())
        # What the host uses is its own only as long as nothing can have been taken hold of by mistake.
        if not quarantine.keeps_unknown():
            own |= maps_in_use(inventory)
        quarantine.quarantine_unknown(own)
