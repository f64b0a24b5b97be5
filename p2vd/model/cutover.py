"""What is said when a machine is registered, and what comes of it."""

from dataclasses import dataclass

from p2vd.model.domain import DomainChoice
from p2vd.model.plan import DomainOptions


@dataclass(frozen=True)
class CutoverRequest:
    """How a machine that is ready is to be registered.

    `start`: its domain is started, too; None: as its policy says. `policy`: it shall look as the policy in
    force now says, not as its plan does. `convert` False: its guest is not converted; True: as its plan (or,
    with `policy`, the policy) says; None: as it was said last.
    """

    start: bool | None = None
    convert: bool | None = None
    policy: bool = False

    @property
    def chooses(self) -> bool:
        """Whether it says how the machine shall look."""
        return self.policy or self.convert is not None


@dataclass(frozen=True)
class CutoverChoice:
    """The virtual machine that a request comes to.

    `policy`: the rule that says how it looks, by name; "" where the plan does or, `kept`, an earlier cutover.
    `start`: p2vd would start it.
    """

    options: DomainOptions
    policy: str
    kept: bool
    memory_bytes: int
    vcpus: int
    choices: tuple[DomainChoice, ...]
    warnings: tuple[str, ...]
    start: bool
