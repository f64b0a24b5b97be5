"""How a command comes into the parser of p2vctl: its help is its docstring, and it prints JSON or not."""

import argparse
from collections.abc import Callable
from typing import Protocol

from p2vd.cli.client import Client, Exit

Command = Callable[[Client, argparse.Namespace], Exit]
"""A command of p2vctl: returns the exit status, raises CliError."""

LocalCommand = Callable[[argparse.Namespace], Exit]
"""One that needs no daemon, and so no bus either."""


class AddVerb(Protocol):
    """Adds a command to a parser."""

    def __call__(
        self, name: str, command: Command | LocalCommand, *, prints_json: bool = False, local: bool = False
    ) -> argparse.ArgumentParser:
        """Return the command's own parser. `local`: it is a LocalCommand."""
        ...


def adder(
    parsers: "argparse._SubParsersAction[argparse.ArgumentParser]",
    json_help: str = "print JSON, sizes in bytes",
) -> AddVerb:
    """Return what adds a command to `parsers`."""

    def verb(
        name: str, command: Command | LocalCommand, *, prints_json: bool = False, local: bool = False
    ) -> argparse.ArgumentParser:
        text = (command.__doc__ or "").strip()
        one = parsers.add_parser(name, help=text, description=text)
        one.set_defaults(json=False, **{"local" if local else "command": command})
        if prints_json:
            one.add_argument("--json", action="store_true", help=json_help)
        return one

    return verb
