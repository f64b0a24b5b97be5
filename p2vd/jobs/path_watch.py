"""Who answers at the paths of a running copy: those that are new or come back are asked (design: §3).

While a path is away its array may give the LUN number to another LUN: the kernel, udev and multipathd take
what comes back for what went. A number that is given away at once leaves no path down in between, so that all
paths are asked now and then.
"""

import logging
import queue
from collections.abc import Collection, Mapping, Sequence

from p2vd.discovery import luns
from p2vd.discovery.luns import Answer, Found
from p2vd.jobs.control import PathReplaced
from p2vd.model.disk import PathState, ScsiPath, Source
from p2vd.model.inventory import Inventory
from p2vd.system.command import Commands
from p2vd.system.threads import NoThread, start

log = logging.getLogger(__name__)

ASK_AGAIN_S = 60.0
"""A path that has answered is asked again after so long: one short command."""

ASK_SILENT_S = 10.0
"""One that carries I/O and gave no answer, after so long."""


class PathWatch:
    """The paths of the LUNs that a copy reads and writes, by the kernel's names. Used by one thread.

    A path is asked on a thread of its own: an INQUIRY of a sick one hangs, and neither the copy's supervision
    nor the other paths wait for it.
    """

    def __init__(
        self, commands: Commands, watched: Sequence[Source], silent: Collection[str], now_s: float
    ) -> None:
        """Begin with what the helper that opened the devices has asked; `silent` did not answer it."""
        self._commands = commands
        self._wwids = {lun.id: lun.wwid for lun in watched if lun.wwid}
        answered = {path.device for lun in watched for path in _asked(lun)} - set(silent)
        self._sound = answered
        self._due_s = dict.fromkeys(answered, now_s + ASK_AGAIN_S)
        # Whether the answer still counts: of a path that went away meanwhile it does not.
        self._under_way: dict[str, bool] = {}
        self._noted: Inventory | None = None
        self._answers: queue.SimpleQueue[tuple[str, str, Answer]] = queue.SimpleQueue()

    def look(self, inventory: Inventory, now_s: float) -> PathReplaced | None:
        """Hear the answers, and ask what is due; return what leads elsewhere, if something does."""
        found = self._hear(now_s)
        self.note(inventory)
        for device, wwid in self._there(inventory).items():
            if device not in self._under_way and self._due_s.get(device, now_s) <= now_s:
                self._ask(device, wwid, now_s)
        return found

    def note(self, inventory: Inventory) -> None:
        """See which paths are away: they are asked when they are back, as far as an inventory shows that.

        One that was away for so short that none has shown it is asked within `ASK_AGAIN_S`. One that is
        faulty carries nothing, and is away, too. It costs nothing where nothing has changed.
        """
        if inventory is self._noted:
            return
        self._noted = inventory
        there = self._there(inventory)
        for device in self._due_s.keys() - there.keys():
            del self._due_s[device]
        for device in self._under_way.keys() - there.keys():
            self._under_way[device] = False
        self._sound &= there.keys()

    def sound(self, source: Source) -> tuple[ScsiPath, ...]:
        """Return the paths of a source that answered as it, and have not been away since."""
        return tuple(path for path in source.paths if path.device in self._sound)

    def _there(self, inventory: Inventory) -> Mapping[str, str]:
        """Return the WWID that is expected at each path through which I/O may go."""
        seen = ((wwid, inventory.by_id.get(id_)) for id_, wwid in self._wwids.items())
        return {
            path.device: wwid
            for wwid, lun in seen
            for path in (_asked(lun) if lun else ())
            if path.state is not PathState.FAULTY
        }

    def _hear(self, now_s: float) -> PathReplaced | None:
        replaced = None
        while not self._answers.empty():
            device, wwid, answer = self._answers.get()
            counts = self._under_way.pop(device)
            same = answer.found is Found.SAME
            if answer.found is Found.OTHER:
                replaced = replaced or _replaced(device, wwid, answer)
            elif not same:
                said = answer.found.value
                log.warning("/dev/%s, a path of %s, does not say who it is (%s)", device, wwid, said)
            if counts:
                self._due_s[device] = now_s + (ASK_AGAIN_S if same else ASK_SILENT_S)
                self._sound = self._sound | {device} if same else self._sound - {device}
        return replaced

    def _ask(self, device: str, wwid: str, now_s: float) -> None:
        def ask() -> None:
            answer = Answer(Found.SILENT)
            try:
                answer = luns.ask(self._commands, device, wwid)
            finally:
                self._answers.put((device, wwid, answer))

        self._under_way[device] = True
        try:
            start(ask, f"ask-{device}")
        except NoThread as error:  # a busy host, and no answer
            del self._under_way[device]
            self._due_s[device] = now_s + ASK_SILENT_S
            log.warning("/dev/%s is not asked who it is: %s", device, error)


def elsewhere(commands: Commands, lun: Source) -> PathReplaced | None:
    """Ask every path of a LUN who it is, and wait for the answers; return the first that leads elsewhere."""
    for path in _asked(lun):
        answer = luns.ask(commands, path.device, lun.wwid)
        if answer.found is Found.OTHER:
            return _replaced(path.device, lun.wwid, answer)
    return None


def _replaced(device: str, wwid: str, answer: Answer) -> PathReplaced:
    return PathReplaced(f"/dev/{device}", "its WWID", wwid, answer.wwid)


def _asked(lun: Source) -> tuple[ScsiPath, ...]:
    """Return the paths that an INQUIRY tells of: an NVMe namespace the kernel itself asks again."""
    return tuple(path for path in lun.paths if path.hctl)
