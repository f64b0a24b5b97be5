"""What disk is in each image file that is no raw one: looked into in the background, never by a scan.

By disposable helpers: what strangers wrote is read without privileges, and a file server that hangs keeps
nobody waiting but its own images, for which there is no other helper until the first has its answer. The
size of a disk that nothing in its image tells is learned by reading all of it, of one image at a time, and
only as long as a policy matches it.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from p2vd.copying.asking import MOST_IMAGES, Answer, AskRequest
from p2vd.jobs.disposable import NoAnswer, answers
from p2vd.jobs.image_look import Look
from p2vd.jobs.image_sizes import ImageSizes
from p2vd.model.codec import from_dict, to_dict
from p2vd.model.disk import Source
from p2vd.model.forms import SIZE_UNKNOWN
from p2vd.policy.model import PolicySet
from p2vd.system import mountinfo
from p2vd.system.clock import Clock, SystemClock
from p2vd.system.mountinfo import Mount
from p2vd.system.process import ChildProcess, Spawn
from p2vd.system.threads import NoThread, start

log = logging.getLogger(__name__)

SILENCE_S = 90.0
"""A look that takes longer gets no answer, and a reading that reads nothing for so long: QEMU's own deadline
is a minute."""

_AGAIN_S = 60.0
_RETURN_POLL_S = 5.0
_PROGRAM = "p2vd.copying.asker"


@dataclass(frozen=True)
class _Work:
    """Images of one mount for one helper; none: there is only news to be told."""

    looks: Sequence[Look] = ()
    mount: Mount = field(default_factory=lambda: Mount("/"))
    read_all: bool = False


@dataclass
class _Hanging:
    """A mount that gave helpers no answer, since when, and the images that are silent for it."""

    mount: Mount
    since_s: float
    helpers: list[ChildProcess]
    paths: set[str] = field(default_factory=set)


class ImageLooks:
    """Thread-safe. Nothing runs before the first image is shown.

    `on_change` is called on a thread of its own when more is known of some of them; `sizes` keeps what cost a
    whole reading; `policies` tells those in force, `mounts` the host's, as `mountinfo.read` does.
    """

    def __init__(
        self,
        spawn: Spawn,
        worker_ids: tuple[int, int],
        on_change: Callable[[], None],
        clock: Clock | None = None,
        sizes: ImageSizes | None = None,
        policies: Callable[[], PolicySet] = PolicySet,
        mounts: Callable[[], str] = mountinfo.read,
    ) -> None:
        self._spawn = spawn
        self._worker_ids = worker_ids
        self._on_change = on_change
        self._clock = clock or SystemClock()
        self._sizes = sizes or ImageSizes()
        self._policies = policies
        self._read_mounts = mounts
        self._changed = threading.Condition()
        self._looks: dict[str, Look] = {}
        self._hanging: dict[Mount, _Hanging] = {}
        self._running: set[str] = set()
        self._stopped = False
        self._back: set[str] = set()

    def complete(self, files: Sequence[Source], *, again: bool = False) -> tuple[Source, ...]:
        """Return image files with what disks are in them; forget all others.

        New and changed ones are looked into; `again`: the host was scanned, and those that could not be
        sources a while ago are looked into, too.
        """
        with self._changed:
            before, self._looks = self._looks, {}
            for file in files:
                known = before.get(file.id)
                if known is not None and known.is_of(file):
                    known.take(file)
                    known.due = known.due or (again and self._may_be_mended(known))
                    self._looks[file.id] = known
                else:
                    self._looks[file.id] = self._new(file)
            self._wake()
            return tuple(self._looks[file.id].show() for file in files)

    @property
    def back(self) -> frozenset[str]:
        """Images whose mount was silent and has answered since, of which no scan has told since."""
        with self._changed:
            return frozenset(self._back)

    def scanned(self, back: Collection[str]) -> None:
        """A scan is over that began when these were `back`: if it did not see them, they are gone."""
        with self._changed:
            self._back.difference_update(back)

    @property
    def lost_sight(self) -> bool:
        """Whether images that are back have gone out of sight: a scan would tell of them."""
        with self._changed:
            return not self._back <= self._looks.keys()

    def reconfigured(self) -> None:
        """Take the policies that are in force now: what none matches any more is read no further."""
        with self._changed:
            self._wake()

    def stop(self) -> None:
        """End; waits for nothing."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    # ---- under the lock ---------------------------------------------------------------------------

    def _new(self, file: Source) -> Look:
        size = self._sizes.get(file)
        return Look(file) if size is None else Look(file, Answer(file.id, size), due=False, measured=True)

    def _may_be_mended(self, look: Look) -> bool:
        return (
            look.answer is not None
            and look.answer.problem != ""
            and not look.measured
            and look.mount not in self._hanging
            and self._clock.monotonic() - look.ended_s >= _AGAIN_S
        )

    def _wanted(self, *, read_all: bool) -> Iterator[Look]:
        """Yield those to be looked into, or to be read to their end."""
        policies = self._policies()
        for look in self._looks.values():
            if look.is_unsized and look.is_wanted(policies) if read_all else look.due:
                yield look

    def _wake(self) -> None:
        self._changed.notify_all()
        for name, read_all in (("images", False), ("image-sizes", True)):
            if name in self._running or self._stopped:
                continue
            if any(self._wanted(read_all=read_all)) or (self._hanging and not read_all):
                self._running.add(name)
                try:
                    start(partial(self._run, name, read_all), name)
                except NoThread as error:  # the next change or scan tries again
                    self._running.discard(name)
                    log.warning("images cannot be looked into now: %s", error)

    def _work(self, wanted: Sequence[Look], mounts: str, *, read_all: bool) -> _Work:
        """Take some of one mount, for if it hangs all of them are silent; those whose mount does are now."""
        taken: list[Look] = []
        mount = Mount("/")
        most = 1 if read_all else MOST_IMAGES
        places: dict[str, Mount] = {}
        for look in wanted:
            directory = look.file.id.rpartition("/")[0]
            if (place := places.get(directory)) is None:
                place = places[directory] = next(
                    iter(mountinfo.above(look.file.id, mounts)), Mount(directory)
                )
            if (hanging := self._hanging.get(place)) is not None:
                self._silence(look, hanging)
            elif not taken or (place == mount and not look.hangs):
                taken, mount = [*taken, look], place
                if len(taken) == most or look.hangs:  # one that has hung may do so again
                    break
        return _Work(taken, mount, read_all)

    def _silence(self, look: Look, hanging: _Hanging) -> None:
        problem = (
            f"{look.file.id}: no answer in {SILENCE_S:.0f} s from {hanging.mount}. Look at its file server "
            "or its disk. Once it answers, p2vd looks into this image by itself."
        )
        hanging.paths.add(look.file.id)
        answer = Answer(look.file.id, problem=problem)
        look.note(answer, silent=True, ended_s=self._clock.monotonic(), mount=hanging.mount)

    def _hear_mounts(self, mounts: str) -> bool:
        """Have those looked into whose mount gave its answer, or is another by now; whether there are any."""
        now_s, back = self._clock.monotonic(), False
        for mount, hanging in list(self._hanging.items()):
            if now_s - hanging.since_s < _AGAIN_S:
                continue
            # One that was put in the place of a mount that hangs for ever (umount -l) is no reason to wait.
            is_there = not mounts or mount in mountinfo.above(mount.point, mounts)
            if is_there and any(child.poll() is None for child in hanging.helpers):
                continue
            log.warning("image: %s is looked at again", mount)
            del self._hanging[mount]
            back = True
            self._back |= hanging.paths
            for look in self._looks.values():
                look.due |= look.mount == mount
        return back

    # ---- on threads of their own ------------------------------------------------------------------

    def _run(self, name: str, read_all: bool) -> None:
        try:
            while (work := self._next(name, read_all)) is not None:
                if work.looks:
                    self._ask(work)
                self._on_change()
                with self._changed:
                    self._wake()
        except Exception:  # a defect of ours; the next change or scan begins anew
            log.exception("images: the thread %s ends", name)
            with self._changed:
                self._running.discard(name)

    def _next(self, name: str, read_all: bool) -> _Work | None:
        """Wait until there is work, or news; None: there will be none, and the thread is to end."""
        while True:
            mounts = self._mounts()
            with self._changed:
                back = not read_all and self._hear_mounts(mounts)
                # First what did not hang before: one file shall keep none of its mount waiting.
                wanted = sorted(self._wanted(read_all=read_all), key=lambda look: look.hangs)
                if not self._stopped and (wanted or back):
                    return self._work(wanted, mounts, read_all=read_all)
                if self._stopped or read_all or not self._hanging:
                    self._running.discard(name)
                    return None
                self._changed.wait(_RETURN_POLL_S)

    def _mounts(self) -> str:
        try:
            return self._read_mounts()
        except OSError as error:
            log.warning("images: the host's mounts cannot be read (%s): each directory counts as one", error)
            return ""

    def _is_over(self, work: _Work) -> bool:
        """Whether nobody wants to know: the files are gone or others by now, or no policy matches."""
        with self._changed:
            looks = [look for look in work.looks if self._looks.get(look.file.id) is look]
            wanted = not work.read_all or any(look.is_wanted(self._policies()) for look in looks)
            return self._stopped or not looks or not wanted

    def _ask(self, work: _Work) -> None:
        """Have a helper look into images, or read one to its end, and note what it says of each."""
        left = deque(work.looks)
        if work.read_all:
            log.info("%s is read to its end, to learn how large its disk is", left[0].file.id)
        images = tuple(look.image(read_all=work.read_all) for look in left)
        problem = "the helper that looks into images ended."
        try:
            request = to_dict(AskRequest(images, *self._worker_ids))
            said = answers(self._spawn, _PROGRAM, request, lambda: self._is_over(work), SILENCE_S)
            for answer in (from_dict(Answer, each) for each in said):
                if not left or answer.path != left[0].file.id:
                    raise ValueError(f"it speaks of {answer.path}, which was not asked.")
                self._note(left.popleft(), answer, read_all=work.read_all)
        except NoAnswer as error:
            self._hang(work.mount, left, error.child)
            return
        except Exception as error:  # of the helper, or a defect of ours: the others want to be looked into
            if not isinstance(error, OSError | ValueError):
                log.exception("images: %s", left[0].file.id if left else work.mount)
            problem = f"the helper that looks into images failed: {error}"
        if left and not self._is_over(work):
            # It ended at the first that it said nothing of; the others are still due.
            first = left.popleft()
            answer = Answer(first.file.id, problem=f"{first.file.id}: {problem}")
            self._note(first, answer, silent=True)

    def _hang(self, mount: Mount, looks: Sequence[Look], child: ChildProcess) -> None:
        with self._changed:
            now_s = self._clock.monotonic()
            hanging = self._hanging.setdefault(mount, _Hanging(mount, now_s, []))
            hanging.helpers.append(child)
            for look in looks:
                look.hangs += 1
                self._silence(look, hanging)
        log.warning("image: no answer in %.0f s from %s", SILENCE_S, mount)

    def _note(self, look: Look, answer: Answer, *, read_all: bool = False, silent: bool = False) -> None:
        with self._changed:
            look.hangs = 0
            look.measured = read_all and not (silent or answer.unread)
            changed = look.note(answer, silent=silent, ended_s=self._clock.monotonic())
            known = self._looks  # another by the next scan, and never changed
        if changed and answer.problem:
            log.warning("image: %s", answer.problem)
        # Not under the lock: the disk may take its time, and others only want to know.
        if look.measured and not answer.problem and answer.size_bytes != SIZE_UNKNOWN:
            self._sizes.put(look.file, answer.size_bytes, known)
