"""p2vctl: reads the command line, runs one command, and turns every error into a sentence."""

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from p2vd import __version__
from p2vd.cli import (
    bandwidth,
    boot_test,
    bundle,
    commands,
    export,
    handover,
    machine,
    policy,
    portals,
    records,
    verify,
    waves,
)
from p2vd.cli.client import Client, CliError, Exit
from p2vd.cli.completion import complete
from p2vd.cli.filters import parse_filter
from p2vd.cli.remote import parse_host
from p2vd.cli.terminal import fitting
from p2vd.cli.verbs import LocalCommand, adder


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of p2vctl's command line."""
    parser = argparse.ArgumentParser(
        prog="p2vctl",
        description="Ask p2vd to move disks of physical machines onto volumes of the SAN.",
        epilog="Ids may be cut to a unique beginning. Manual: p2vctl(1).",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--bus", default="", metavar="ADDRESS", help="bus to talk on, not the system bus")
    where.add_argument(
        "--host", type=parse_host, metavar="[USER@]HOST", help="talk to p2vd of that host, by ssh"
    )
    parser.add_argument("--version", action="version", version=f"p2vctl {__version__}")
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    verb = adder(verbs)
    one = verb("sources", commands.sources, prints_json=True)
    one.add_argument(
        "--filter",
        action="append",
        default=[],
        type=parse_filter,
        metavar="KEY=PATTERN|TEXT",
        help="only these, such as transport=fc, vendor=NETAPP*, usable=no or a part of an id; "
        "may be given again: then all must fit",
    )
    verb("vgs", commands.vgs, prints_json=True)
    verb("fabric", commands.fabric, prints_json=True)
    one = verb("plan", commands.plan, prints_json=True)
    one.add_argument(
        "sources",
        nargs="*",
        metavar="SOURCE",
        help="the machine's disks in its order: ids (WWIDs), or names of now; the first that can boot does",
    )
    one.add_argument("--machine", default="", metavar="RECORD", help="take the disks of a machine's record")
    one.add_argument(
        "--source-offline",
        action="store_true",
        help="declare that no other host writes to the disk: its machine is shut down",
    )
    one.add_argument("--name", default="", metavar="NAME", help="name of the virtual machine")
    one.add_argument(
        "--sample",
        action="store_true",
        help="read random blocks of the disks, and say what their copies are expected to take of a thin pool",
    )
    waves.add_wave(one)
    one = verb("migrate", commands.migrate, prints_json=True)
    one.add_argument("plan", nargs="?", metavar="PLAN", help="the plan's id, as p2vctl plan printed it")
    waves.add_wave(one)
    waves.add_at(one)
    one.add_argument(
        "--wait", action="store_true", help="show progress until the machine is registered; not with --wave"
    )
    verb("jobs", commands.jobs, prints_json=True)
    one = verb("show", commands.show, prints_json=True)
    one.add_argument("object", metavar="JOB|MACHINE|SOURCE|VG")
    one = verb("watch", commands.watch)
    one.add_argument("objects", nargs="*", metavar="JOB|MACHINE", help="until these end; none: all, for ever")
    for name, command in (("pause", commands.pause), ("resume", commands.resume), ("retry", commands.retry)):
        one = verb(name, command)
        one.add_argument("objects", nargs="+", metavar="JOB|MACHINE")
        if name == "resume":
            one.add_argument(
                "--ignore-window", action="store_true", help="run from now on outside their windows too"
            )
    one = verb("cancel", commands.cancel)
    one.add_argument("objects", nargs="+", metavar="JOB|MACHINE")
    target = one.add_mutually_exclusive_group(required=True)
    target.add_argument(
        "--remove-target",
        action="store_true",
        help="remove the volume or file the job made; a LUN is released as it is",
    )
    target.add_argument("--keep-target", action="store_true", help="keep it as it is")
    bandwidth.add_parsers(verb)
    handover.add_parsers(verb)
    boot_test.add_arguments(verb("boot-test", boot_test.boot_test, prints_json=True))
    export.add_arguments(verb("export", export.export, prints_json=True))
    records.add_parsers(verb)
    verify.add_arguments(verb("verify", verify.verify, prints_json=True))
    waves.add_parsers(verb)
    verb("doctor", commands.doctor, prints_json=True)
    bundle.add_arguments(verb("support-bundle", bundle.support_bundle, prints_json=True))
    verb("reload", commands.reload)
    text = "The iSCSI portals that p2vd logs this host in to."
    portals.add_parsers(verbs.add_parser("portals", help=text, description=text))
    text = "The records of physical machines: what they are, before they are moved."
    machine.add_parsers(verbs.add_parser("machine", help=text, description=text))
    text = "The rules by which p2vd decides: are they right, and which one is for a disk?"
    policy.add_parsers(verbs.add_parser("policy", help=text, description=text))
    one = verb("rescan", commands.rescan)
    one.add_argument(
        "place",
        nargs="?",
        default="",
        metavar="PLACE",
        help="first look for new LUNs here: HOST:CHANNEL:TARGET[:LUN], a host, an array port's WWPN, or all",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run p2vctl and return its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    _open_what_is_closed()
    if words[:2] == ["complete", "--"]:  # no command of people: not in the parser, which it looks at
        complete(build_parser(), words[2:])
        return int(Exit.OK)
    parsed = build_parser().parse_args(words)
    # What needs no daemon needs no bus either.
    local: LocalCommand | None = getattr(parsed, "local", None)
    verbatim = getattr(parsed, "json", False) or getattr(parsed, "verbatim", False)
    status = Exit.OK
    try:
        with fitting(verbatim=verbatim):
            try:
                status = (
                    local(parsed) if local else parsed.command(Client(parsed.bus, parsed.host or ""), parsed)
                )
            except CliError as error:
                status = error.status
                print(f"p2vctl: {error}", file=sys.stderr)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as head, has enough; what was done or refused stays so
        _print_no_more()
    except OSError as error:
        if error.filename is not None:  # of a file: none that printing has
            raise
        _print_no_more()
        with contextlib.suppress(OSError):
            print(f"p2vctl: The answer could not be written: {error.strerror}.", file=sys.stderr)
        return int(status or Exit.REFUSED)
    except KeyboardInterrupt:
        return int(Exit.INTERRUPTED)
    return int(status)


def _open_what_is_closed() -> None:
    """Have a standard output and error where the caller closed them (`>&-`): they say nothing then."""
    nowhere = Path(os.devnull)
    sys.stdout = sys.stdout or nowhere.open("w", encoding="utf-8")
    sys.stderr = sys.stderr or nowhere.open("w", encoding="utf-8")


def _print_no_more() -> None:
    """Keep Python from writing at its end what could not be written now."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
