"""p2vctl policy: the rules in force, which one is for a disk, and whether the files are right."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from p2vd.bus.names import MANAGER, ROOT
from p2vd.cli import render
from p2vd.cli.client import Client, Exit, make_options
from p2vd.cli.layout import facts, prose
from p2vd.cli.lookup import source_id
from p2vd.cli.policy_check import check
from p2vd.cli.verbs import adder

Arguments = argparse.Namespace


def add_parsers(policy: argparse.ArgumentParser) -> None:
    """Add the commands below `policy`."""
    verb = adder(
        policy.add_subparsers(title="commands", metavar="COMMAND", required=True), json_help="print JSON"
    )
    one = verb("check", check, prints_json=True, local=True)
    one.add_argument(
        "file",
        nargs="?",
        type=Path,
        metavar="FILE",
        help="this file alone; without it all that would be read",
    )
    one.add_argument("--config", type=Path, metavar="FILE", help="p2vd's configuration, not the usual one")
    verb("show", show, prints_json=True)
    one = verb("explain", explain, prints_json=True)
    one.add_argument("source", metavar="SOURCE", help="the disk's id (its WWID), or its name of now")
    one.add_argument("--name", default="", metavar="MACHINE", help="name of the machine, for match.machine")


def show(client: Client, arguments: Arguments) -> Exit:
    """Show the rules in force, in the order in which they are asked."""
    (rules,) = client.act(ROOT, MANAGER, "GetPolicy")
    if arguments.json:
        print(render.as_json(rules))
        return Exit.OK
    print("\n\n".join(_rule(number, rule) for number, rule in enumerate(rules, 1)) or _no_rules())
    if any(setting["Default"] for rule in rules for setting in rule["Settings"]):
        print("\n* the file does not say it: the default")
    _print_errors(client)
    return Exit.OK


def explain(client: Client, arguments: Arguments) -> Exit:
    """Say which rule is for a disk, and why the others are not."""
    source = source_id(arguments.source, client.objects())
    options = make_options({"name": arguments.name} if arguments.name else {})
    (rules,) = client.call(ROOT, MANAGER, "GetPolicyMatches", "sa{sv}", source, options)
    if arguments.json:
        print(render.as_json(rules))
        return Exit.OK
    print("\n".join(_match(number, rule) for number, rule in enumerate(rules, 1)) or _no_rules())
    if rules and not any(rule["Chosen"] for rule in rules):
        print(f"\nNo rule matches {source}: it is never touched.")
    _print_errors(client)
    return Exit.OK


def _rule(number: int, rule: Mapping[str, Any]) -> str:
    settings: Sequence[Mapping[str, Any]] = rule["Settings"]
    told = [
        (
            f"{each['Section']}.{each['Key']}".removeprefix("."),
            f"{each['Text'] or '-'}{' *' if each['Default'] else ''}",
        )
        for each in settings
    ]
    return "\n".join(filter(None, (_title(number, rule), facts(told, indent=3))))


def _match(number: int, rule: Mapping[str, Any]) -> str:
    if rule["Chosen"]:
        said = ["matches, and is the first that does: this rule counts"]
    elif rule["Matches"]:
        said = ["matches too, but an earlier rule counts"]
    else:
        said = [f"no: {reason}" for reason in rule["Failed"]]
    return "\n".join([_title(number, rule), *(prose(text, first="   ", rest="     ") for text in said)])


def _title(number: int, rule: Mapping[str, Any]) -> str:
    return f"{number}. {rule['Name']}  ({rule['File']}:{rule['Line']})"


def _no_rules() -> str:
    return "No rule is in force: p2vd touches no disk. Write one: p2vd-policy(5)"


def _print_errors(client: Client) -> None:
    errors = client.properties(ROOT, MANAGER)["PolicyErrors"]
    if errors:
        print("\nThe files have errors since; the rules above were read before:")
        print("\n".join(f"! {error}" for error in errors))
