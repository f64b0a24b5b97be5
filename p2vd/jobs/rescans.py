"""Scans of the host that somebody asked for, where they want with a look of the kernel for LUNs before."""

from collections.abc import Callable

from p2vd.jobs.services import Services
from p2vd.model.errors import InvalidArgument, NotFound, P2vdError
from p2vd.system.threads import NoThread, start

Done = Callable[[P2vdError | None], None]


class Rescans:
    """Thread-safe. `rescanned` hears of each scan how it ended, before whoever asked for it does."""

    def __init__(self, services: Services, rescanned: Done) -> None:
        self._services = services
        self._rescanned = rescanned

    def begin(self, done: Done, scsi: str = "") -> None:
        """Scan the host, then call `done`, on another thread, or on this one where nothing can be begun.

        `scsi`: first have the kernel look for LUNs there, see discovery.scsi_scan.
        """
        problem: P2vdError | None = None

        def scanned(error: P2vdError | None) -> None:
            self._rescanned(error)
            done(problem or error)

        self._services.exports.ask_soon()
        if not scsi:
            self._services.inventory.request(scanned)
            return

        def look() -> None:
            nonlocal problem
            try:
                self._services.look_for_luns(scsi)
            except (InvalidArgument, NotFound) as error:
                done(error)  # nothing was done: there is nothing to look at
                return
            except P2vdError as error:
                problem = error
            self._services.inventory.request(scanned)

        # The kernel takes its time with devices that do not answer.
        try:
            start(look, "scsi-scan")
        except NoThread as error:
            done(error)
