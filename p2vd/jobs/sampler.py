"""Has blocks of sources read in random places, to learn how much of them is zero.

By disposable helpers: a disk that hangs keeps nobody waiting. A sample that a caller did not wait for is
kept for its next try, and given once: who asks again later gets a new one.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from p2vd.discovery.examining import sample_of
from p2vd.jobs.disk_helper import Helper, key_of, request_of
from p2vd.model.disk import Source
from p2vd.model.errors import StillLooking
from p2vd.model.fill import ZeroSample
from p2vd.planning.fill import sample_blocks
from p2vd.system.clock import Clock
from p2vd.system.threads import start

log = logging.getLogger(__name__)

DEADLINE_S = 45.0
"""A disk that takes longer does not answer; less than the minute for which p2vctl asks again."""

KEPT_S = 600.0
"""So long a sample that nobody has fetched yet is taken: of many disks the first waits for the last."""

_WORKERS = 2
_LET_GO = "a job has it now, or it is gone."


@dataclass(eq=False)
class _Entry:
    """A source of which a sample is taken, or was; `result` is a text where there is none."""

    source: Source
    block_bytes: int
    result: ZeroSample | str | None = None
    ended_s: float = 0.0
    running: Helper | None = None
    released: bool = field(default=False)


class Sampler:
    """Thread-safe."""

    def __init__(self, start_helper: Callable[[], Helper], clock: Clock) -> None:
        self._start_helper = start_helper
        self._clock = clock
        self._changed = threading.Condition()
        self._slots = threading.BoundedSemaphore(_WORKERS)
        self._entries: dict[str, _Entry] = {}
        self._stuck: dict[str, Helper] = {}
        self._stopped = False

    def take(self, wanted: Sequence[tuple[Source, int]], timeout_s: float) -> tuple[ZeroSample | str, ...]:
        """Return a sample of each source, in blocks of so many bytes, or in a sentence why there is none.

        Raises StillLooking where that takes longer than `timeout_s`: it goes on, for the next call; NoThread
        where one cannot be begun.
        """
        with self._changed:
            entries = [self._entry(source, block_bytes) for source, block_bytes in wanted]
            self._changed.wait_for(
                lambda: self._stopped or all(entry.result is not None for entry in entries), timeout_s
            )
            for entry in entries:
                if entry.result is None:
                    raise StillLooking(f"blocks of {entry.source}, to learn how many are zero")
            for entry in entries:
                if self._entries.get(entry.source.id) is entry:
                    del self._entries[entry.source.id]
            return tuple(entry.result for entry in entries if entry.result is not None)

    def release(self, source_id: str) -> None:
        """Let go of a source that a job is to have, or that is gone."""
        with self._changed:
            entry = self._entries.pop(source_id, None)
            if entry is not None:
                self._let_go(entry)

    def stop(self) -> None:
        """End; waits for nothing."""
        with self._changed:
            self._stopped = True
            for entry in self._entries.values():
                self._let_go(entry)
            self._changed.notify_all()

    # ---- under the lock ---------------------------------------------------------------------------

    def _entry(self, source: Source, block_bytes: int) -> _Entry:
        known = self._entries.get(source.id)
        if known is not None:
            same = key_of(known.source) == key_of(source) and known.block_bytes == block_bytes
            old = known.result is not None and self._clock.monotonic() - known.ended_s > KEPT_S
            if same and not old:
                return known
            self._let_go(known)
        entry = _Entry(source, block_bytes)
        if not self._stopped:
            start(partial(self._run, entry), "sample")
        self._entries[source.id] = entry
        return entry

    @staticmethod
    def _let_go(entry: _Entry) -> None:
        entry.released = True
        if entry.running is not None:
            entry.running.kill()

    # ---- on a thread of its own -------------------------------------------------------------------

    def _run(self, entry: _Entry) -> None:
        with self._slots:
            try:
                result = self._sample(entry)
            except Exception:  # a defect of ours: whoever waits is told that there is no sample
                log.exception("sample of %s", entry.source)
                result = "it failed; the journal says how."
        if isinstance(result, str) and not entry.released:
            log.warning("sample of %s: %s", entry.source, result)
        with self._changed:
            entry.running = None
            entry.result, entry.ended_s = result, self._clock.monotonic()
            self._changed.notify_all()

    def _sample(self, entry: _Entry) -> ZeroSample | str:
        if entry.released:
            return _LET_GO
        stuck = self._stuck.pop(entry.source.id, None)
        if stuck is not None and stuck.alive:
            # Another helper would only hang beside it.
            self._stuck[entry.source.id] = stuck
            return "an earlier look at it still hangs in the kernel."
        helper = self._start_helper()
        with self._changed:
            if entry.released:
                helper.kill()
            entry.running = helper
        request = replace(
            request_of(entry.source),
            scsi_paths=(),
            sample_blocks=sample_blocks(entry.block_bytes),
            block_bytes=entry.block_bytes,
        )
        try:
            reply = helper.examine(
                request, lambda waited_s: waited_s < DEADLINE_S and not (entry.released or self._stopped)
            )
            return sample_of(reply, request)
        except TimeoutError:
            helper.kill()
            self._stuck[entry.source.id] = helper
            return _LET_GO if entry.released else f"no answer in {DEADLINE_S:.0f} s."
        except EOFError as error:
            helper.kill()
            return _LET_GO if entry.released else str(error) or "the helper that looks at it ended."
        except ValueError as error:
            helper.kill()
            return str(error)
        finally:
            helper.close()
