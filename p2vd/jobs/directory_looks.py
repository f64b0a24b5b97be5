"""Looks at the directories that files may go to, which take as long as their file server does.

A plan's call waits a moment for one; a look that takes longer goes on, and is there when the caller asks
again.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from p2vd.model.contents import UNDER_EXAMINATION
from p2vd.model.directory import TargetDirectory
from p2vd.system.threads import NoThread, start

log = logging.getLogger(__name__)

Look = Callable[[str], TargetDirectory]

# Longer than a client takes that asks again because something else is looked at.
_FRESH_S = 15.0


@dataclass
class _State:
    """Of one directory: the look that runs, and what the last one saw."""

    over: threading.Event = field(default_factory=threading.Event)
    seen: TargetDirectory | None = None
    at_s: float = 0.0

    @property
    def is_old(self) -> bool:
        """Whether it was seen too long ago to be told again."""
        return self.over.is_set() and time.monotonic() - self.at_s > _FRESH_S


class DirectoryLooks:
    """Thread-safe. A directory has one look at a time, on a thread of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: dict[str, _State] = {}

    def look(self, path: str, look: Look, wait_s: float) -> TargetDirectory:
        """Return the directory as it was seen a moment ago, or that it is being looked at."""
        with self._lock:
            state = self._states.get(path)
            if state is None or state.is_old:
                # What nobody asks for any more is forgotten: the names in a directory may be many.
                self._states = {key: each for key, each in self._states.items() if not each.is_old}
                state = _State()
                try:
                    start(partial(_run, state, path, look), "directory")
                except NoThread as error:  # there are no threads now; the next call tries again
                    return _unseen(path, error)
                self._states[path] = state
        state.over.wait(wait_s)
        if state.seen is not None:
            return state.seen
        problem = f"{path} {UNDER_EXAMINATION}. Plan again in a moment."
        return TargetDirectory(path, problem=problem, under_way=True)


def _run(state: _State, path: str, look: Look) -> None:
    try:
        state.seen = look(path)
    except Exception as error:
        # Else nobody would ever hear what is wrong, only that it is being looked at.
        log.exception("%s cannot be looked at", path)
        state.seen = _unseen(path, error)
    finally:
        state.at_s = time.monotonic()
        state.over.set()


def _unseen(path: str, error: Exception) -> TargetDirectory:
    return TargetDirectory(path, problem=f"{path} cannot be looked at: {error}. Plan again.")
