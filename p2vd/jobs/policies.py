"""The policies in force: the last ones that were read without an error."""

import logging
import threading
from collections.abc import Callable, Sequence

from p2vd.model.disk import Source
from p2vd.model.rule import RuleMatch, RuleView
from p2vd.policy.describe import describe
from p2vd.policy.match import explain
from p2vd.policy.model import PolicySet, PolicyText
from p2vd.policy.parse import load
from p2vd.policy.toml import FileError

log = logging.getLogger(__name__)


class PolicyKeeper:
    """Reads policy files on request; with an error in any the old policies stay in force. Thread-safe.

    Where there are none of before, as at a start, no rule is in force, and `current` says by its errors that
    it is not known what the rules are: jobs and waves then wait.
    """

    def __init__(self, read: Callable[[], Sequence[PolicyText]]) -> None:
        """`read` returns the texts in the order in which their rules apply; it may raise OSError."""
        self._read = read
        self._lock = threading.Lock()
        self._current = PolicySet()
        self._are_known = False
        self._errors: tuple[str, ...] = ()

    def current(self) -> PolicySet:
        """The policies in force."""
        return self._current

    def errors(self) -> tuple[str, ...]:
        """What is wrong with the files as they were read last."""
        return self._errors

    def rules(self) -> tuple[RuleView, ...]:
        """The rules in force in words, in the order in which they are asked."""
        return tuple(describe(rule) for rule in self._current.rules)

    def explain(self, source: Source, machine_name: str = "") -> tuple[RuleMatch, ...]:
        """What every rule in force says to `source`, in their order."""
        return tuple(
            RuleMatch(said.rule.name, said.rule.path, said.rule.line, said.failed, said.chosen)
            for said in explain(self._current, source, machine_name)
        )

    def reload(self) -> tuple[str, ...]:
        """Read the files; return their errors, each with file, line and key."""
        with self._lock:
            try:
                fresh = load(self._read())
            except OSError as error:
                unread = FileError(str(error.filename), 0, "", error.strerror or str(error))
                fresh = PolicySet(errors=(unread,))
            self._errors = tuple(str(error) for error in fresh.errors)
            if not fresh.errors or not self._are_known:
                self._current = fresh
                self._are_known = not fresh.errors
            if self._errors:
                for line in self._errors:
                    log.error("policy: %s", line)
                log.error("policy: %s", self._what_stays())
            else:
                count = (len(fresh.rules), len(fresh.exports))
                log.info("policy: %d rules in force, %d NBD exports named", *count)
            return self._errors

    def _what_stays(self) -> str:
        if self._are_known:
            return f"the policies of before stay in force ({len(self._current.rules)} rules)"
        return "there are none of before: no rule is in force, and what has not begun waits"
