"""Policy rules as they are shown to people, and what each says to one disk."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """One key of a rule in words. `section` is its table (`target`), empty for the rule's own keys.

    `is_default`: the file does not say it.
    """

    section: str
    key: str
    text: str
    is_default: bool


@dataclass(frozen=True)
class RuleView:
    """A rule in force, and where it is written."""

    name: str
    path: str
    line: int
    settings: tuple[Setting, ...]


@dataclass(frozen=True)
class RuleMatch:
    """What a rule says to one disk. `failed`: each criterion that does not hold, as a sentence.

    `chosen`: it is the first that matches, and so the one that counts.
    """

    name: str
    path: str
    line: int
    failed: tuple[str, ...]
    chosen: bool
