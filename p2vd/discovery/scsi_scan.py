"""Has the kernel look for LUNs where somebody says that there are new ones, and nowhere else.

A scan of everything (`- - -` on every host) makes an array's every port answer for every LUN, and hangs
on what is sick: it is done only when asked for by that name. A LUN that is known already is asked again
for its size and identity. Nothing is removed.
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from p2vd.discovery.fc import read_hbas
from p2vd.discovery.sysfs import list_directory
from p2vd.model.errors import InvalidArgument, NotFound, P2vdError
from p2vd.model.fc import Hba, format_wwn
from p2vd.system.command import CommandFailed, Commands, CommandTimedOut

EVERYWHERE = "all"
"""What asks for a scan of every SCSI host."""

_ANY = "-"
_TIMEOUT_S = 60.0
_ADDRESS = re.compile(r"(\d+)(?::(\d+|-):(\d+|-)(?::(\d+|-))?)?")
_FORMS = (
    "name a place as HOST:CHANNEL:TARGET[:LUN] (7:0:0 or 7:0:0:3, - for any), a SCSI host by its number, "
    f"an array's port by its WWPN, or {EVERYWHERE}"
)


@dataclass(eq=False)
class ScsiScanFailed(P2vdError):
    """A part of a scan did not work; what it found elsewhere is there."""

    problems: tuple[str, ...]
    template: ClassVar[str] = ""

    def __str__(self) -> str:
        return "The kernel's scan for LUNs failed in part: " + " ".join(self.problems)


@dataclass(frozen=True)
class Place:
    """Where LUNs are looked for; `-` stands for any channel, target or LUN."""

    host: str
    channel: str = _ANY
    target: str = _ANY
    lun: str = _ANY

    def holds(self, hctl: str) -> bool:
        """Whether a SCSI device is in this place."""
        wanted = (self.host, self.channel, self.target, self.lun)
        return all(want in (_ANY, part) for want, part in zip(wanted, hctl.split(":"), strict=True))


def places(text: str, hbas: Sequence[Hba], sysfs: Path = Path("/sys")) -> tuple[Place, ...]:
    """Return what `text` means. Raises InvalidArgument, NotFound."""
    hosts = [name.removeprefix("host") for name in list_directory(sysfs / "class/scsi_host")]
    if text == EVERYWHERE:
        return tuple(Place(host) for host in sorted(hosts, key=int))
    if address := _ADDRESS.fullmatch(text):
        place = Place(*(part if part is not None else _ANY for part in address.groups()))
        if place.host not in hosts:
            raise NotFound("SCSI host", f"host{place.host}")
        return (place,)
    try:
        wwpn = format_wwn(text)
    except ValueError:
        raise InvalidArgument(f"place {text!r}", _FORMS + ".") from None
    targets = [port.target for hba in hbas for port in hba.remote_ports if port.wwpn == wwpn and port.target]
    if not targets:
        raise NotFound("remote port that has LUNs, with the WWPN", wwpn)
    return tuple(Place(*target.split(":")) for target in targets)


def look_for_luns(commands: Commands, text: str, sysfs: Path = Path("/sys")) -> None:
    """Look for LUNs where `text` says, one place after the other; takes as long as the devices do.

    Raises InvalidArgument, NotFound, OutputUnclear; ScsiScanFailed after all places were tried.
    """
    problems = []
    for place in places(text, read_hbas(sysfs), sysfs):
        known = [name for name in list_directory(sysfs / "class/scsi_device") if _is_in(place, name)]
        writes = [(f"class/scsi_device/{name}/device/rescan", "1") for name in known]
        where = f"{place.channel} {place.target} {place.lun}"
        for attribute, text in (*writes, (f"class/scsi_host/host{place.host}/scan", where)):
            try:
                argv = [sys.executable, "-m", "p2vd.system.attribute", str(sysfs / attribute), text]
                commands.query(argv, timeout_s=_TIMEOUT_S)
            except (CommandFailed, CommandTimedOut) as error:
                problems.append(str(error))
    if problems:
        raise ScsiScanFailed(tuple(problems))


def _is_in(place: Place, name: str) -> bool:
    return name.count(":") == 3 and place.holds(name)
