"""Ending the sessions of a portal: only p2vd's own, and only where nobody uses what is behind them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from p2vd.discovery import luns
from p2vd.discovery.iscsi import Session
from p2vd.jobs.lun_use import LunUse, PortalInUse, carrying, paths_by
from p2vd.model.disk import Source
from p2vd.model.inventory import Inventory
from p2vd.system.command import Commands


@dataclass(frozen=True)
class PortalRemoval:
    """Carries out. `look` scans the host now; `use` says who uses what of it.

    `release` ends p2vd's own look at what is on a disk, which would count as use.
    """

    commands: Commands
    look: Callable[[], Inventory]
    use: Callable[[Inventory], LunUse]
    release: Callable[[str], None]

    def run(self, portal: str, sessions: Sequence[Session], log_out: Callable[[], None]) -> None:
        """Flush the maps that lose their last path with `sessions`, then `log_out`.

        Raises PortalInUse, with everything as it was; and what `look`, `use` and `log_out` raise.
        """
        hosts = frozenset(session.host for session in sessions)
        if hosts:
            luns.settle(self.commands)  # udev's own look at a disk would count as use too
            seen = self.look()
            disks = [source for source in seen.sources if paths_by(source, hosts)]
            for source in disks:
                self.release(source.id)
            use = self.use(seen)
            users = [user for source in disks for user in use.of(source)]
            if users:
                raise PortalInUse(portal, tuple(dict.fromkeys(users)))
            last = [source for source in disks if all(path.host in hosts for path in carrying(source))]
            # First the maps: one that queues I/O without a path would hang whoever touches it.
            self._flush(portal, [source for source in last if source.dm_uuid])
        log_out()

    def _flush(self, portal: str, maps: Sequence[Source]) -> None:
        if (left := luns.flush_all(self.commands, maps)) is not None:
            source, why = left
            raise PortalInUse(portal, (f"multipath does not give {source} up: {why}",)) from why
