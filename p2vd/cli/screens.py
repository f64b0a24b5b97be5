"""Progress of jobs on a terminal as bars, elsewhere as lines."""

import contextlib
import sys
import time
from collections.abc import Sequence
from typing import Protocol

from p2vd.cli.client import Object
from p2vd.cli.lookup import machine_name
from p2vd.cli.render import SHORT_ID, rate, state, time_left
from p2vd.model.size import format_size


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
            # Not its place in the queue: with every job that ends it is another one for all behind.
            news = (job["Stage"], job["Holds"], job["Activity"], _why(job), int(job["Progress"] * 10))
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
        from rich.live import Live  # rich is slow to import: only where bars are drawn
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        self._grid, self._bar, self._text = Table.grid, ProgressBar, Text
        self._live = stack.enter_context(Live(auto_refresh=False))

    def show(self, jobs: Sequence[Object], objects: Sequence[Object]) -> None:
        """See Screen."""
        grid = self._grid(expand=True)
        for job in jobs:
            title = self._text(_title(job, objects), style="bold", no_wrap=True, overflow="ellipsis")
            grid.add_row(title)
            # Colours of the terminal's own 16 alone: they are readable on whatever background it has.
            bar = self._bar(
                total=1.0,
                completed=job["Progress"],
                style="bright_black",
                complete_style="cyan",
                finished_style="green",
            )
            grid.add_row(bar)
            grid.add_row(self._text(_pace(job)))
            grid.add_row(self._text(_amounts(job)))
            if why := _why(job):
                grid.add_row(self._text(why, style="magenta"))
        self._live.update(grid if jobs else self._text("There are no jobs."), refresh=True)

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


def _pace(job: Object) -> str:
    parts = (f"{job['Progress']:.1%}", job["Stage"], state(job), rate(job), f"left {time_left(job)}")
    return "  ".join(parts)


def _amounts(job: Object) -> str:
    done = job["BytesCopied"] + job["BytesZero"]
    parts = [f"{format_size(done)} of {format_size(job['Bytes'])}, zero {format_size(job['BytesZero'])}"]
    if job["BytesVerified"]:
        parts.append(f"verified {format_size(job['BytesVerified'])}")
    if job["BadBytes"]:
        parts.append(f"BAD {format_size(job['BadBytes'])}")
    return "  ".join([*parts, f"checkpoint {_age(job['LastCheckpoint'])}"])


def _sentence(job: Object, objects: Sequence[Object]) -> str:
    name = f"{machine_name(job, objects)} {job['Uuid'][:SHORT_ID]}:"
    return "  ".join(filter(None, (name, _pace(job), _amounts(job), _why(job))))


def _why(job: Object) -> str:
    """Where a job is stalled, why it failed or what it waits for; "" where all is well."""
    return str(job["Stalled"] or job["Error"][1] or job["Waiting"])


def _age(time_us: int) -> str:
    if not time_us:
        return "none yet"
    return f"{max(0, round(time.time() - time_us / 1e6))} s ago"
