"""p2vctl bandwidth: what copies may read a second, and what each has of it. Both can be changed live."""

import argparse
from collections.abc import Sequence

from p2vd.bus.names import JOB, MANAGER, ROOT
from p2vd.cli import render
from p2vd.cli.client import Client, CliError, Exit, Object, make_options
from p2vd.cli.lookup import find_all, jobs_of, machine_name
from p2vd.cli.verbs import AddVerb
from p2vd.model.size import format_size, parse_size

_NONE = "none"
_COPIES = ("copying", "verifying")


def add_parsers(verb: AddVerb) -> None:
    """Add the command."""
    one = verb("bandwidth", bandwidth, prints_json=True)
    one.add_argument(
        "rate", nargs="?", type=parse_rate, metavar="SIZE|none", help="bytes a second, such as 200MiB"
    )
    one.add_argument(
        "objects",
        nargs="*",
        metavar="JOB|MACHINE",
        help="limit these, each of their disks; without one all copies together",
    )


def parse_rate(text: str) -> int:
    """Return bytes a second, 0 for `none`. Raises argparse.ArgumentTypeError."""
    if text == _NONE:
        return 0
    try:
        rate = parse_size(text.removesuffix("/s"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if rate <= 0:
        raise argparse.ArgumentTypeError(f"{text!r}: to have no limit, write {_NONE}")
    if rate >= 1 << 64:  # more than the bus can say
        raise argparse.ArgumentTypeError(f"{text!r} is no limit that a copy comes to: write {_NONE}")
    return rate


def bandwidth(client: Client, arguments: argparse.Namespace) -> Exit:
    """Show what copies may read a second, or change it, for all together or for some jobs."""
    if arguments.rate is not None and arguments.objects:
        objects = client.objects()
        named = find_all(arguments.objects, objects)
        for job in _unfinished(named, objects):
            client.call(job.path, JOB, "SetBandwidth", "ta{sv}", arguments.rate, make_options({}))
    elif arguments.rate is not None:
        client.call(ROOT, MANAGER, "SetBandwidth", "ta{sv}", arguments.rate, make_options({}))
    total, objects = client.properties(ROOT, MANAGER)["Bandwidth"], client.objects()
    copies = [item for item in objects if item.interface == JOB and item["Stage"] in _COPIES]
    if arguments.json:
        keys = ("Uuid", "Bandwidth", "BandwidthReason", "Rate", "ReadLatency", "BackOff")
        print(render.as_json({"Total": total, "Jobs": [{key: one[key] for key in keys} for one in copies]}))
    else:
        print(f"All copies together: {_a_second(total) if total else 'no limit'}.")
        if copies:
            print(f"\n{_table(copies, objects)}")
    return Exit.OK


def _unfinished(named: Sequence[Object], objects: Sequence[Object]) -> list[Object]:
    jobs = [job for item in named for job in jobs_of(item, objects)]
    ended = ("proven", "failed", "cancelling", "cancelled")
    found = [job for job in jobs if job["Stage"] not in ended]
    if not found:
        raise CliError("None of these copies any more. See: p2vctl jobs")
    return found


def _table(copies: Sequence[Object], objects: Sequence[Object]) -> str:
    rows = [
        (
            job["Uuid"][: render.SHORT_ID],
            machine_name(job, objects),
            render.rate(job),
            _a_second(job["Bandwidth"]) if job["Bandwidth"] else "no limit",
            render.latency(job["ReadLatency"]),
            job["BackOff"] or job["BandwidthReason"],
        )
        for job in copies
    ]
    return render.table(("JOB", "MACHINE", "RATE", "MAY READ", "LATENCY", "WHY"), rows)


def _a_second(size_bytes: int) -> str:
    return f"{format_size(size_bytes)}/s"
