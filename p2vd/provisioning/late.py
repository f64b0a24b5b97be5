"""Volume groups with a change that does not end: they take no new work (design: §4.8).

LVM's own lock would only queue it: a change that waits there runs hours later, on what was checked before.
"""

import threading
from collections.abc import Callable

from p2vd.model.lvm import Vg
from p2vd.provisioning.errors import VgStalled
from p2vd.system.command import CommandFailed, CommandTimedOut


class LateChanges:
    """The changes past their deadline, by the UUID of their volume group. Thread-safe.

    `running` returns the unit names of all changes that run now, and `vg_of` the UUID of the volume group
    that a unit of an earlier daemon changes, or "". What an earlier daemon left is asked for once, before the
    first change of this one, and again while any of it runs: its deadline is not known, so it counts as past.
    """

    def __init__(
        self, running: Callable[[], frozenset[str]], vg_of: Callable[[str], str] = lambda unit: ""
    ) -> None:
        self._running = running
        self._vg_of = vg_of
        # systemctl may take its time: who only wants to know, or to say something, does not wait for it.
        self._asking = threading.Lock()
        self._lock = threading.Lock()
        self._awaited: dict[str, str] = {}
        self._left: dict[str, str] = {}
        self._asked = False

    def add(self, vg_uuid: str, unit: str) -> None:
        """A change of this daemon is past its deadline, and awaited."""
        with self._lock:
            self._awaited[unit] = vg_uuid

    def end(self, unit: str) -> None:
        """A change of this daemon has ended, late or not."""
        with self._lock:
            self._awaited.pop(unit, None)

    def leave(self, vg_uuid: str, unit: str) -> None:
        """A change of this daemon may run on, and nobody awaits it any more."""
        with self._lock:
            self._awaited.pop(unit, None)
            self._left[unit] = vg_uuid

    def refuse(self, vg: Vg) -> None:
        """Raise VgStalled while a change of the volume group does not end, or that cannot be known."""
        try:
            with self._asking:
                self._look()
        except (CommandFailed, CommandTimedOut) as error:
            why = f"whether an earlier command still changes it is not known. {error} p2vd asks again."
            raise VgStalled(vg.name, why) from error
        if unit := self.known(vg.uuid):
            raise VgStalled.by(vg.name, unit)

    def known(self, vg_uuid: str) -> str:
        """Return the unit name of such a change, "" for none, by what was seen last: nothing is asked."""
        with self._lock:
            changes = {**self._left, **self._awaited}
        return min((unit for unit, changed in changes.items() if changed == vg_uuid), default="")

    def _look(self) -> None:
        with self._lock:
            before, first = dict(self._left), not self._asked
        if not before and not first:
            return
        running = self._running()
        found = {unit: self._vg_of(unit) for unit in running} if first else {}
        with self._lock:
            self._asked = True
            # What was left meanwhile stays: it may have begun after systemctl had looked.
            kept = {unit: vg for unit, vg in self._left.items() if unit in running or unit not in before}
            self._left = {**{unit: vg for unit, vg in found.items() if vg}, **kept}
