"""What multipathd says of its maps and their paths."""

import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from p2vd.model.disk import PathState
from p2vd.model.errors import P2vdError
from p2vd.system.command import Commands

# multipathd's checker words that mean I/O goes through (libmultipath/checkers.c: ready is PATH_UP;
# ghost is a passive controller's path, which answers only after a fail-over).
_STATES = {"ready": PathState.READY, "faulty": PathState.FAULTY, "shaky": PathState.FAULTY}


# Beyond that one answer about all maps is cheaper than a process for each.
_ASKED_ONE_BY_ONE = 8

_BEFORE_MAPS = re.compile(r'\s*\{[^\[{]*"maps"\s*:\s*\[')
_BEFORE_FIRST, _BEFORE_NEXT = re.compile(r"\s*"), re.compile(r"\s*,\s*")
_AFTER_MAPS = re.compile(r"\s*\]\s*\}\s*")


@dataclass(frozen=True)
class PathReport:
    """A path of a map. `group`: the map's path group it is in, from 1; `priority`: its prioritizer's."""

    state: PathState
    priority: int = 0
    group: int = 0


@dataclass(eq=False)
class MultipathdUnclear(P2vdError):
    """multipathd answered something that is not its report."""

    answer: str
    template: ClassVar[str] = (
        "multipathd did not report its maps but said {answer!r}. Look at systemctl status multipathd."
    )


def read_paths(commands: Commands, maps: Collection[str] = ()) -> dict[str, PathReport]:
    """Return every path of a map by its device name (`sda`), from `multipathd show maps json`.

    Of all maps, or of `maps` alone, by name: those few are asked for one by one.
    Raises CommandFailed, CommandTimedOut, MultipathdUnclear.
    """
    if not 0 < len(maps) <= _ASKED_ONE_BY_ONE:
        return _states(commands, ["maps"])
    states: dict[str, PathReport] = {}
    for name in maps:
        states.update(_states(commands, ["map", name]))
    return states


def _states(commands: Commands, what: Sequence[str]) -> dict[str, PathReport]:
    answer = commands.query(["multipathd", "show", *what, "json"], timeout_s=15.0).stdout
    try:
        maps = _each_map(answer) if what == ["maps"] else [json.loads(answer)["map"]]
        return {
            str(path["dev"]): PathReport(
                _STATES.get(str(path["chk_st"]), PathState.UNKNOWN),
                int(path.get("pri", 0)),
                int(group.get("group", 0)),
            )
            for one in maps
            for group in one.get("path_groups", ())
            for path in group.get("paths", ())
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MultipathdUnclear(answer[:80]) from error


def _each_map(answer: str) -> Iterator[dict[str, Any]]:
    """Yield the maps of a report one by one. Raises ValueError where it is not whole.

    Of thousands of maps it has ten megabytes: json.loads holds the interpreter for as long as all of
    them take, and nobody is answered on the bus meanwhile.
    """
    begin = _BEFORE_MAPS.match(answer)
    if begin is None:
        raise ValueError("no list of maps")
    json.loads(begin.group() + "]}")
    decoder, at, separator = json.JSONDecoder(), begin.end(), _BEFORE_FIRST
    while _AFTER_MAPS.fullmatch(answer, at) is None:
        between = separator.match(answer, at)
        if between is None:
            raise ValueError("more than a list of maps")
        one, at = decoder.raw_decode(answer, between.end())
        yield one
        separator = _BEFORE_NEXT
