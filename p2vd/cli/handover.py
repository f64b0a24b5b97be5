"""p2vctl cutover, rollback and accept: a machine handed to its hypervisor, taken back, or kept for good."""

import argparse
import sys
import time
from collections.abc import Sequence

from p2vd.bus.names import MACHINE
from p2vd.cli import plan_page, render
from p2vd.cli.client import Client, CliError, Exit, Object
from p2vd.cli.lookup import domain_command, find, jobs_of, libvirt_uri
from p2vd.cli.verbs import AddVerb

_UNDER_WAY = ("registering", "rolling-back", "accepting")
_LOOK_AGAIN_S = 0.3
_REMOVAL = {"lv": "lvremove", "file": "rm", "lun": "blkdiscard -z"}


def add_parsers(verb: AddVerb) -> None:
    """Add the three commands."""
    one = verb("cutover", cutover, prints_json=True)
    one.add_argument("machine", metavar="MACHINE")
    one.set_defaults(start=None)
    start = one.add_mutually_exclusive_group()
    start.add_argument(
        "--start",
        action="store_const",
        const=True,
        help="start it, too, whatever policy says",
    )
    start.add_argument(
        "--no-start",
        dest="start",
        action="store_const",
        const=False,
        help="do not, whatever policy says",
    )
    one.add_argument(
        "--no-conversion", action="store_true", help="register the guest as it was copied, unconverted"
    )
    one.add_argument(
        "--with-present-policy",
        action="store_true",
        help="define it as the policy in force now says, not as its plan does",
    )
    one.add_argument("--dry-run", action="store_true", help="show what would be defined, and do nothing")
    verb("rollback", rollback, prints_json=True).add_argument("machine", metavar="MACHINE")
    one = verb("accept", accept, prints_json=True)
    one.add_argument("machine", metavar="MACHINE")
    one.add_argument("--yes", action="store_true", help="do not ask for the machine's name")


def cutover(client: Client, arguments: argparse.Namespace) -> Exit:
    """Register a machine that is ready with its hypervisor."""
    machine = find(arguments.machine, client.objects(), (MACHINE,))
    chosen = {"convert": False} if arguments.no_conversion else {}
    if arguments.with_present_policy:
        chosen["policy"] = True
    if arguments.start is not None:
        chosen["start"] = arguments.start
    if arguments.dry_run:
        return _show(client, arguments, machine, chosen)
    client.act(machine.path, MACHINE, "Cutover", **chosen)
    done = _settled(client, machine)
    if done["State"] != "registered":
        raise CliError(f"{done['Name']} is {done['State']}. {done['Error'][1]}", Exit.JOB_FAILED)
    command = domain_command(done)
    _say(arguments, done, f"{done['Name']} is registered.{f' See it: {command}' if command else ''}")
    if done["Error"][1]:  # registered, and not started
        raise CliError(done["Error"][1], Exit.JOB_FAILED)
    return Exit.OK


def _show(client: Client, arguments: argparse.Namespace, machine: Object, chosen: dict[str, bool]) -> Exit:
    """Show what a cutover would define."""
    (choice,) = client.act(machine.path, MACHINE, "PlanCutover", **chosen)
    if arguments.json:
        print(render.as_json(choice))
        return Exit.OK
    words = ["p2vctl cutover", machine["Name"]]
    words += ["--with-present-policy"] if arguments.with_present_policy else []
    words += ["--no-conversion"] if arguments.no_conversion else []
    words += [] if arguments.start is None else ["--start" if arguments.start else "--no-start"]
    print(f"{plan_page.cutover(choice, machine['Name'])}\n\nNothing was done. To do it:\n  {' '.join(words)}")
    return Exit.OK


def rollback(client: Client, arguments: argparse.Namespace) -> Exit:
    """Take a registered machine back from its hypervisor; its volumes stay."""
    objects = client.objects()
    machine = find(arguments.machine, objects, (MACHINE,))
    client.act(machine.path, MACHINE, "Rollback")
    done = _settled(client, machine)
    if done["State"] != "rolled-back":
        raise CliError(f"{done['Name']} is {done['State']}. {done['Error'][1]}", Exit.JOB_FAILED)
    gone = "its domain is gone" if libvirt_uri(machine) else "nothing defines it any more"
    _say(arguments, done, f"{done['Name']} is rolled back: {gone}, its sources are as they were.")
    if not arguments.json:
        print(kept(jobs_of(machine, objects)))
    return Exit.OK


def kept(jobs: Sequence[Object]) -> str:
    """What a rollback leaves, and by which commands it goes. Pure."""
    if not jobs:  # they are no longer listed
        return "What was copied is kept. Where, its receipts tell: p2vctl receipt"
    targets = ", ".join(job["Target"] for job in jobs)
    commands = ", ".join(dict.fromkeys(_REMOVAL[job["TargetKind"]] for job in jobs))
    return f"What was copied is kept: {targets}. To remove it: {commands}"


def accept(client: Client, arguments: argparse.Namespace) -> Exit:
    """Keep a registered machine for good: remove its sources from this host."""
    objects = client.objects()
    machine = find(arguments.machine, objects, (MACHINE,))
    if not arguments.yes:
        _confirm(machine, jobs_of(machine, objects))
    client.act(machine.path, MACHINE, "Accept")
    done = _settled(client, machine)
    if done["State"] != "accepted":
        raise CliError(f"{done['Name']} is {done['State']}. {done['Error'][1]}", Exit.JOB_FAILED)
    _say(arguments, done, f"{done['Name']} is accepted: there is no way back by p2vd.")
    if not arguments.json:
        print(
            "\n".join(
                ("The array may unmap:", *done["Unmap"]) if done["Unmap"] else ("No LUN is left over.",)
            )
        )
    return Exit.OK


def _confirm(machine: Object, jobs: Sequence[Object]) -> None:
    if not sys.stdin.isatty():
        raise CliError(
            f"To accept {machine['Name']} ends its way back. Run this on a terminal, or say --yes.",
            Exit.USAGE,
        )
    sources = "\n".join(f"  {job['SourceId']}" for job in jobs)
    sources = sources or f"  those of its receipts: p2vctl receipt {machine['Name']}"  # its jobs have left
    print(f"This removes from this host the sources of {machine['Name']}:\n{sources}\nThere is no way back.")
    if input("Type the machine's name to go on: ").strip() != machine["Name"]:
        raise CliError("That is not its name. Nothing was done.")


def _settled(client: Client, machine: Object) -> Object:
    """Return the machine when it is done, or as soon as something is in its way that p2vd tries again."""
    while True:
        now = Object(machine.path, MACHINE, client.properties(machine.path, MACHINE))
        if now["State"] not in _UNDER_WAY or now["Error"][1]:
            return now
        time.sleep(_LOOK_AGAIN_S)


def _say(arguments: argparse.Namespace, machine: Object, sentence: str) -> None:
    print(render.as_json(render.as_dicts([machine])[0]) if arguments.json else sentence)
