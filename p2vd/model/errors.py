"""Errors: one root, typed fields, one sentence an administrator can act on.

A subclass is a dataclass whose `template` is filled from its fields. Its class name is the last
part of the D-Bus error name (`org.p2vd1.Error.NAME`), so names are part of the interface.
"""

from dataclasses import dataclass, fields
from typing import ClassVar


@dataclass(frozen=True)
class Reason:
    """Why something may not be done: a stable `code` for tools, `text` with the remedy for people."""

    code: str
    text: str


@dataclass(eq=False)
class P2vdError(Exception):
    """Root of all errors that p2vd raises on purpose."""

    template: ClassVar[str] = "unknown error"

    def __str__(self) -> str:
        return self.template.format(**{f.name: getattr(self, f.name) for f in fields(self)})

    @property
    def name(self) -> str:
        """The error's name, as it goes over D-Bus and into a job."""
        return type(self).__name__


@dataclass(eq=False)
class InvalidArgument(P2vdError):
    """A caller's argument is wrong."""

    place: str
    problem: str
    template: ClassVar[str] = "{place}: {problem}"


@dataclass(eq=False)
class NotFound(P2vdError):
    """There is no such source, job, plan or machine."""

    what: str
    id: str
    template: ClassVar[str] = "There is no {what} {id!r}."


@dataclass(eq=False)
class OutputUnclear(P2vdError):
    """A command or a file of the kernel says something that this version does not understand."""

    what: str
    said: str
    template: ClassVar[str] = "{what} says {said!r}, which p2vd does not understand: nothing follows from it."


@dataclass(eq=False)
class Refused(P2vdError):
    """A disk may not be copied as asked; nothing was written. All reasons, not the first."""

    subject: str
    reasons: tuple[Reason, ...]

    def __str__(self) -> str:
        return f"{self.subject} is refused: " + " ".join(r.text for r in self.reasons)


@dataclass(eq=False)
class StillLooking(P2vdError):
    """An answer takes longer than a call may; it is being worked on."""

    what: str
    template: ClassVar[str] = "p2vd still looks at {what}. Ask again in a moment."


@dataclass(eq=False)
class IllegalTransition(P2vdError):
    """The job or machine is not in a state in which this can happen; nothing changed."""

    subject: str
    state: str
    event: str
    template: ClassVar[str] = "{subject} is {state}: {event} is not possible now."


@dataclass(eq=False)
class PlanOutdated(P2vdError):
    """What the plan was made from has changed."""

    plan_id: str
    difference: str
    template: ClassVar[str] = "Plan {plan_id} no longer holds: {difference} Make a new plan."


@dataclass(eq=False)
class IdentityChanged(P2vdError):
    """A device is not the one this job is bound to; nothing was written."""

    device: str
    field: str
    expected: str
    found: str
    template: ClassVar[str] = (
        "{device} is not the device of this job: {field} is {found}, expected {expected}. "
        "Nothing was written. Check the LUN mapping on the array, then retry the job."
    )


@dataclass(eq=False)
class DeviceInUse(P2vdError):
    """Somebody else holds the device."""

    device: str
    holder: str
    template: ClassVar[str] = "{device} is in use by {holder}. End that use, then retry the job."


@dataclass(eq=False)
class DeviceAbsent(P2vdError):
    """The device of a job is not there now."""

    device: str
    what: str
    template: ClassVar[str] = "{what} {device} is not attached. The job goes on when it is back."
