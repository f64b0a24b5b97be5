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

log = logging.getLogger(__name__)


class PolicyKeeper:
    """Reads policy files on request; with an error in any the old policies stay in force. Thread-safe."""

    def __init__(self, read: Callable[[], Sequence[PolicyText]]) -> None:
        """`read` returns the texts in the order in which their rules apply; it may raise OSError."""
        self._read = read
        self._lock = threading.Lock()
        self._current = PolicySet()
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
                self._errors = tuple(str(error) for error in fresh.errors)
            except OSError as error:
                self._errors = (f"{error.filename}: {error.strerror}",)
            if self._errors:
                for line in self._errors:
                    log.error("policy: %s", line)
                log.error("policy: the policies of before stay in force (%d rules)", len(self._current.rules))
            else:
                self._current = fresh
                count = (len(fresh.rules), len(fresh.exports))
                log.info("policy: %d rules in force, %d NBD exports named", *count)
            return self._errors
