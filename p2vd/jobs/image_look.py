"""What is known of one image file, and the source that is made of it."""

from dataclasses import dataclass, replace

from p2vd.copying.asking import Answer, ImageToAsk
from p2vd.model.disk import Source
from p2vd.model.errors import Reason
from p2vd.model.forms import SIZE_UNKNOWN
from p2vd.planning.contents import UNDER_EXAMINATION_CODE, under_examination
from p2vd.policy.match import first_match
from p2vd.policy.model import PolicySet
from p2vd.system.mountinfo import Mount

UNREAD, SILENT, REFUSED, UNSIZED = UNDER_EXAMINATION_CODE, "image-silent", "image-refused", "size-unknown"


@dataclass(eq=False)
class Look:
    """An image, and what was found in it; `answer` None: nobody has looked.

    `due`: somebody is to look into it. `measured`: the answer is of a reading to its end. `mount`: the one
    that gave no answer; None where it did, or where it was the helper that failed. `hangs`: how often in a
    row a helper got none with this image.
    """

    file: Source
    answer: Answer | None = None
    silent: bool = False
    due: bool = True
    measured: bool = False
    ended_s: float = 0.0
    mount: Mount | None = None
    hangs: int = 0
    _shown: Source | None = None
    _asked: PolicySet | None = None
    _matches: bool = False

    def is_of(self, file: Source) -> bool:
        """Whether `file` is this one with these contents, and not another of its path."""
        return _key(self.file) == _key(file)

    def take(self, file: Source) -> None:
        """Go on with the same file, of which other things may have changed."""
        if self.file != file:
            self.file, self._shown, self._asked = file, None, None

    def note(self, answer: Answer, *, silent: bool, ended_s: float, mount: Mount | None = None) -> bool:
        """Take what was found; return whether it is something else than before."""
        self.due, self.ended_s, self.mount = False, ended_s, mount
        if (answer, silent) == (self.answer, self.silent):
            return False
        self.answer, self.silent, self._shown, self._asked = answer, silent, None, None
        return True

    def image(self, *, read_all: bool) -> ImageToAsk:
        """What a helper is asked."""
        return ImageToAsk(self.file.id, self.file.file_id, self.file.format, read_all)

    @property
    def is_unsized(self) -> bool:
        """Whether the size of its disk is all that is missing: reading all of it would tell."""
        answer = self.answer
        if answer is None or answer.problem or self.measured or self.file.reasons:
            return False
        return answer.size_bytes == SIZE_UNKNOWN

    def is_wanted(self, policies: PolicySet) -> bool:
        """Whether a rule is for it; asked once of each set of policies."""
        if self._asked is not policies:
            self._matches = first_match(policies, self.show()) is not None
            self._asked = policies
        return self._matches

    def show(self) -> Source:
        """The source, with its disk's size, or why it can be none; the same object while nothing changes."""
        if self._shown is None:
            self._shown = self._show()
        return self._shown

    def _show(self) -> Source:
        answer = self.answer
        if answer is None:
            reason = under_examination(self.file)
        elif answer.problem:
            reason = Reason(SILENT if self.silent else REFUSED, answer.problem)
        elif answer.size_bytes == SIZE_UNKNOWN:
            reason = Reason(UNSIZED, _unsized(self.file))
        else:
            return replace(self.file, size_bytes=answer.size_bytes)
        return replace(self.file, size_bytes=0, reasons=(*self.file.reasons, reason))


def _key(file: Source) -> tuple[str, int, int]:
    return (file.file_id, file.size_bytes, file.modified_us)


def _unsized(file: Source) -> str:
    return (
        f"Nothing in {file.id} tells how large its disk is. Once a policy matches it, p2vd reads it to its "
        f"end to learn that, one image at a time; or make one that tells: p2vd-copy --source-format "
        f"{file.format.value} --target-format raw.zst."
    )
