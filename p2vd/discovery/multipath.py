"""What multipathd says of its maps' paths."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar

from p2vd.model.disk import PathState
from p2vd.model.errors import P2vdError
from p2vd.system.command import Commands

# multipathd's checker words that mean I/O goes through (libmultipath/checkers.c: ready is PATH_UP;
# ghost is a passive controller's path, which answers only after a fail-over).
_STATES = {"ready": PathState.READY, "faulty": PathState.FAULTY, "shaky": PathState.FAULTY}


# Beyond that one answer about all maps is cheaper than a process for each.
_ASKED_ONE_BY_ONE = 8


@dataclass(eq=False)
class MultipathdUnclear(P2vdError):
    """multipathd answered something that is not its report."""

    answer: str
    template: ClassVar[str] = (
        "multipathd did not report its maps but said {answer!r}. Look at systemctl status multipathd."
    )


def path_states(commands: Commands, maps: Collection[str] = ()) -> dict[str, PathState]:
    """Return the state of every path by its device name (`sda`), as multipathd sees it.

    Of all maps, or of `maps` alone, by name: those few are asked for one by one.
    Raises CommandFailed, CommandTimedOut, MultipathdUnclear.
    """
    if not 0 < len(maps) <= _ASKED_ONE_BY_ONE:
        return _states(commands, ["maps"])
    states: dict[str, PathState] = {}
    for name in maps:
        states.update(_states(commands, ["map", name]))
    return states


def _states(commands: Commands, what: Sequence[str]) -> dict[str, PathState]:
    answer = commands.query(["multipathd", "show", *what, "json"], timeout_s=15.0).stdout
    try:
        report = json.loads(answer)
        maps = report["maps"] if what == ["maps"] else [report["map"]]
        return {
            str(path["dev"]): _STATES.get(str(path["chk_st"]), PathState.UNKNOWN)
            for one in maps
            for group in one.get("path_groups", ())
            for path in group.get("paths", ())
        }
    except (ValueError, KeyError, TypeError) as error:
        raise MultipathdUnclear(answer[:80]) from error
