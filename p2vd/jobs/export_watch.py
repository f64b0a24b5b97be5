"""NBD exports as sources: their servers are asked in the background, and one that does not answer is absent.

By disposable helpers: a server that hangs keeps nobody waiting. An export that a job copies is not asked
meanwhile: the copy itself notices what becomes of it, and some servers take one client only.
"""

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from p2vd.copying.nbd_asking import MOST_EXPORTS, ExportAnswer, ExportsRequest
from p2vd.copying.terms import NbdServer
from p2vd.jobs.disposable import NoAnswer, answers
from p2vd.model.codec import from_dict, to_dict
from p2vd.model.disk import Source, Transport
from p2vd.model.errors import Reason
from p2vd.model.nbd import NbdExport
from p2vd.planning.contents import under_examination
from p2vd.system.clock import Clock, SystemClock
from p2vd.system.process import Spawn

log = logging.getLogger(__name__)

SILENCE_S = 45.0
"""A server that takes longer does not answer."""

INTERVAL_S = 15.0
"""How often each is asked."""

RECONNECT_S = 30.0
"""How long a copy tries to get a lost connection again, before its job is held until the export is back."""

_SOONEST_S = 2.0
_PROGRAM = "p2vd.copying.nbd_asker"


@dataclass
class _Known:
    """What is known of an export; `answer` None: it was not asked yet. `doubted`: its copy has lost it."""

    export: NbdExport
    answer: ExportAnswer | None = None
    asked_s: float = 0.0
    doubted: bool = False
    shown: Source | None = None

    @property
    def is_there(self) -> bool:
        """Whether its server answered when it was asked last."""
        return self.answer is not None and not self.answer.problem

    def show(self) -> Source | None:
        """The source; None: it is absent. The same object while nothing changes."""
        if self.answer is not None and self.answer.problem:
            return None
        if self.shown is None:
            self.shown = _source(self.export, None if self.doubted else self.answer)
        return self.shown


def server_of(export: NbdExport) -> NbdServer:
    """Return an export as copies connect to it."""
    return NbdServer(export.uri, export.certificates, export.psk_file, RECONNECT_S)


def _source(export: NbdExport, answer: ExportAnswer | None) -> Source:
    source = Source(
        id=export.id,
        wwid="",
        device="",
        name=export.name,
        dm_uuid="",
        size_bytes=answer.size_bytes if answer else 0,
        sector_size=export.sector_size,
        transport=Transport.NBD,
        file_id=answer.edges if answer else "",
        export=export,
    )
    if answer is None:
        return replace(source, reasons=(under_examination(source),))
    if answer.size_bytes == 0:
        reason = Reason("no-medium", f"{export.id} has no size: there is no medium behind it.")
        return replace(source, reasons=(reason,))
    return replace(source, warnings=tuple(_warnings(export, answer)))


def _warnings(export: NbdExport, answer: ExportAnswer) -> Iterator[Reason]:
    if not answer.edges:
        yield Reason(
            "edges-unread",
            f"The first or last MiB of {export.id} cannot be read ({answer.unread}): it is damaged, or the "
            "server lies about its size. It cannot be told from another disk of its size in its place.",
        )
    if not answer.read_only:
        yield Reason(
            "writable",
            f"The server of {export.id} lets clients write: whoever else connects to it could. Start it "
            "read-only (nbdkit -r, qemu-nbd -r).",
        )


