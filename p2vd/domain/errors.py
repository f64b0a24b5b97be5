"""Why a virtual machine cannot be defined as asked."""

from dataclasses import dataclass
from typing import ClassVar

from p2vd.model.errors import P2vdError


@dataclass(eq=False)
class DomainImpossible(P2vdError):
    """The hypervisor has no such virtual machine. `key` is that of the policy's `[rule.domain]` to change."""

    machine: str
    key: str
    problem: str
    template: ClassVar[str] = "The virtual machine {machine} cannot be as asked (domain.{key}): {problem}"
