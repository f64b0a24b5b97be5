"""Which rule is for a source, and why the others are not. The first rule that matches wins."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from p2vd.model.disk import Source
from p2vd.model.fc import plain_wwn
from p2vd.model.size import format_size
from p2vd.policy.model import Match, PolicySet, Rule
from p2vd.policy.names import default_machine_name


@dataclass(frozen=True)
class Explanation:
    """What a rule says to a source. `failed`: each criterion that does not hold, as a sentence.

    A rule can match and yet not be `chosen`: an earlier one was.
    """

    rule: Rule
    failed: tuple[str, ...]
    chosen: bool

    @property
    def matches(self) -> bool:
        """Whether every criterion holds."""
        return not self.failed


def first_match(policies: PolicySet, source: Source, machine_name: str = "") -> Rule | None:
    """Return the rule for `source`, None where no rule is: then it is never touched.

    Without a `machine_name` the one counts that the machine would get by default.
    """
    machine = machine_name or default_machine_name(source)
    return next((rule for rule in policies.rules if not _failed(rule.match, source, machine)), None)


def explain(policies: PolicySet, source: Source, machine_name: str = "") -> tuple[Explanation, ...]:
    """Return what every rule says to `source`, in the order in which they are asked."""
    machine = machine_name or default_machine_name(source)
    chosen = first_match(policies, source, machine)
    return tuple(
        Explanation(rule, tuple(_failed(rule.match, source, machine)), rule is chosen)
        for rule in policies.rules
    )


def match_failures(match: Match, source: Source) -> tuple[str, ...]:
    """Return each criterion that does not hold for a disk that belongs to no machine."""
    return tuple(_failed(match, source, ""))


def _failed(match: Match, source: Source, machine: str) -> list[str]:
    return [
        *_transport(match, source),
        *_globs("wwid", match.wwid, [source.wwid]),
        *_globs("vendor", match.vendor, [source.vendor]),
        *_globs("model", match.model, [source.model]),
        *_globs("serial", match.serial, [source.serial]),
        *_globs("portal", match.portal, [str(path.portal) for path in source.paths if path.portal]),
        *_globs("target", match.target, [path.target_iqn for path in source.paths if path.target_iqn]),
        *_wwpns(match.wwpn, [path.target_wwpn for path in source.paths if path.target_wwpn]),
        *_globs("machine", match.machine, [machine]),
        *_size(match, source),
    ]


def _transport(match: Match, source: Source) -> Iterator[str]:
    if match.transport and source.transport not in match.transport:
        wanted = ", ".join(transport.value for transport in match.transport)
        yield f"transport is {source.transport.value}, not {wanted}"


def _globs(criterion: str, globs: Sequence[str], values: Sequence[str]) -> Iterator[str]:
    """Yield what fails. A glob also matches the very same text, so that `[::1]:3260` needs no quoting."""
    if globs and not any(value == glob or fnmatchcase(value, glob) for value in values for glob in globs):
        found = ", ".join(dict.fromkeys(value or "empty" for value in values)) or "unknown"
        yield f"{criterion} is {found}, which does not fit {' or '.join(globs)}"


def _wwpns(globs: Sequence[str], wwpns: Sequence[str]) -> Iterator[str]:
    """Yield what fails; colons and case are no difference."""
    if globs and not any(fnmatchcase(plain_wwn(wwpn), glob) for wwpn in wwpns for glob in globs):
        found = ", ".join(dict.fromkeys(wwpns)) or "unknown"
        yield f"wwpn is {found}, which does not fit {' or '.join(globs)}"


def _size(match: Match, source: Source) -> Iterator[str]:
    size = source.size_bytes
    if not size and (match.size_min_bytes or match.size_max_bytes):
        yield "its size is not known"
        return
    if size < match.size_min_bytes:
        yield f"size is {format_size(size)}, less than {format_size(match.size_min_bytes)}"
    if match.size_max_bytes and size > match.size_max_bytes:
        yield f"size is {format_size(size)}, more than {format_size(match.size_max_bytes)}"
