"""What multipathd says of its maps' paths."""

import json
from dataclasses import dataclass
from typing import ClassVar

from p2vd.model.disk import PathState
from p2vd.model.errors import P2vdError
from p2vd.system.command import Commands

# multipathd's checker words that mean I/O goes through (libmultipath/checkers.c: ready is PATH_UP;
# ghost is a passive controller's path, which answers only after a fail-over).
_STATES = {"ready": PathState.READY, "faulty": PathState.FAULTY, "shaky": PathState.FAULTY}


@dataclass(eq=False)
class MultipathdUnclear(P2vdError):
    """multipathd answered something that is not its report."""

    answer: str
    template: ClassVar[str] = (
        "multipathd did not report its maps but said {answer!r}. Look at systemctl status multipathd."
    )


def path_states(commands: Commands) -> dict[str, PathState]:
    """Return the state of every path by its device name (`sda`), from `multipathd show maps json`.

    Raises CommandFailed, CommandTimedOut, MultipathdUnclear.
    """
    answer = commands.query(["multipathd", "show", "maps", "json"], timeout_s=15.0).stdout
    try:
        maps = json.loads(answer)["maps"]
        return {
            str(path["dev"]): _STATES.get(str(path["chk_st"]), PathState.UNKNOWN)
            for one in maps
            for group in one.get("path_groups", ())
            for path in group.get("paths", ())
        }
    except (ValueError, KeyError, TypeError) as error:
        raise MultipathdUnclear(answer[:80]) from error
