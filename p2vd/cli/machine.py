"""p2vctl machine: the records of physical machines, from the machine itself to p2vd."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dbus

from p2vd.bus.names import MANAGER, PASSPORT, ROOT, SOURCE
from p2vd.cli import render
from p2vd.cli.client import Client, CliError, Exit, Object, make_options, repeated
from p2vd.cli.lookup import find, source_id
from p2vd.cli.passports import passport, passport_differences, passports
from p2vd.cli.verbs import adder
from p2vd.discovery.passport.collect import add_arguments
from p2vd.discovery.passport.collect import collect as collect_here
from p2vd.model.codec import to_dict
from p2vd.model.errors import P2vdError
from p2vd.model.passport import Passport
from p2vd.model.passport_diff import differences
from p2vd.model.passport_record import MAX_BYTES, parse_passport, passport_toml

Arguments = argparse.Namespace

_UNIX_FD: Callable[[int], Any] = dbus.types.UnixFd
_FILES = (".json", ".toml")
_NAME_OR_FILE = "a machine's name, or a file: what has a / in it or ends in .json or .toml"


def add_parsers(machine: argparse.ArgumentParser) -> None:
    """Add the commands below `machine`."""
    verb = adder(machine.add_subparsers(title="commands", metavar="COMMAND", required=True))
    one = verb("collect", collect)
    one.set_defaults(verbatim=True)
    add_arguments(one)
    one = verb("import", take_in)
    one.add_argument("file", metavar="FILE", help="JSON or TOML, see p2vd-machine(5); - for standard input")
    one.add_argument("--name", default="", metavar="NAME", help="call the machine so, not as the record does")
    one.add_argument("--replace", action="store_true", help="in place of another record of that name")
    verb("list", listing, prints_json=True)
    verb("show", show, prints_json=True).add_argument("machine", metavar="NAME|FILE", help=_NAME_OR_FILE)
    one = verb("diff", diff, prints_json=True)
    one.add_argument("before", metavar="NAME|FILE", help=_NAME_OR_FILE)
    one.add_argument("after", metavar="NAME|FILE")
    one = verb("guess", guess, prints_json=True)
    one.set_defaults(verbatim=True)  # TOML, to be completed
    one.add_argument("sources", nargs="+", metavar="SOURCE", help="its disks, in the machine's order")
    one.add_argument("--name", default="", metavar="NAME", help="the machine's name")
    verb("remove", remove).add_argument("machines", nargs="+", metavar="NAME")


def collect(_: Client, arguments: Arguments) -> Exit:
    """Write down what this machine is, as JSON; to be run on the physical machine, as root."""
    return Exit(collect_here(arguments.output, arguments.name, arguments.root))


def take_in(client: Client, arguments: Arguments) -> Exit:
    """Give p2vd the record of a machine."""
    options: dict[str, object] = {}
    if arguments.name:
        options["name"] = arguments.name
    if arguments.replace:
        options["replace"] = True
    fd = _memory_file(_read(arguments.file))
    try:
        (path,) = client.call(ROOT, MANAGER, "ImportMachine", "ha{sv}", _UNIX_FD(fd), make_options(options))
    finally:
        os.close(fd)
    objects = client.objects()
    item = next((item for item in objects if item.path == path), None)
    if item is None:
        raise CliError("The record was removed meanwhile.")
    print(f"{item['Name']} is known: {_seen(item, objects)}. See: p2vctl machine show {item['Name']}")
    return Exit.OK


def listing(client: Client, arguments: Arguments) -> Exit:
    """List the machines whose records p2vd has."""
    objects = client.objects()
    found = [item for item in objects if item.interface == PASSPORT]
    if arguments.json:
        print(render.as_json(render.as_dicts(found)))
    elif found:
        print(passports(found, _wwids(objects)))
    else:
        print("There are no records of machines. On the machine: p2vctl machine collect --output FILE")
    return Exit.OK


def show(client: Client, arguments: Arguments) -> Exit:
    """Show the record of a machine; as JSON it can be imported."""
    record, seen = _record(client, arguments.machine), set[str]()
    if arguments.json:
        print(render.as_json(to_dict(record)))
        return Exit.OK
    if not _is_file(arguments.machine):
        seen = _wwids(client.objects())
    print(passport(record, seen))
    return Exit.OK


def diff(client: Client, arguments: Arguments) -> Exit:
    """Say what differs between two records; the exit status is 6 where something does."""
    before, after = _record(client, arguments.before), _record(client, arguments.after)
    found = differences(before, after)
    if arguments.json:
        print(render.as_json([to_dict(one) for one in found]))
    elif found:
        print(passport_differences(arguments.before, arguments.after, found))
    else:
        print("They are the same.")
    return Exit.FINDINGS if found else Exit.OK


def guess(client: Client, arguments: Arguments) -> Exit:
    """Print the record of a machine as far as its disks tell, to be completed and imported."""
    objects = client.objects()
    ids = [source_id(text, objects) for text in arguments.sources]
    options = {"name": arguments.name} if arguments.name else {}
    record, notes = repeated(
        lambda: client.call(ROOT, MANAGER, "GuessMachine", "asa{sv}", ids, make_options(options)),
        lambda error: error.name == "StillLooking",
    )
    guessed = _parse("The guess", record)
    if arguments.json:
        print(render.as_json(to_dict(guessed)))
        for note in notes:
            print(f"p2vctl: {note}", file=sys.stderr)
    else:
        print(passport_toml(guessed, notes), end="")
    return Exit.OK


def remove(client: Client, arguments: Arguments) -> Exit:
    """Forget the records of machines; machines made by them stay as they are."""
    objects = client.objects()
    for item in [find(text, objects, (PASSPORT,)) for text in arguments.machines]:
        client.act(item.path, PASSPORT, "Remove")
        print(f"The record of {item['Name']} is removed.")
    return Exit.OK


def _record(client: Client, text: str) -> Passport:
    """Return the record that somebody named. Raises CliError."""
    if _is_file(text):
        return _parse(text, _read(text))
    item = find(text, client.objects(), (PASSPORT,))
    return _parse(text, client.act(item.path, PASSPORT, "GetRecord")[0])


def _parse(what: str, record: str | bytes) -> Passport:
    try:
        return parse_passport(record)
    except P2vdError as error:
        raise CliError(f"{what}: {error}") from error


def _is_file(text: str) -> bool:
    return "/" in text or text.endswith(_FILES)


def _read(path: str) -> bytes:
    try:
        if path == "-":
            return sys.stdin.buffer.read(MAX_BYTES + 1)
        with Path(path).open("rb") as file:
            return file.read(MAX_BYTES + 1)  # what is longer is refused by whoever reads it
    except OSError as error:
        raise CliError(f"{path} cannot be read: {error.strerror}.", Exit.USAGE) from error


def _memory_file(record: bytes) -> int:
    fd = os.memfd_create("record")
    os.write(fd, record)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _wwids(objects: tuple[Object, ...]) -> set[str]:
    """Return the WWIDs of all disks that p2vd sees."""
    return {str(item["Wwid"]) for item in objects if item.interface == SOURCE and item["Wwid"]}


def _seen(item: Object, objects: tuple[Object, ...]) -> str:
    disks = item["Disks"]
    seen = sum(disk["Wwid"] in _wwids(objects) for disk in disks)
    count = f"{len(disks)} disk{'' if len(disks) == 1 else 's'}"
    return f"{count}, {seen} of them seen by p2vd"
