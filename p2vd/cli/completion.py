"""What may come next on p2vctl's command line: the shells ask `p2vctl complete -- WORD...` at each Tab.

Options and commands are those of the parser; what a metavar names (JOB, MACHINE, WWID) is what is on the bus:
a command that is added is completed without a word about it here, and never one that this version lacks.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from p2vd.bus.names import JOB, MACHINE, PORTAL, SOURCE, VOLUME_GROUP
from p2vd.cli.client import Client, CliError, Object
from p2vd.cli.lookup import identity, machine_name
from p2vd.model.size import format_size

FILES = ":files"
"""What is answered where the shell shall complete the name of a file."""

_PATIENCE_S = 1.0  # somebody waits with a finger on the key


@dataclass(frozen=True)
class Candidate:
    """A word that may come next, and what it means."""

    text: str
    meaning: str = ""


Objects = Callable[[str], Sequence[Object]]
"""All objects on the bus whose address is given ("": the system's); none where p2vd does not run."""


def complete(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Print what may come in the place of the last of `words`: a line each, a tab, what it means."""
    for candidate in candidates(parser, words, ask):
        print(f"{candidate.text}\t{' '.join(candidate.meaning.split())}".rstrip("\t"))


def ask(address: str) -> Sequence[Object]:
    """See Objects. Starts nothing, and waits for a second at most."""
    try:
        client = Client(address, patience_s=_PATIENCE_S)
        return client.objects(start=False) if client.is_running() else ()
    except CliError:
        return ()


def candidates(parser: argparse.ArgumentParser, words: Sequence[str], objects: Objects) -> list[Candidate]:
    """Return what may come in the place of the last word, which may be begun already."""
    *before, begun = words or ("",)
    place = _Place(parser)
    for word in before:
        place.pass_word(word)
    option, equals, value = begun.partition("=")
    if equals and (action := place.option(option)) is not None:
        found = _values(action, place, objects)
        return [
            Candidate(f"{option}={each.text}", each.meaning) for each in found if each.text.startswith(value)
        ]
    return [each for each in place.next(begun, objects) if each.text.startswith(begun) or each.text == FILES]


@dataclass
class _Place:
    """Where in the command line one is, after some words."""

    parser: argparse.ArgumentParser
    pending: argparse.Action | None = None  # an option that waits for its value
    used: set[str] = field(default_factory=set)
    given: int = 0  # positional words of this parser
    no_options: bool = False  # after --
    told: dict[str, str] = field(default_factory=dict)  # values of options by dest

    def pass_word(self, word: str) -> None:
        if self.pending is not None:
            self.told[self.pending.dest] = word
            self.pending = None
        elif word == "--":
            self.no_options = True
        elif word.startswith("-") and not self.no_options:
            name, equals, value = word.partition("=")
            self.used.add(name)
            action = self.option(name)
            if action is not None and equals:
                self.told[action.dest] = value
            elif action is not None and action.nargs != 0:
                self.pending = action
        else:
            self._pass_positional(word)

    def _pass_positional(self, word: str) -> None:
        action = self._positional()
        if isinstance(action, argparse._SubParsersAction):
            if word in action.choices:
                self.parser, self.given = action.choices[word], 0
            return
        self.given += 1

    def option(self, name: str) -> argparse.Action | None:
        """The option of that name here."""
        return self.parser._option_string_actions.get(name)

    def _positional(self) -> argparse.Action | None:
        """What the next positional word is; the last one is it again where it may be given many times."""
        actions = [action for action in self.parser._actions if not action.option_strings]
        if self.given < len(actions):
            return actions[self.given]
        return actions[-1] if actions and actions[-1].nargs in ("*", "+") else None

    def next(self, begun: str, objects: Objects) -> Iterator[Candidate]:
        """What may come now."""
        if self.pending is not None:
            yield from _values(self.pending, self, objects)
            return
        if begun.startswith("-") and not self.no_options:
            yield from self._options()
            return
        action = self._positional()
        if action is not None:
            yield from _values(action, self, objects)

    def _options(self) -> Iterator[Candidate]:
        for action in self.parser._actions:
            again = isinstance(action, argparse._AppendAction)
            if action.help == argparse.SUPPRESS or (self.used & set(action.option_strings) and not again):
                continue
            for name in action.option_strings:
                if name.startswith("--"):
                    yield Candidate(name, action.help or "")


def _values(action: argparse.Action, place: _Place, objects: Objects) -> Iterator[Candidate]:
    """What an option or a positional argument may be."""
    if isinstance(action, argparse._SubParsersAction):
        yield from (Candidate(each.dest, each.help or "") for each in action._choices_actions)
    elif action.choices is not None:
        yield from (Candidate(str(choice)) for choice in action.choices)
    elif action.metavar == "FILE":
        yield Candidate(FILES)
    elif "host" not in place.told:  # ssh would ask for passwords
        kinds = [kind for kind in str(action.metavar).split("|") if kind in _KINDS]
        everything = objects(place.told.get("bus", "")) if kinds else ()
        for kind in kinds:
            yield from _KINDS[kind](everything)


def _jobs(objects: Sequence[Object]) -> Iterator[Candidate]:
    for item in _of(objects, JOB):
        yield Candidate(item["Uuid"], f"{machine_name(item, objects)}, {item['Stage']}")


def _machines(objects: Sequence[Object]) -> Iterator[Candidate]:
    for item in _of(objects, MACHINE):
        yield Candidate(item["Name"], f"machine, {item['State']}")


def _sources(objects: Sequence[Object]) -> Iterator[Candidate]:
    for item in _of(objects, SOURCE):
        yield Candidate(item["Id"], f"{item['Name']}, {format_size(item['Size'])}, {item['Transport']}")


def _volume_groups(objects: Sequence[Object]) -> Iterator[Candidate]:
    for item in _of(objects, VOLUME_GROUP):
        yield Candidate(item["Name"], f"volume group, {format_size(item['Free'])} free")


def _portals(objects: Sequence[Object]) -> Iterator[Candidate]:
    for item in _of(objects, PORTAL):
        yield Candidate(identity(item), item["State"])


def _of(objects: Sequence[Object], interface: str) -> Iterator[Object]:
    return (item for item in objects if item.interface == interface)


# What the metavars of the parser name.
_KINDS: Mapping[str, Callable[[Sequence[Object]], Iterator[Candidate]]] = {
    "JOB": _jobs,
    "MACHINE": _machines,
    "SOURCE": _sources,
    "WWID": _sources,
    "VG": _volume_groups,
    "PORTAL": _portals,
}
