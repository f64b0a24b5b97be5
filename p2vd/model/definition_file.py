"""A virtual machine's definition as files, for a hypervisor that p2vd does not talk to."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class DefinitionFile:
    """One file; its first lines have `MARK` and the machine's UUID, by which it is known again.

    `runs`: it is a script.
    """

    MARK: ClassVar[str] = "Written by p2vd for the machine"

    name: str
    text: str
    runs: bool = False
