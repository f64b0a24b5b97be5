"""Progress of jobs on a terminal as bars, elsewhere as lines."""

import contextlib
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from p2vd.cli.client import Object
from p2vd.cli.lookup import machine_name
from p2vd.cli.render import SHORT_ID, rate, state, time_left
from p2vd.model.size import format_size

if TYPE_CHECKING:
    from rich.console import RenderableType


class Screen(Protocol):
    """Where progress is shown."""

    def show(self, jobs: Sequence[Object], objects: Sequence[Object]) -> None:
        """Show `jobs` as they are now; `objects` is everything."""
        ...

    def note(self, sentence: str) -> None:
        """Say something that stays."""
        ...


class Lines:
    """A line whenever a job's stage, holds or activity change, and at each tenth of its work."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[object, ...]] = {}

    def show(self, jobs: Sequence[Object], objects: Sequence[Object]) -> None:
        """See Screen."""
        for job in jobs:
            news = (job["Stage"], state(job), job["Stalled"], int(job["Progress"] * 10))
            if self._said.get(job.path) != news:
                self._said[job.path] = news
                print(_sentence(job, objects), flush=True)

    def note(self, sentence: str) -> None:
        """See Screen."""
        print(sentence, flush=True)


class Silence:
    """Shows nothing: what is said goes out as JSON at the end."""

    def show(self, jobs: Sequence[Object], objects: Sequence[Object]) -> None:
        """See Screen."""

    def note(self, sentence: str) -> None:
        """See Screen."""


class Bars:
    """A bar a job, and below it the numbers."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        from rich.console import Group  # rich is slow to import: only where bars are drawn
        from rich.live import Live
        from rich.progress_bar import ProgressBar
        from rich.text import Text

        self._group, self._bar, self._text = Group, ProgressBar, Text
        self._live = stack.enter_context(Live(auto_refresh=False))

    def show(self, jobs: Sequence[Object], objects: Sequence[Object]) -> None:
        """See Screen."""
        parts: list[RenderableType] = []
        for job in jobs:
            parts += [
                self._text(_title(job, objects), style="bold", no_wrap=True, overflow="ellipsis"),
                self._bar(total=1.0, completed=job["Progress"]),
                self._text(_numbers(job)),
            ]
            if job["Stalled"] or job["Error"][1]:
                parts.append(self._text(job["Stalled"] or job["Error"][1], style="yellow"))
        self._live.update(self._group(*parts or [self._text("There are no jobs.")]), refresh=True)

    def note(self, sentence: str) -> None:
        """See Screen."""
        self._live.console.print(sentence)


def open_screen(stack: contextlib.ExitStack, *, quiet: bool) -> Screen:
    """Return what suits standard output; `stack` closes it."""
    if quiet:
        return Silence()
    return Bars(stack) if sys.stdout.isatty() else Lines()


def _title(job: Object, objects: Sequence[Object]) -> str:
    return f"{machine_name(job, objects)}  job {job['Uuid'][:SHORT_ID]}  {job['SourceId']} to {job['Target']}"


def _numbers(job: Object) -> str:
    done = job["BytesCopied"] + job["BytesZero"]
    parts = [f"{job['Progress']:.1%}", job["Stage"], state(job)]
    parts.append(f"{format_size(done)} of {format_size(job['Bytes'])} (zero {format_size(job['BytesZero'])})")
    if job["BytesVerified"]:
        parts.append(f"verified {format_size(job['BytesVerified'])}")
    if job["BadBytes"]:
        parts.append(f"BAD {format_size(job['BadBytes'])}")
    parts += [rate(job), f"left {time_left(job)}", f"checkpoint {_age(job['LastCheckpoint'])}"]
    return "  ".join(parts)


def _sentence(job: Object, objects: Sequence[Object]) -> str:
    extra = job["Stalled"] or job["Error"][1]
    text = f"{machine_name(job, objects)} {job['Uuid'][:SHORT_ID]}: {_numbers(job)}"
    return f"{text}  {extra}" if extra else text


def _age(time_us: int) -> str:
    if not time_us:
        return "none yet"
    return f"{max(0, round(time.time() - time_us / 1e6))} s ago"
