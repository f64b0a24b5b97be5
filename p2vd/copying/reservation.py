"""Has a host reserved a LUN? Asked of the LUN by whichever of its paths tells."""

import errno
import logging
from collections.abc import Iterable

from p2vd.copying.errors import DeviceReserved, OpenFailed, ReservationUnknown
from p2vd.system.command import (
    CommandFailed,
    CommandKilled,
    CommandNotStarted,
    Commands,
    CommandTimedOut,
    Result,
)

log = logging.getLogger(__name__)

# sg_persist(8): it reads the reservation of the LUN, which any path knows, and takes none.
_READ_RESERVATION = ("sg_persist", "--in", "--no-inquiry", "--readonly", "--read-reservation")
_ANSWER_S = 15.0
_NOT_RESERVED = "there is NO reservation held"
# sg3_utils(8), EXIT STATUS: illegal request and invalid opcode (the array has no reservations), ENOTTY (no
# SCSI disk). A conflict is the answer to any command where a host holds the RESERVE(6) of SPC-2.
_NO_RESERVATIONS = (5, 9, 50 + errno.ENOTTY)
_CONFLICT = 24
# A unit attention comes once, but there may be several: after a reset, a failover, a change of the mapping.
_UNIT_ATTENTION = 6
_ATTENTIONS = 4
_NO_PROGRAM = 127


def check_reservation(commands: Commands, device: str, wwid: str, paths: Iterable[str]) -> None:
    """Refuse a LUN that a host has reserved: it may be alive and write (design: §4.1, §4.4).

    p2vd takes no reservations, so any is foreign. `paths` are the kernel's names of its SCSI disks; without
    any, nothing is asked. Raises DeviceReserved, ReservationUnknown where no path tells, OpenFailed for an
    answer that is not understood, CommandFailed where there is no sg_persist.
    """
    silent = []
    for name in paths:
        answer = _ask(commands, name)
        if not isinstance(answer, Result):
            silent.append(f"{name}: {answer}")
            continue
        said = " ".join(answer.stdout.split())
        if answer.returncode == _CONFLICT:
            raise DeviceReserved(device, wwid, "it answers with a reservation conflict")
        if answer.returncode in _NO_RESERVATIONS or _NOT_RESERVED in said:
            return
        if "Key=" in said:
            raise DeviceReserved(device, wwid, said)
        raise OpenFailed(device, f"sg_persist does not tell whether it is reserved, but {said!r}")
    if silent:
        raise ReservationUnknown(device, "; ".join(silent))


def _ask(commands: Commands, name: str) -> Result | str:
    """Return what the LUN says by this path; else, short, why nothing."""
    argv = [*_READ_RESERVATION, f"/dev/{name}"]
    ok = (0, *_NO_RESERVATIONS, _CONFLICT, _UNIT_ATTENTION)
    try:
        for _ in range(_ATTENTIONS):
            answer = commands.query(argv, timeout_s=_ANSWER_S, ok=ok)
            if answer.returncode != _UNIT_ATTENTION:
                return answer
    except CommandFailed as error:
        if error.returncode == _NO_PROGRAM:
            raise
        log.warning("%s", error)
        return f"sg_persist exits with {error.returncode}"
    except (CommandNotStarted, CommandKilled) as error:
        log.warning("%s", error)
        return f"sg_persist {error.why}"
    except CommandTimedOut as error:
        log.warning("%s", error)
        return f"no answer in {error.seconds:g} s"
    return f"{_ATTENTIONS} unit attentions, one after another"
