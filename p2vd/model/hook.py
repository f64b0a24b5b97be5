"""Hooks: programs of the administrator around the steps of a job and of a machine (p2vd.toml(5), HOOKS)."""

import enum
from dataclasses import dataclass
from typing import ClassVar

from p2vd.model.errors import P2vdError


class HookStep(enum.Enum):
    """Where hooks run. The value is the name of the directory that they are in."""

    BEFORE_COPY = "before-copy"
    AFTER_PROVEN = "after-proven"
    BEFORE_REGISTER = "before-register"
    AFTER_REGISTER = "after-register"

    @property
    def is_before(self) -> bool:
        """Whether its hooks run before what they are named for."""
        return self in (HookStep.BEFORE_COPY, HookStep.BEFORE_REGISTER)


class HookFailure(enum.Enum):
    """What a hook that fails does, as a policy says. AUTO: before a step it holds, after it it warns."""

    AUTO = "auto"
    HOLD = "hold"
    WARN = "warn"

    def holds_at(self, step: HookStep) -> bool:
        """Whether nothing goes on after a failure at `step`; a registration done leaves nothing to hold."""
        if step is HookStep.AFTER_REGISTER:
            return False
        return step.is_before if self is HookFailure.AUTO else self is HookFailure.HOLD


@dataclass(eq=False)
class HookFailed(P2vdError):
    """A hook failed, or may not be run. `said` is the end of what it wrote, `then` what is to be done."""

    step: str
    program: str
    how: str
    said: str = ""
    then: str = ""
    template: ClassVar[str] = "The {step} hook {program} {how}"

    def __str__(self) -> str:
        sentence = self.template.format(step=self.step, program=self.program, how=self.how)
        told = f"{sentence}: {self.said}" if self.said else f"{sentence}."
        return f"{told} {self.then}" if self.then else told
