"""NBD exports as sources: their servers are asked in the background, and one that does not answer is absent.

By disposable helpers, each server with a deadline of its own: one that hangs keeps nobody waiting, and delays
no other's news. An export that a job copies is not asked meanwhile: the copy itself notices what becomes of
it, and some servers take one client only.
"""

import functools
import logging
import threading
from collections.abc import Callable, Collection, Iterable, Sequence

from p2vd.copying.nbd_asking import ExportAnswer, ExportsRequest
from p2vd.jobs.disposable import messages, started
from p2vd.jobs.export_helper import MOST_HELPERS, ExportHelper
from p2vd.jobs.export_known import KnownExport, Question, server_of
from p2vd.model.codec import from_dict, to_dict
from p2vd.model.disk import Source
from p2vd.model.nbd import NbdExport
from p2vd.system.clock import Clock, SystemClock
from p2vd.system.descriptors import SeqpacketChannel
from p2vd.system.process import ChildProcess, Spawn
from p2vd.system.threads import NoThread, start

log = logging.getLogger(__name__)

SILENCE_S = 45.0
"""A server that takes longer does not answer."""

INTERVAL_S = 15.0
"""How often each is asked."""

_SOONEST_S = 2.0
_PASS_S = 0.5  # while some find no helper; each time one more is started
_SHORTEST_S = 0.25
_END_WITHIN_S = 5.0
_PROGRAM = "p2vd.copying.nbd_asker"


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
        self._known: dict[str, KnownExport] = {}
        self._helpers: list[ExportHelper] = []
        self._look_again = False
        self._running = False
        self._stopped = False
        self._is_short_of_threads = False

    def reconfigured(self) -> None:
        """Take the exports that the policies name now; those that are new are asked at once."""
        with self._changed:
            before, self._known = self._known, {}
            for export in self._named():
                known = before.get(export.id)
                same = known is not None and known.export == export
                self._known[export.id] = known if known is not None and same else KnownExport(export)
            other = before.keys() != self._known.keys() or any(
                self._known[key] is not known for key, known in before.items()
            )
        self.ask_soon()
        if other:
            self._report()

    def ask_soon(self) -> None:
        """Have all of them asked, but those that were just now."""
        with self._changed:
            before_s = self._clock.monotonic() - _SOONEST_S
            for known in self._known.values():
                known.wanted = known.wanted or known.asked_s <= before_s
            self._wake()

    def doubt(self, source_id: str) -> None:
        """Have an export asked at once that a copy has just lost: it is not to begin again before that."""
        with self._changed:
            if (known := self._known.get(source_id)) is not None:
                known.doubt()
        self.ask_soon()
        self._report()

    def sources(self) -> tuple[Source, ...]:
        """Those that are there, in the order of their ids."""
        with self._changed:
            self._begin()  # where it could not before
            shown = [self._known[key].show() for key in sorted(self._known)]
        return tuple(source for source in shown if source is not None)

    def problems(self) -> tuple[str, ...]:
        """Why the others are not."""
        with self._changed:
            problems = [self._known[key].problem for key in sorted(self._known)]
        return tuple(problem for problem in problems if problem)

    def stop(self) -> None:
        """End; waits for nothing."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    # ---- under the lock ---------------------------------------------------------------------------

    def _wake(self) -> None:
        self._look_again = True
        self._changed.notify_all()
        self._begin()

    def _begin(self) -> None:
        if self._known and not (self._running or self._stopped):
            # Where it cannot, the next change, question or look at the host tries again.
            self._running = self._start_thread("exports", self._run)

    def _start_thread(self, name: str, target: Callable[[], None]) -> bool:
        """Return whether the host lets us: it may be at its limit of processes."""
        try:
            start(target, name)
        except NoThread as error:
            if not self._is_short_of_threads:  # it is tried twice a second
                log.warning("NBD: servers cannot be asked now: %s", error)
            self._is_short_of_threads = True
        else:
            self._is_short_of_threads = False
        return not self._is_short_of_threads

    def _is_due(self, known: KnownExport, now_s: float, copied: Collection[str]) -> bool:
        if known.is_busy:
            return False
        if known.answer is None or known.is_doubted:
            return True
        if known.is_there and known.export.id in copied:
            return False
        return known.wanted or now_s - known.asked_s >= INTERVAL_S

    def _hand_out(self, copied: Collection[str]) -> bool:
        """Give those that are due to helpers; return whether some find none."""
        now_s = self._clock.monotonic()
        due = [known for known in self._known.values() if self._is_due(known, now_s, copied)]
        # Where helpers are short, those come first that may share one, and last those whose silence is known.
        due.sort(key=lambda known: (not known.is_doubted, known.alone, known.problem != ""))
        may_start = {False, True}
        short = False
        for known in due:
            keyed = known.export.needs_privileges
            able = (helper for helper in self._helpers if helper.takes(known.export, now_s))
            helper = None if known.alone else next(able, None)
            if helper is None and keyed in may_start:
                may_start.remove(keyed)
                helper = self._start(keyed, now_s)
            if helper is None:
                short = True
                continue
            helper.add(known.ask(now_s))
            helper.ending = helper.ending or known.alone
        return short

    def _start(self, privileged: bool, now_s: float) -> ExportHelper | None:
        if sum(helper.privileged is privileged for helper in self._helpers) >= MOST_HELPERS:
            return None
        helper = ExportHelper(privileged, now_s)
        if not self._start_thread("export-helper", functools.partial(self._serve, helper)):
            return None
        self._helpers.append(helper)  # in time: its thread waits for our lock
        return helper

    def _wait_s(self, copied: Collection[str]) -> float:
        """How long until the next is due."""
        now_s = self._clock.monotonic()
        later = [
            known.asked_s + INTERVAL_S - now_s
            for known in self._known.values()
            if not (known.is_busy or (known.is_there and known.export.id in copied))
        ]
        return min(max(min(later, default=INTERVAL_S), _SHORTEST_S), INTERVAL_S)

    def _take(self, heard: Iterable[tuple[Question, ExportAnswer]], *, silent: bool = False) -> bool:
        """Note answers, or that there were none; return whether there is news."""
        news = False
        for question, answer in heard:
            known = question.known
            changed = known.hear(question, answer, silent=silent)
            if self._known.get(known.export.id) is not known:
                continue  # the policies name it otherwise by now
            if changed and answer.problem:
                log.warning("NBD: %s", answer.problem)
            if known.is_doubted or known.wanted:
                self._wake()
            news = news or changed
        return news

    # ---- on threads of their own ------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            try:
                if not self._pass():
                    return
            except Exception:  # a defect, of ours or of what knows the jobs
                log.exception("NBD: servers are asked again in %.0f s at the latest", INTERVAL_S)
                with self._changed:
                    self._look_again = False
                    self._changed.wait_for(lambda: self._look_again or self._stopped, INTERVAL_S)
                    if self._stopped:
                        self._running = False
                        return

    def _pass(self) -> bool:
        """Have those asked that are due, and wait until others are; return whether to go on."""
        copied = self._copied()  # not under our lock: theirs is held over what is stored
        with self._changed:
            if self._known and not self._stopped:
                self._look_again = False
                if self._hand_out(copied):
                    self._changed.wait_for(lambda: self._stopped, _PASS_S)
                else:
                    self._changed.wait_for(lambda: self._look_again or self._stopped, self._wait_s(copied))
            # Looked at before anything is asked again: once we are stopped, what is stored is closed.
            self._running = bool(self._known) and not self._stopped
            return self._running

    def _report(self) -> None:
        """Tell of the news; who is told ends nothing of ours by what goes wrong."""
        try:
            self._on_change()
        except Exception:
            log.exception("NBD: news of exports could not be told")

    def _serve(self, helper: ExportHelper) -> None:
        """Run a helper until it has nothing left to ask; what it leaves is noted, whatever ends it."""
        child: ChildProcess | None = None
        problem = "the helper that asks servers ended"
        try:
            with started(self._spawn, _PROGRAM) as (channel, child):
                for message in messages(channel, functools.partial(self._tell, helper, channel)):
                    if message is not None:
                        self._hear(helper, from_dict(ExportAnswer, message))
        except Exception as error:
            if not isinstance(error, OSError | ValueError):  # a defect of ours
                log.exception("NBD: a helper is given up")
            problem = f"the helper that asks servers failed: {error}"
        self._close(helper, problem, crashed=child is not None)
        if child is not None:
            try:
                child.wait(_END_WITHIN_S)
            except TimeoutError:
                self._leave(helper, child)

    def _tell(self, helper: ExportHelper, channel: SeqpacketChannel) -> bool:
        """Have a helper ask what it was not told yet; return whether anybody wants to know more of it."""
        if (fresh := self._next(helper)) is None:
            return False
        if fresh:
            servers = tuple(server_of(question.known.export) for question in fresh)
            channel.send(to_dict(ExportsRequest(servers, helper.privileged, *self._worker_ids)))
        return True

    def _next(self, helper: ExportHelper) -> Sequence[Question] | None:
        """Return what the helper is to be told; None: nobody wants to know more of it."""
        with self._changed:
            late = helper.give_up(self._clock.monotonic() - SILENCE_S)
            said = ((question, self._silence(question.known, question.known.hanging)) for question in late)
            news = self._take(said, silent=True)
            asked = [question.known for question in helper.left.values()]
            wanted = any(self._known.get(known.export.id) is known for known in asked)
            helper.ending = helper.ending or self._stopped or not wanted
            fresh = helper.untold() if wanted and not self._stopped else None
        if news:
            self._report()
        return fresh

    def _hear(self, helper: ExportHelper, answer: ExportAnswer) -> None:
        with self._changed:
            question = helper.left.pop(answer.uri, None)
            # None: it comes too late.
            news = question is not None and self._take([(question, answer)])
        if news:
            self._report()

    def _close(self, helper: ExportHelper, problem: str, *, crashed: bool) -> None:
        """Note what a helper that is over has left."""
        with self._changed:
            helper.ending = True
            self._helpers.remove(helper)
            left = tuple(helper.left.values())
            helper.left.clear()
            if self._stopped:
                return
            if crashed and len(left) > 1:  # one server ended it: none of the others is absent for that
                for question in left:
                    question.known.forget_question()
                self._wake()
                return
            uris = [question.known.export.uri for question in left]
            said = [ExportAnswer(uri, problem=f"{uri}: {problem}.") for uri in uris]
            news = self._take(zip(left, said, strict=True))
            for question in left:
                question.known.alone = crashed
        if news:
            self._report()

    def _leave(self, helper: ExportHelper, child: ChildProcess) -> None:
        """Have nobody sent after a helper that does not end, to hang where it does."""
        log.warning("the helper that asks servers, process %d, does not end", child.pid)
        with self._changed:
            counted = [known.hang(child, self._silence(known, child)) for known in helper.silent]
        if any(counted):
            self._report()

    @staticmethod
    def _silence(known: KnownExport, hanging: ChildProcess | None) -> ExportAnswer:
        uri = known.export.uri
        problem = f"{uri}: no answer in {SILENCE_S:.0f} s."
        if hanging is not None:
            problem += (
                f" Process {hanging.pid}, which asked, hangs: it is not asked again before that process ends."
            )
        return ExportAnswer(uri, problem=problem)
