"""Work on a thread of its own, that is repeated while what it meets passes, and can be told to end."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import tenacity

_LONGEST_WAIT_S = 60.0


@dataclass
class Task:
    """What is done for something now, on a thread of its own. `cancel` ends its waits."""

    cancel: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    def repeat(
        self,
        step: Callable[[], None],
        passing: tuple[type[Exception], ...],
        on_wait: Callable[[BaseException | None], None],
        first_wait_s: float,
    ) -> None:
        """Repeat `step` while it fails with what is `passing`, with growing pauses, until cancelled.

        Raises what `step` raised last.
        """
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(passing),
            wait=tenacity.wait_exponential(multiplier=first_wait_s, max=_LONGEST_WAIT_S),
            stop=tenacity.stop_when_event_set(self.cancel),
            sleep=tenacity.sleep_using_event(self.cancel),
            before_sleep=lambda state: on_wait(state.outcome.exception() if state.outcome else None),
            reraise=True,
        )
        retrying(step)

    def end(self) -> None:
        """Cancel, and wait until it is over: at most for the command under way."""
        self.cancel.set()
        if self.thread is not None:
            self.thread.join()
