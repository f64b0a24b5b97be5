"""What disk is in each image file that is no raw one: looked into in the background, never by a scan.

By disposable helpers: a file server that hangs keeps nobody waiting, and what strangers wrote is read
without privileges. The size of a disk that nothing in its image tells is learned by reading all of it, of
one image at a time, and only of one that a policy matches.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

from p2vd.copying.asking import MOST_IMAGES, Answer, AskRequest, ImageToAsk
from p2vd.jobs.disposable import NoAnswer, answers
from p2vd.jobs.image_sizes import ImageSizes
from p2vd.model.codec import from_dict, to_dict
from p2vd.model.disk import Source
from p2vd.model.errors import Reason
from p2vd.model.forms import SIZE_UNKNOWN
from p2vd.planning.contents import UNDER_EXAMINATION_CODE, under_examination
from p2vd.system.clock import Clock, SystemClock
from p2vd.system.process import ChildProcess, Spawn

log = logging.getLogger(__name__)

SILENCE_S = 90.0
"""An image that takes longer to be looked into does not answer; QEMU's own deadline is a minute."""

UNREAD, SILENT, REFUSED, UNSIZED = UNDER_EXAMINATION_CODE, "image-silent", "image-refused", "size-unknown"

_AGAIN_S = 60.0
_PROGRAM = "p2vd.copying.asker"


@dataclass
class _Look:
    """An image, and what was found in it; `answer` None: nobody has looked. `measured`: read to its end.

    `stuck`: the helper that got no answer of its file server.
    """

    file: Source
    answer: Answer | None = None
    silent: bool = False
    measured: bool = False
    ended_s: float = 0.0
    stuck: ChildProcess | None = None
    shown: Source | None = None

    @property
    def key(self) -> tuple[str, int, int]:
        """What makes it another file, or the same one with other contents."""
        return (self.file.file_id, self.file.size_bytes, self.file.modified_us)

    @property
    def image(self) -> ImageToAsk:
        """What a helper is asked."""
        return ImageToAsk(self.file.id, self.file.file_id, self.file.format)

    def show(self) -> Source:
        """The source, with its disk's size, or why it can be none; the same object while nothing changes."""
        if self.shown is None:
            answer = self.answer
            if answer is None:
                reason = under_examination(self.file)
            elif answer.problem:
                reason = Reason(SILENT if self.silent else REFUSED, answer.problem)
            elif answer.size_bytes == SIZE_UNKNOWN:
                reason = Reason(UNSIZED, _unsized(self.file))
            else:
                self.shown = replace(self.file, size_bytes=answer.size_bytes)
                return self.shown
            self.shown = replace(self.file, size_bytes=0, reasons=(*self.file.reasons, reason))
        return self.shown


def _unsized(file: Source) -> str:
    return (
        f"Nothing in {file.id} tells how large its disk is. Once a policy matches it, p2vd reads it to its "
        f"end to learn that, one image at a time; or make one that tells: p2vd-copy --source-format "
        f"{file.format.value} --target-format raw.zst."
    )


