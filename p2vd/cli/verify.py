"""`p2vctl verify`: proves again, long after, that volumes still are what their receipts say."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from p2vd.bus.names import JOB, MACHINE, MANAGER, ROOT
from p2vd.cli import render
from p2vd.cli.client import Client, CliError, Exit, Object, make_options
from p2vd.cli.lookup import find, jobs_of
from p2vd.cli.render import SHORT_ID
from p2vd.model.size import format_size

_LOOK_EVERY_S = 0.5

Arguments = argparse.Namespace

_EXITS = {"unchanged": Exit.OK, "used-since": Exit.FINDINGS, "differs": Exit.JOB_FAILED}
_WORST = (Exit.JOB_FAILED, Exit.REFUSED, Exit.FINDINGS, Exit.OK)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("objects", nargs="+", metavar="JOB|MACHINE|WWID")
    parser.add_argument(
        "--no-wait", action="store_true", help="return at once; p2vctl receipt tells the result"
    )


def verify(client: Client, arguments: Arguments) -> Exit:
    """Prove again that volumes still are what their receipts say."""
    uuids = _named(client, arguments.objects)
    results: dict[str, dict[str, Any]] = {}
    for uuid in uuids:
        try:
            client.call(ROOT, MANAGER, "Verify", "sa{sv}", uuid, make_options({}))
        except CliError as error:
            if error.status is not Exit.REFUSED:
                raise
            results[uuid] = {"State": "failed", "Seen": str(error), "Error": error.name}
    begun = [uuid for uuid in uuids if uuid not in results]
    if arguments.no_wait:
        for uuid in begun:
            print(f"Job {uuid[:SHORT_ID]} is being verified. The result: p2vctl receipt {uuid[:SHORT_ID]}")
    else:
        results |= _results(client, begun, quiet=arguments.json)
    told = [{"Job": uuid, **results[uuid]} for uuid in uuids if uuid in results]
    if arguments.json:
        print(render.as_json(told))
    else:
        for one in told:
            print(sentence(one))
    statuses = {_EXITS.get(one["State"], Exit.REFUSED) for one in told}
    return next((status for status in _WORST if status in statuses), Exit.OK)


def sentence(result: dict[str, Any]) -> str:
    """How one ended. Pure."""
    return f"Job {result['Job'][:SHORT_ID]}: {result['State']}. {result['Seen']}"


def records(found: Sequence[dict[str, Any]]) -> str:
    """The records beside a receipt, oldest first. Pure."""
    lines = ["Verified again"]
    for one in found:
        if "problem" in one:
            lines.append(f"  ! {one['file']}: {one['problem']}")
        else:
            lines.append(f"  {render.time_text(one['ended_us'])}, by uid {one['started_by']}: {one['state']}")
            lines.append(f"    {one['seen']}")
    return "\n".join(lines)


def _named(client: Client, texts: Sequence[str]) -> list[str]:
    """The jobs that are meant, each once: those on the bus, else those that have a receipt."""
    objects = client.objects()
    found: dict[str, None] = {}
    for text in texts:
        try:
            item = find(text, objects, (JOB, MACHINE))
        except CliError:
            uuids = _with_receipts(client, text)
            if not uuids:
                raise
        else:
            uuids = [job["Uuid"] for job in jobs_of(item, objects)]
            if item.interface == MACHINE:
                uuids += _proven(client, item)
            if not uuids:
                raise CliError(
                    f"Of {item['Name']} there is nothing to verify: none of its jobs has a receipt. "
                    "All: p2vctl receipt"
                )
        found |= dict.fromkeys(uuids)
    return list(found)


def _with_receipts(client: Client, text: str) -> list[str]:
    (notes,) = client.call(ROOT, MANAGER, "FindReceipts", "sa{sv}", text, make_options({}))
    return [note["Job"] for note in notes]


def _proven(client: Client, machine: Object) -> list[str]:
    """Jobs of a machine that have receipts, on the bus or not; an earlier machine may have had its name."""
    found = []
    for uuid in _with_receipts(client, machine["Name"]):
        (page,) = client.call(ROOT, MANAGER, "GetReceipt", "sa{sv}", uuid, make_options({}))
        if json.loads(page)["machine"]["uuid"] == machine["Uuid"]:
            found.append(uuid)
    return found


def _results(client: Client, uuids: Sequence[str], *, quiet: bool) -> dict[str, dict[str, Any]]:
    """Wait until all have ended; show how far they are, on a terminal."""
    live = not quiet and sys.stdout.isatty()
    if not quiet and uuids:
        jobs = ", ".join(uuid[:SHORT_ID] for uuid in uuids)
        print(f"Being verified: {jobs}. The volumes are only read.", flush=True)
    try:
        while True:
            now = {uuid: _now(client, uuid) for uuid in uuids}
            if live:
                print(f"\r{_progress(list(now.values())):<60}", end="", flush=True)
            if all(one["State"] != "running" for one in now.values()):
                break
            time.sleep(_LOOK_EVERY_S)
    except KeyboardInterrupt:
        raise CliError(
            "No longer watching; the verification goes on. Its result: p2vctl receipt JOB", Exit.INTERRUPTED
        ) from None
    finally:
        if live:
            print("\r" + " " * 60 + "\r", end="", flush=True)
    return now


def _now(client: Client, uuid: str) -> dict[str, Any]:
    (found,) = client.call(ROOT, MANAGER, "GetVerification", "sa{sv}", uuid, make_options({}))
    result: dict[str, Any] = found
    return result


def _progress(running: Sequence[dict[str, Any]]) -> str:
    total = sum(one["BytesTotal"] for one in running)
    return f"{format_size(sum(one['BytesRead'] for one in running))} of {format_size(total)} read"


def shown(job: Object) -> str:
    """The latest verification of a job on the bus, for `show`. Pure."""
    return f"Verified again: {job['Verification']['State']}\n{job['Verification']['Seen']}".rstrip()
