"""Errors of the bus itself; the others come from the engine. Names are in `names.ERRORS`."""

from dataclasses import dataclass
from typing import ClassVar

from p2vd.model.errors import P2vdError


@dataclass(eq=False)
class NotAuthorized(P2vdError):
    """Polkit says no, or does not answer."""

    action: str
    reason: str
    template: ClassVar[str] = "You may not do this (polkit action {action}): {reason}"


@dataclass(eq=False)
class OptionNotPermitted(P2vdError):
    """A method was given an option it does not know."""

    method: str
    option: str
    permitted: str
    template: ClassVar[str] = "{method} knows no option {option!r}. Permitted: {permitted}."


@dataclass(eq=False)
class PolicyInvalid(P2vdError):
    """Policy files have errors."""

    problems: tuple[str, ...]

    def __str__(self) -> str:
        return "The policies have errors, those read before stay in force: " + "; ".join(self.problems)


@dataclass(eq=False)
class Busy(P2vdError):
    """More calls are under way than the daemon takes at once."""

    calls: int
    template: ClassVar[str] = "{calls} calls are under way already. Ask again in a moment."


@dataclass(eq=False)
class Failed(P2vdError):
    """Something that has no name of its own."""

    problem: str
    template: ClassVar[str] = "{problem}"