class ImageLooks:
    """Thread-safe. Nothing runs before the first image is shown.

    `on_change` is called on a thread of its own when more is known of some of them; `sizes` keeps what cost a
    whole reading.
    """

    def __init__(
        self,
        spawn: Spawn,
        worker_ids: tuple[int, int],
        on_change: Callable[[], None],
        clock: Clock | None = None,
        sizes: ImageSizes | None = None,
    ) -> None:
        self._spawn = spawn
        self._worker_ids = worker_ids
        self._on_change = on_change
        self._clock = clock or SystemClock()
        self._sizes = sizes or ImageSizes()
        self._lock = threading.Lock()
        self._looks: dict[str, _Look] = {}
        self._wanted: deque[str] = deque()
        self._unsized: deque[str] = deque()
        self._looking = self._measuring = False
        self._stopped = False

    def complete(self, files: Sequence[Source], *, again: bool = False) -> tuple[Source, ...]:
        """Return image files with what disks are in them; forget all others.

        New and changed ones are looked into; `again`: also those that could not be sources a while ago.
        """
        with self._lock:
            before, self._looks = self._looks, {}
            for file in files:
                look = _Look(file)
                known = before.get(file.id)
                if known is not None and known.key == look.key:
                    look = known
                    if look.file != file:
                        look.file, look.shown = file, None
                elif (size := self._sizes.get(file)) is not None:
                    look.answer, look.measured = Answer(file.id, size), True
                self._looks[file.id] = look
                if (look.answer is None and known is not look) or (again and self._is_due(look)):
                    self._wanted.append(file.id)
            self._wake()
            return tuple(self._looks[file.id].show() for file in files)

    def measure(self, paths: Collection[str]) -> None:
        """Have those images read to their end that do not tell the size of their disk otherwise."""
        with self._lock:
            for path in paths:
                look = self._looks.get(path)
                if look is None or look.measured or path in self._unsized:
                    continue
                if (
                    look.answer is not None
                    and look.answer.size_bytes == SIZE_UNKNOWN
                    and not look.answer.problem
                ):
                    look.measured = True
                    self._unsized.append(path)
            if self._unsized and not (self._measuring or self._stopped):
                self._measuring = True
                threading.Thread(target=self._measure_all, name="image-sizes", daemon=True).start()

    def stop(self) -> None:
        """End; waits for nothing."""
        with self._lock:
            self._stopped = True
            self._wanted.clear()
            self._unsized.clear()

    # ---- under the lock ---------------------------------------------------------------------------

    def _is_due(self, look: _Look) -> bool:
        return (
            look.answer is not None
            and look.answer.problem != ""
            and not look.measured
            # Another helper would only hang beside it.
            and (look.stuck is None or look.stuck.poll() is not None)
            and self._clock.monotonic() - look.ended_s >= _AGAIN_S
        )

    def _wake(self) -> None:
        if self._wanted and not (self._looking or self._stopped):
            self._looking = True
            threading.Thread(target=self._look_into_all, name="images", daemon=True).start()

    def _batch(self) -> list[_Look]:
        """Take some of one directory: a file server that hangs takes away what lies there, and no more."""
        batch: dict[str, _Look] = {}
        place = PurePath(self._wanted[0]).parent if self._wanted else None
        while self._wanted and len(batch) < MOST_IMAGES and PurePath(self._wanted[0]).parent == place:
            path = self._wanted.popleft()
            if path in self._looks:
                batch[path] = self._looks[path]
        return list(batch.values())

    # ---- on threads of their own ------------------------------------------------------------------

    def _look_into_all(self) -> None:
        while True:
            with self._lock:
                batch = self._batch()
                if self._stopped or not (batch or self._wanted):
                    self._looking = False
                    return
            self._ask(batch, SILENCE_S)
            self._on_change()

    def _measure_all(self) -> None:
        while True:
            with self._lock:
                if not self._unsized or self._stopped:
                    self._measuring = False
                    return
                look = self._looks.get(self._unsized.popleft())
            if look is not None:
                log.info("%s is read to its end, to learn how large its disk is", look.file.id)
                self._ask([look], None)
                self._keep(look)
                self._on_change()

    def _keep(self, look: _Look) -> None:
        with self._lock:
            answer, known = look.answer, set(self._looks)
        # Not under the lock: the disk may take its time, and others only want to know.
        if answer is not None and not answer.problem and answer.size_bytes != SIZE_UNKNOWN:
            self._sizes.put(look.file, answer.size_bytes, known)

    def _is_over(self, looks: Sequence[_Look]) -> bool:
        """Whether nobody wants to know any more: the files are gone, or are others by now."""
        with self._lock:
            return self._stopped or not any(self._looks.get(look.file.id) is look for look in looks)

    def _ask(self, looks: Sequence[_Look], silence_s: float | None) -> None:
        """Have a helper look into images, and note what it says of each; None: read them, however long."""
        images = tuple(replace(look.image, read_all=silence_s is None) for look in looks)
        left = deque(looks)
        problem, stuck = "the helper that looks into images ended.", None
        try:
            request = to_dict(AskRequest(images, *self._worker_ids))
            said = answers(self._spawn, _PROGRAM, request, lambda: self._is_over(looks), silence_s)
            for answer in (from_dict(Answer, each) for each in said):
                if answer.path != left[0].file.id:
                    raise ValueError(f"it speaks of {answer.path}, which was not asked.")
                self._note(left.popleft(), answer)
        except NoAnswer as error:
            problem = f"no answer in {SILENCE_S:.0f} s. Look at its file server, then rescan (p2vctl rescan)."
            stuck = error.child
        except (OSError, ValueError, IndexError) as error:
            problem = f"the helper that looks into images failed: {error}"
        if not left or self._is_over(looks):
            return
        # Another helper would only hang, too; one that ended did so at the first that it said nothing of.
        silent = list(left) if stuck is not None else [left.popleft()]
        for look in silent:
            look.stuck = stuck
            self._note(look, Answer(look.file.id, problem=f"{look.file.id}: {problem}"), silent=True)
        if stuck is None:
            with self._lock:
                self._wanted.extend(look.file.id for look in left)

    def _note(self, look: _Look, answer: Answer, *, silent: bool = False) -> None:
        if answer.problem:
            log.warning("image: %s", answer.problem)
        with self._lock:
            look.ended_s = self._clock.monotonic()
            look.measured = look.measured and not (silent or answer.unread)
            if (answer, silent) != (look.answer, look.silent):
                look.answer, look.silent, look.shown = answer, silent, None
