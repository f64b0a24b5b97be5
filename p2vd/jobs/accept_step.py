"""Removes the sources of an accepted machine from this host, so that the array may unmap them (design: §5).

Flush the maps, delete the paths, wait until they are gone, and only then say unmap: a LUN that is
unmapped before leaves paths behind, which lead to whatever gets its number next.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from p2vd.discovery import luns
from p2vd.discovery.dm import open_counts
from p2vd.discovery.luns import Found
from p2vd.jobs.lun_use import LunUse
from p2vd.jobs.places import claims
from p2vd.jobs.services import Services
from p2vd.model.disk import Source, Transport
from p2vd.model.errors import P2vdError
from p2vd.model.job import Machine
from p2vd.system.command import CommandNotStarted

log = logging.getLogger(__name__)

_FROM_ARRAYS = (Transport.ISCSI, Transport.FC)


@dataclass(eq=False)
class SourcesInUse(P2vdError):
    """Somebody uses a source of the machine, so all of them stay."""

    machine: str
    users: tuple[str, ...]
    template: ClassVar[str] = ""

    def __str__(self) -> str:
        return (
            f"The sources of {self.machine} stay attached, and it can still be rolled back: "
            f"{' '.join(self.users)} End that use, then accept it again: p2vctl accept {self.machine}"
        )


@dataclass(eq=False)
class PathElsewhere(P2vdError):
    """A path of a source leads to another LUN by now."""

    source: str
    device: str
    wwid: str
    template: ClassVar[str] = (
        "{device}, a path of the source {source}, leads to {wwid} by now: the array has given the LUN number "
        "to another disk. Nothing was removed. Have the paths looked at (p2vctl portals rescan), then accept "
        "again."
    )


@dataclass(eq=False)
class SourcesStay(P2vdError):
    """Sources are still attached after their paths were removed."""

    machine: str
    sources: tuple[str, ...]
    template: ClassVar[str] = ""

    def __str__(self) -> str:
        return (
            f"These sources of {self.machine} came back after their paths were removed: "
            f"{', '.join(self.sources)}. Something scans for LUNs. Do not unmap them yet; accept again: "
            f"p2vctl accept {self.machine}"
        )


def remove_sources(services: Services, machine: Machine) -> tuple[str, ...]:
    """Remove the machine's sources that come from an array; return the WWIDs that it may unmap.

    What is gone already stays gone: this may be cut off anywhere and done again. Raises SourcesInUse and
    PathElsewhere, with everything as it was; SourcesStay, CommandFailed, CommandNotStarted, ScanFailed.
    """
    bound = [job.plan.source for job in services.board.machine_jobs(machine)]
    wanted = {source.id for source in bound if source.wwid and source.transport in _FROM_ARRAYS}
    luns.settle(services.commands)  # udev's own look at a disk would count as use
    sources = _attached(services, wanted)
    for source in sources:
        services.contents.release(source.id)
    _expect_unused(services, machine, sources)
    for source in sources:
        _expect_own_paths(services, source)
    _flush(services, machine, [source for source in sources if source.dm_uuid])
    for source in sources:
        log.warning("machine %s: the source %s is removed from this host", machine.name, source)
        for device in luns.path_devices(source):
            luns.remove_path(services.commands, device, services.sysfs)
    if sources:
        luns.settle(services.commands)
        if left := _attached(services, wanted):
            raise SourcesStay(machine.name, tuple(source.id for source in left))
    return tuple(source.wwid for source in bound if source.id in wanted)


def _attached(services: Services, ids: set[str]) -> list[Source]:
    return [source for source in services.inventory.fresh().sources if source.id in ids]


def _expect_unused(services: Services, machine: Machine, sources: Sequence[Source]) -> None:
    seen, opens = services.inventory.current(), open_counts(services.commands)
    use = LunUse(seen, services.policies(), services.board.jobs(), opens, claims(services.board))
    if users := tuple(dict.fromkeys(user for source in sources for user in use.of(source))):
        raise SourcesInUse(machine.name, users)


def _expect_own_paths(services: Services, source: Source) -> None:
    """See by a fresh INQUIRY that no path leads elsewhere; one that does not answer is only what it was."""
    for device in luns.path_devices(source):
        answer = luns.ask(services.commands, device, source.wwid)
        if answer.found is Found.OTHER:
            raise PathElsewhere(str(source), device, answer.wwid)


def _flush(services: Services, machine: Machine, maps: Sequence[Source]) -> None:
    """Flush all maps or none: before the first path is deleted."""
    if (left := luns.flush_all(services.commands, maps)) is None:
        return
    source, why = left
    if isinstance(why, CommandNotStarted):
        raise why  # this host lacks something, and nobody uses the map: it is tried again
    raise SourcesInUse(machine.name, (f"multipath does not give {source} up: {why}",)) from why