class ExportWatch:
    """Thread-safe. Nothing runs before the first export is named.

    `named` tells which exports the policies in force name, `copied` the ids of the sources that are being
    copied now. `on_change` is called on a thread of its own when other exports are there than before.
    """

    def __init__(
        self,
        spawn: Spawn,
        worker_ids: tuple[int, int],
        named: Callable[[], Sequence[NbdExport]],
        copied: Callable[[], Collection[str]],
        on_change: Callable[[], None],
        clock: Clock | None = None,
    ) -> None:
        self._spawn = spawn
        self._worker_ids = worker_ids
        self._named = named
        self._copied = copied
        self._on_change = on_change
        self._clock = clock or SystemClock()
        self._changed = threading.Condition()
        self._known: dict[str, _Known] = {}
        self._asked_for = False
        self._running = False
        self._stopped = False

    def reconfigured(self) -> None:
        """Take the exports that the policies name now; those that are new are asked at once."""
        with self._changed:
            before, self._known = self._known, {}
            for export in self._named():
                known = before.get(export.id)
                same = known is not None and known.export == export
                self._known[export.id] = known if known is not None and same else _Known(export)
            other = before.keys() != self._known.keys() or any(
                self._known[key] is not known for key, known in before.items()
            )
        self.ask_soon()
        if other:
            self._on_change()

    def ask_soon(self) -> None:
        """Have all of them asked, but those that were just now."""
        with self._changed:
            self._asked_for = True
            self._changed.notify_all()
            if self._known and not (self._running or self._stopped):
                self._running = True
                threading.Thread(target=self._run, name="exports", daemon=True).start()

    def doubt(self, source_id: str) -> None:
        """Have an export asked at once that a copy has just lost: it is not to begin again before that."""
        with self._changed:
            if (known := self._known.get(source_id)) is not None:
                known.doubted, known.shown = True, None
        self.ask_soon()
        self._on_change()

    def sources(self) -> tuple[Source, ...]:
        """Those that are there, in the order of their ids."""
        with self._changed:
            shown = [self._known[key].show() for key in sorted(self._known)]
        return tuple(source for source in shown if source is not None)

    def problems(self) -> tuple[str, ...]:
        """Why the others are not."""
        with self._changed:
            answers = [self._known[key].answer for key in sorted(self._known)]
        return tuple(answer.problem for answer in answers if answer is not None and answer.problem)

    def stop(self) -> None:
        """End; waits for nothing."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    # ---- on a thread of its own -------------------------------------------------------------------

    def _run(self) -> None:
        while (due := self._await_due()) is not None:
            groups = [
                [known for known in due if known.export.needs_privileges is keyed] for keyed in (False, True)
            ]
            for group in groups:
                for first in range(0, len(group), MOST_EXPORTS):
                    self._ask(group[first : first + MOST_EXPORTS])

    def _await_due(self) -> list[_Known] | None:
        """Wait until exports are to be asked, and return them; None: none will be."""
        while True:
            copied = self._copied()  # not under our lock: theirs is held over what is stored
            with self._changed:
                if self._stopped or not self._known:
                    self._running = False
                    return None
                before_s = self._clock.monotonic() - (_SOONEST_S if self._asked_for else INTERVAL_S)
                self._asked_for = False
                due = [known for known in self._known.values() if self._is_due(known, before_s, copied)]
                if due:
                    return due
                self._changed.wait_for(lambda: self._asked_for or self._stopped, INTERVAL_S)

    @staticmethod
    def _is_due(known: _Known, before_s: float, copied: Collection[str]) -> bool:
        if known.answer is None or known.doubted:
            return True
        return known.asked_s <= before_s and not (known.is_there and known.export.id in copied)

    def _ask(self, group: Sequence[_Known]) -> None:
        """Ask servers, and note what each says when it does: one that hangs delays no other's news."""
        left = {known.export.uri: known for known in group}
        request = ExportsRequest(
            tuple(server_of(known.export) for known in group),
            group[0].export.needs_privileges,
            *self._worker_ids,
        )
        problem = "the helper that asks servers ended"
        try:
            said = answers(self._spawn, _PROGRAM, to_dict(request), lambda: self._stopped, SILENCE_S)
            for answer in (from_dict(ExportAnswer, each) for each in said):
                if (known := left.pop(answer.uri, None)) is not None:
                    self._note(known, answer)
        except NoAnswer:
            problem = f"no answer in {SILENCE_S:.0f} s"
        except (OSError, ValueError) as error:
            problem = f"the helper that asks servers failed: {error}"
        if not self._stopped:
            for uri, known in left.items():
                self._note(known, ExportAnswer(uri, problem=f"{uri}: {problem}."))

    def _note(self, known: _Known, answer: ExportAnswer) -> None:
        with self._changed:
            doubted, known.doubted = known.doubted, False
            known.asked_s = self._clock.monotonic()
            if answer == known.answer and not doubted:
                return
            if answer.problem:
                log.warning("NBD: %s", answer.problem)
            known.answer, known.shown = answer, None
        self._on_change()
