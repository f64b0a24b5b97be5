"""Knows what is on the sources: looks at new and changed ones in the background, and again for a plan.

What is known of a disk is forgotten when the disk goes away or gets into use, and is read anew for
each plan: a digest of its first and last MiB would not tell that Windows was shut down in between.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from p2vd.jobs.disk_helper import Helper, key_of, request_of
from p2vd.jobs.sampler import Sampler
from p2vd.model.contents import Contents, Examination
from p2vd.model.disk import Source
from p2vd.model.inventory import Inventory
from p2vd.system.clock import Clock, SystemClock
from p2vd.system.threads import NoThread, start

log = logging.getLogger(__name__)

DEADLINE_S = 60.0
"""A disk that takes longer to be looked at does not answer."""

FRESH_S = 60.0
"""So long a look that a plan could not wait for is kept for its next try."""

_DISKS_AT_ONCE = 2
_FORMS_AT_ONCE = 4  # a server that is silent keeps no disk waiting
_NEWS_INTERVAL_S = 1.0


@dataclass
class _Entry:
    """One source. `looks` counts the examinations that ended; `stuck` is a helper that did not.

    `unclaimed`: somebody asked for the look under way, or for the last one, and did not wait for its end.
    """

    source: Source
    examination: Examination = Examination.UNDER_WAY
    contents: Contents | None = None
    problem: str = ""
    looks: int = 0
    ended_s: float = 0.0
    running: Helper | None = None
    released: bool = False
    unclaimed: bool = False
    stuck: Helper | None = field(default=None)
    shown: Source | None = None
    shown_from: tuple[object, ...] = ()

    def show(self, source: Source) -> Source:
        """Return `source` with what is known of it: the same object as long as nothing changes.

        Of thousands of sources few change, and what is the same object is neither made nor kept twice.
        """
        made_from = (source, self.examination, self.contents, self.problem)
        if self.shown is None or any(
            old is not new for old, new in zip(self.shown_from, made_from, strict=True)
        ):
            self.shown_from = made_from
            self.shown = replace(
                source,
                examination=self.examination,
                contents=self.contents,
                examination_problem=self.problem,
            )
        return self.shown


@dataclass
class _Lane:
    """Sources that wait for each other alone. `threads`: how many of them look, `most` at once."""

    most: int
    queue: deque[str] = field(default_factory=deque)
    threads: int = 0


class ContentsKeeper:
    """Thread-safe. `on_change` is called, at most about once a second, with the ids of what was looked at.

    It must not raise: a board's `publish` does not.
    """

    def __init__(
        self,
        start_helper: Callable[[], Helper],
        on_change: Callable[[frozenset[str]], None],
        clock: Clock | None = None,
    ) -> None:
        self._start_helper = start_helper
        self._on_change = on_change
        self._clock = clock or SystemClock()
        self.samples = Sampler(start_helper, self._clock)
        """Reads of them what a plan wants to know besides; lets go of what this lets go of."""
        self._changed = threading.Condition()
        self._entries: dict[str, _Entry] = {}
        self._disks, self._forms = _Lane(_DISKS_AT_ONCE), _Lane(_FORMS_AT_ONCE)
        self._stopped = False
        self._version = 0
        self._attached: tuple[Inventory, int, Inventory] | None = None
        self._told_s = 0.0
        self._news: set[str] = set()

    def want(
        self, sources: Sequence[Source], held: Collection[str], among: Collection[str] | None = None
    ) -> None:
        """Have `sources` looked at that are new or changed; forget all others but those `held` by jobs.

        `among`: the ids of all that may have changed; the others stay as they are.
        """
        with self._changed:
            known = self._entries.keys() if among is None else self._entries.keys() & set(among)
            for gone in known - {source.id for source in sources} - set(held):
                self._forget(gone)
            for source in sources:
                entry = self._entries.get(source.id)
                if entry is None or entry.released or key_of(entry.source) != key_of(source):
                    self._begin(source)
                else:
                    entry.source = source
            self._wake()

    def refresh(self, source: Source, timeout_s: float, max_age_s: float = 0.0) -> bool:
        """Look at a source again unless that was done `max_age_s` ago; False: not within `timeout_s`.

        A look that took longer is taken by the next call, so that asking again comes to an end on a
        slow host too, and never with what was seen before the first call.
        """
        with self._changed:
            entry = self._entries.get(source.id)
            if entry is None or entry.released or key_of(entry.source) != key_of(source):
                entry = self._begin(source)
            elif entry.examination is not Examination.UNDER_WAY:
                age_s = self._clock.monotonic() - entry.ended_s
                claimed, entry.unclaimed = entry.unclaimed, False
                if age_s < max_age_s or (claimed and age_s <= FRESH_S):
                    return True
                entry.source, entry.examination = source, Examination.UNDER_WAY
                self._version += 1
            if entry.running is None:
                lane = self._lane(source)
                lane.queue = deque([source.id, *(one for one in lane.queue if one != source.id)])
            self._wake()
            looks = entry.looks
            self._changed.wait_for(lambda: entry.looks > looks or self._stopped, timeout_s)
            entry.unclaimed = entry.looks == looks
            return not entry.unclaimed

    def retry(self) -> None:
        """Look again at what gave no answer the last time, or could not be read."""
        with self._changed:
            for entry in self._entries.values():
                lacks = entry.examination in (Examination.SILENT, Examination.FAILED)
                if lacks and not entry.released and entry.running is None:
                    entry.examination = Examination.UNDER_WAY
                    self._lane(entry.source).queue.append(entry.source.id)
                    self._version += 1
            self._wake()

    def release(self, source_id: str) -> None:
        """Let go of a source that a job is to have; what is known of it stays known."""
        self.samples.release(source_id)
        with self._changed:
            entry = self._entries.get(source_id)
            if entry is None:
                return
            entry.released = True
            if entry.running is not None:
                entry.running.kill()
            if entry.examination is Examination.UNDER_WAY:
                entry.examination = Examination.DONE if entry.contents else Examination.NO
            self._version += 1

    def attach(self, inventory: Inventory) -> Inventory:
        """Return `inventory` with what is known of its sources' contents."""
        with self._changed:
            if self._attached is not None:
                seen, version, attached = self._attached
                if seen is inventory and version == self._version:
                    return attached
            attached = replace(inventory, sources=tuple(map(self._with_contents, inventory.sources)))
            self._attached = (inventory, self._version, attached)
            return attached

    def stop(self) -> None:
        """End; waits for nothing."""
        self.samples.stop()
        with self._changed:
            self._stopped = True
            for lane in (self._disks, self._forms):
                lane.queue.clear()
            for entry in self._entries.values():
                if entry.running is not None:
                    entry.running.kill()
            self._changed.notify_all()

    # ---- under the lock ---------------------------------------------------------------------------

    def _begin(self, source: Source) -> _Entry:
        self._forget(source.id)
        entry = self._entries[source.id] = _Entry(source)
        self._lane(source).queue.append(source.id)
        self._version += 1
        return entry

    def _forget(self, source_id: str) -> None:
        self.samples.release(source_id)
        entry = self._entries.pop(source_id, None)
        if entry is not None:
            entry.released = True
            self._version += 1
            if entry.running is not None:
                entry.running.kill()

    def _lane(self, source: Source) -> _Lane:
        return self._disks if source.is_plain else self._forms

    def _wake(self) -> None:
        # One too many ends at once: those that run may be busy for long.
        for lane in (self._disks, self._forms):
            for _ in range(0 if self._stopped else min(lane.most - lane.threads, len(lane.queue))):
                try:
                    start(partial(self._run, lane), "contents")
                except NoThread as error:  # the next scan, or plan, tries again
                    log.warning("disks cannot be looked at now: %s", error)
                    return
                lane.threads += 1  # in time: it waits for our lock

    def _next(self, lane: _Lane) -> _Entry | None:
        while lane.queue and not self._stopped:
            entry = self._entries.get(lane.queue.popleft())
            if entry is not None and not entry.released and entry.running is None:
                return entry
        return None

    def _with_contents(self, source: Source) -> Source:
        entry = self._entries.get(source.id)
        if entry is None or (entry.source is not source and key_of(entry.source) != key_of(source)):
            return source
        return entry.show(source)

    # ---- on a thread of its own -------------------------------------------------------------------

    def _run(self, lane: _Lane) -> None:
        helper: Helper | None = None
        while True:
            with self._changed:
                entry = self._next(lane)
                if entry is None:
                    lane.threads -= 1
                    break
            try:
                helper = self._examine(entry, helper)
            except Exception as error:  # no helper could be started, or a defect: the others have their turn
                log.exception("contents of %s", entry.source)
                self._end(entry, Examination.FAILED, problem=f"it could not be looked at: {error}")
                helper = None
            self._tell()
        if helper is not None:
            helper.close()
        self._tell(last=True)

    def _examine(self, entry: _Entry, helper: Helper | None) -> Helper | None:
        """Look at one source; return the helper for the next one, None where it is of no more use."""
        if entry.stuck is not None and entry.stuck.alive:
            # Another helper would only hang beside it.
            self._end(entry, Examination.SILENT, problem="An earlier look at it still hangs in the kernel.")
            return helper
        entry.stuck = None
        helper = helper or self._start_helper()
        with self._changed:
            entry.running = helper
            request = request_of(entry.source)
        try:
            reply = helper.examine(
                request, lambda waited_s: waited_s < DEADLINE_S and not (entry.released or self._stopped)
            )
        except TimeoutError:
            helper.kill()
            helper.close()
            entry.stuck = helper
            self._end(entry, Examination.SILENT, problem=f"no answer in {DEADLINE_S:.0f} s.")
            return None
        except (EOFError, ValueError) as error:
            helper.kill()
            helper.close()
            problem = str(error) or "the helper that looks at it ended."
            self._end(entry, Examination.FAILED, problem=problem)
            return None
        if reply.contents is None:
            self._end(entry, reply.examination, problem=reply.problem)
        else:
            self._end(entry, Examination.DONE, reply.contents)
        if entry.released:  # and so the helper may have been killed, after its answer
            helper.close()
            return None
        return helper

    def _end(
        self, entry: _Entry, examination: Examination, contents: Contents | None = None, problem: str = ""
    ) -> None:
        with self._changed:
            entry.running = None
            entry.looks += 1
            if not entry.released:
                entry.examination, entry.contents, entry.problem = examination, contents, problem
                entry.ended_s = self._clock.monotonic()
                self._version += 1
                self._news.add(entry.source.id)
                if problem:
                    log.warning("contents of %s: %s", entry.source, problem)
            self._changed.notify_all()

    def _tell(self, *, last: bool = False) -> None:
        with self._changed:
            now_s = self._clock.monotonic()
            due = now_s - self._told_s >= _NEWS_INTERVAL_S
            if self._stopped or not (last or due):
                return
            self._told_s = now_s
            news, self._news = frozenset(self._news), set()
        self._on_change(news)
