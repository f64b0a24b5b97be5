"""What happened: the commands audit, receipt and remove. Each as in commands.py."""

import argparse
import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from p2vd.bus.names import JOB, MANAGER, ROOT
from p2vd.cli import render, render_records
from p2vd.cli.client import Client, CliError, Exit, make_options, repeated
from p2vd.cli.lookup import find_all, jobs_of
from p2vd.cli.render import SHORT_ID
from p2vd.cli.since import parse_since
from p2vd.cli.verbs import AddVerb
from p2vd.cli.verify import records as verified

Arguments = argparse.Namespace


def add_parsers(verb: AddVerb) -> None:
    """Add the commands. `verb` makes the parser of one, as main has it."""
    one = verb("audit", audit, prints_json=True)
    one.add_argument(
        "check", nargs="?", choices=("verify",), metavar="verify", help="check that nothing of it was changed"
    )
    one.add_argument("--wwid", default="", metavar="WWID", help="only what concerns this disk")
    one.add_argument("--machine", default="", metavar="MACHINE", help="only what concerns this machine")
    one.add_argument(
        "--since",
        type=lambda text: parse_since(text, datetime.now().astimezone()),
        default=0,
        metavar="TIME",
        help="only from then on: 2026-10-01, '2026-10-01 14:00', today, yesterday, 30min, 2h, 3d, 1w",
    )
    one = verb("receipt", receipt, prints_json=True)
    one.add_argument(
        "receipt", nargs="?", default="", metavar="JOB|WWID|MACHINE", help="whose; none: list all receipts"
    )
    one = verb("remove", remove)
    one.add_argument("objects", nargs="+", metavar="JOB|MACHINE")


def audit(client: Client, arguments: Arguments) -> Exit:
    """Tell who asked for what, and how it ended."""
    if arguments.check:
        return _verify(client, arguments)
    entries = list(_entries(client, arguments))
    if arguments.json:
        print(render.as_json(entries))
    else:
        print(render_records.audit(entries) if entries else "The audit has no such entry.")
    return Exit.OK


def _entries(client: Client, arguments: Arguments) -> Iterator[dict[str, Any]]:
    import dbus  # only for the types that options have here

    options: dict[str, object] = {
        "wwid": arguments.wwid,
        "machine": arguments.machine,
        "limit": dbus.UInt32(1000),
    }
    after = 0
    while True:
        times = {"since": dbus.UInt64(arguments.since), "after": dbus.UInt64(after)}
        lines, after = client.call(ROOT, MANAGER, "GetAudit", "a{sv}", make_options({**options, **times}))
        yield from map(json.loads, lines)
        if not after:
            return


def _verify(client: Client, arguments: Arguments) -> Exit:
    (verdict,) = repeated(
        lambda: client.act(ROOT, MANAGER, "VerifyAudit"), lambda error: error.name == "StillLooking"
    )
    print(render.as_json(verdict) if arguments.json else render_records.verdict(verdict))
    return Exit.FINDINGS if verdict["Findings"] else Exit.OK


def receipt(client: Client, arguments: Arguments) -> Exit:
    """Show the receipt of a job, also of one that is no longer listed."""
    text = arguments.receipt
    (found,) = client.call(ROOT, MANAGER, "FindReceipts", "sa{sv}", text, make_options({}))
    if not text:
        if arguments.json:
            print(render.as_json(found))
        else:
            print(
                render_records.receipts(found) if found else "There are no receipts: no job was proven yet."
            )
        return Exit.OK
    if not found:
        raise CliError(
            f"There is no receipt of {text!r}: it is made when a job is proven. All: p2vctl receipt"
        )
    if len(found) > 1:
        which = ", ".join(note["Job"] for note in found)
        raise CliError(f"There are {len(found)} receipts of {text!r}: {which}. Give the job.")
    (page,) = client.call(ROOT, MANAGER, "GetReceipt", "sa{sv}", found[0]["Job"], make_options({}))
    if arguments.json:
        print(page.rstrip())
        return Exit.OK
    print(render_records.receipt(json.loads(page)))
    (later,) = client.call(ROOT, MANAGER, "GetVerifications", "sa{sv}", found[0]["Job"], make_options({}))
    if later:
        print("\n" + verified([json.loads(one) for one in later]))
    return Exit.OK


def remove(client: Client, arguments: Arguments) -> Exit:
    """Take finished jobs off the list; their receipts stay."""
    objects = client.objects()
    for item in find_all(arguments.objects, objects):
        for job in jobs_of(item, objects):
            client.act(job.path, JOB, "Remove")
            short = job["Uuid"][:SHORT_ID]
            # One that was cancelled has none.
            receipt_of_it = f" Its receipt: p2vctl receipt {short}" if job["Stage"] == "proven" else ""
            print(f"Job {short} is no longer listed.{receipt_of_it}")
    return Exit.OK
