"""The helper processes that ask NBD servers: which server is asked by which of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from p2vd.copying.nbd_asking import MOST_EXPORTS
from p2vd.jobs.export_known import KnownExport, Question
from p2vd.model.nbd import NbdExport

MOST_HELPERS = 16
"""At once, of each kind: so a thousand servers that are silent keep no other from being asked."""

_LIFE_S = 60.0
"""A helper that is older is asked nothing more: it is disposable."""


@dataclass(eq=False)
class ExportHelper:
    """One helper, and what it was asked, by URI. Used under the lock of the watch.

    It is asked more while it runs: one server that is silent takes a place in it, and not the whole of it.
    `privileged`: it may read keys and reach Unix sockets. `ending`: it is asked nothing more.
    """

    privileged: bool
    began_s: float
    ending: bool = False
    left: dict[str, Question] = field(default_factory=dict)
    silent: list[KnownExport] = field(default_factory=list)
    _untold: list[Question] = field(default_factory=list)

    def takes(self, export: NbdExport, now_s: float) -> bool:
        """Whether it can be asked that, too."""
        return (
            not self.ending
            and export.needs_privileges is self.privileged
            and now_s - self.began_s < _LIFE_S
            and len(self.left) < MOST_EXPORTS
            and export.uri not in self.left
        )

    def add(self, question: Question) -> None:
        """Have it asked."""
        self.left[question.known.export.uri] = question
        self._untold.append(question)

    def untold(self) -> Sequence[Question]:
        """Return what it was not told yet, once."""
        told, self._untold = self._untold, []
        return told

    def give_up(self, before_s: float) -> Sequence[Question]:
        """Return, and expect no more, what was asked before then; it is asked nothing more itself."""
        late = [question for question in self.left.values() if question.asked_s <= before_s]
        for question in late:
            del self.left[question.known.export.uri]
            self.silent.append(question.known)
            self.ending = True
        return late
