"""What looks at every kind of source: a helper that stays for disks, and one for each look at other forms."""

import threading
from collections.abc import Callable

from p2vd.discovery.examining import ExamineReply, ExamineRequest
from p2vd.jobs.disk_helper import Helper
from p2vd.jobs.examiner_helper import ExaminerHelper

_PROGRAM = "p2vd.jobs.form_examiner"


class FormHelper:
    """Used by one thread, but for `kill`. Nothing is started before the first request.

    `worker_ids`: as whom what strangers wrote is read. A helper that has read an export or an image has no
    privileges any more, and so is of no use for the next one.
    """

    def __init__(self, worker_ids: tuple[int, int], start: Callable[..., Helper] = ExaminerHelper) -> None:
        self._user = f"{worker_ids[0]}:{worker_ids[1]}"
        self._start = start
        self._lock = threading.Lock()
        self._killed = False
        self._helpers: dict[bool, Helper] = {}  # one for disks (True), one for another form (False)

    def examine(self, request: ExamineRequest, keep_waiting: Callable[[float], bool]) -> ExamineReply:
        """Return what is on a disk. Raises as ExaminerHelper, and EOFError where none can be started."""
        if request.is_plain:
            return (self._helpers.get(True) or self._started(plain=True)).examine(request, keep_waiting)
        helper = self._started(plain=False)
        reply = helper.examine(request, keep_waiting)
        helper.close()
        return reply

    @property
    def alive(self) -> bool:
        """Whether one of them is there still."""
        return any(helper.alive for helper in self._all())

    def close(self) -> None:
        """Let them end."""
        for helper in self._all():
            helper.close()

    def kill(self) -> None:
        """End them now, as far as the kernel lets them; what is started later ends at once."""
        with self._lock:
            self._killed = True
        for helper in self._all():
            helper.kill()

    def _all(self) -> list[Helper]:
        with self._lock:
            return list(self._helpers.values())

    def _started(self, *, plain: bool) -> Helper:
        words = () if plain else (_PROGRAM, "--user", self._user)
        try:
            helper = self._start(*words)  # without the lock: whoever kills does not wait for that
        except OSError as error:
            raise EOFError(f"The helper cannot be started: {error}.") from None
        with self._lock:
            self._helpers[plain] = helper
            killed = self._killed
        if killed:
            helper.kill()
        return helper
