"""Fakes at the doors of the operating system."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from p2vd.system.command import CommandFailed, Result, log_late

Answer = str | Result | Exception | Callable[[tuple[str, ...]], "str | Result | Exception"]


@dataclass(frozen=True)
class Call:
    """One command that was asked for. `unit` is empty for a query."""

    kind: Literal["query", "change"]
    argv: tuple[str, ...]
    unit: str = ""
    properties: tuple[str, ...] = ()
    must_exit: bool = False


@dataclass
class FakeCommands:
    """Commands that answer from a script and record every call.

    `on(prefix, answer)` answers the commands whose argv begins with `prefix`; the longest prefix
    wins, among equal ones the answers follow each other and the last one stays. An answer is the
    standard output, a Result, an exception to raise, or a function of argv that returns one of
    them. A command without an answer fails the test.
    """

    calls: list[Call] = field(default_factory=list)
    running: frozenset[str] = frozenset()
    late: bool = False
    _script: dict[tuple[str, ...], list[Answer]] = field(default_factory=dict)

    def on(self, prefix: Sequence[str] | str, *answers: Answer) -> "FakeCommands":
        """Answer commands that begin with `prefix` (words, or a string split at spaces)."""
        words = tuple(prefix.split()) if isinstance(prefix, str) else tuple(prefix)
        self._script.setdefault(words, []).extend(answers or ("",))
        return self

    def replace(self, prefix: Sequence[str] | str, *answers: Answer) -> "FakeCommands":
        """Answer commands that begin with `prefix` from now on with these only."""
        self._script.pop(tuple(prefix.split()) if isinstance(prefix, str) else tuple(prefix), None)
        return self.on(prefix, *answers)

    def query(self, argv: Sequence[str], *, timeout_s: float = 30.0, ok: Sequence[int] = (0,)) -> Result:
        """Answer from the script."""
        self.calls.append(Call("query", tuple(argv)))
        return self._answer(tuple(argv), ok)

    def change(
        self,
        argv: Sequence[str],
        *,
        unit: str,
        deadline_s: float = 60.0,
        on_late: Callable[[str], None] = log_late,
        ok: Sequence[int] = (0,),
        properties: Sequence[str] = (),
        must_exit: bool = False,
    ) -> Result:
        """Answer from the script; with `late` set, past the deadline."""
        self.calls.append(Call("change", tuple(argv), unit, tuple(properties), must_exit))
        if self.late:
            on_late(unit)
        return self._answer(tuple(argv), ok)

    def running_changes(self) -> frozenset[str]:
        """Return what the test put into `running`."""
        return self.running

    @property
    def queries(self) -> list[tuple[str, ...]]:
        """The argv of every query, in order."""
        return [call.argv for call in self.calls if call.kind == "query"]

    @property
    def changes(self) -> list[tuple[str, ...]]:
        """The argv of every change, in order."""
        return [call.argv for call in self.calls if call.kind == "change"]

    def _answer(self, argv: tuple[str, ...], ok: Sequence[int]) -> Result:
        matching = [prefix for prefix in self._script if argv[: len(prefix)] == prefix]
        assert matching, f"no answer for {' '.join(argv)}"
        answers = self._script[max(matching, key=len)]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if callable(answer) and not isinstance(answer, Exception):
            answer = answer(argv)
        if isinstance(answer, Exception):
            raise answer
        result = answer if isinstance(answer, Result) else Result(argv, 0, str(answer), "")
        if result.returncode not in ok:
            raise CommandFailed(argv, result.returncode, result.stderr)
        return result


class StoppedClock:
    """A clock that stands until the test sets `now_s`; nobody sleeps by it."""

    def __init__(self, now_s: float = 1000.0) -> None:
        self.now_s = now_s

    def monotonic(self) -> float:
        """Return seconds that grow when the test says so."""
        return self.now_s

    def now_us(self) -> int:
        """Return the same in microseconds."""
        return round(self.now_s * 1e6)

    def sleep(self, seconds: float, until: threading.Event) -> bool:
        """Fail the test."""
        raise AssertionError(f"somebody sleeps for {seconds:g} s")


class SleepingClock(StoppedClock):
    """A clock that is later by what was slept, and takes no time for it."""

    def sleep(self, seconds: float, until: threading.Event) -> bool:
        """Let so much time pass at once."""
        self.now_s += seconds
        return until.is_set()
