"""p2vctl portals: the iSCSI portals that this host is logged in to by p2vd."""

import argparse
import time
from collections.abc import Callable, Sequence

import dbus

from p2vd.bus.names import MANAGER, PORTAL, ROOT
from p2vd.cli import render
from p2vd.cli.client import Client, CliError, Exit, Object, Properties, make_options
from p2vd.cli.lookup import find
from p2vd.cli.secrets import Descriptors, read_secret
from p2vd.cli.verbs import adder

Arguments = argparse.Namespace

_POLL_S = 0.3
_SETTLED_S = 120.0  # two logins of 15 s each, at two targets, and a discovery
_RESCANNED_S = 300.0


def add_parsers(portals: argparse.ArgumentParser) -> None:
    """Add the commands below `portals`."""
    verb = adder(
        portals.add_subparsers(title="commands", metavar="COMMAND", required=True), json_help="print JSON"
    )
    verb("list", listing, prints_json=True)
    one = verb("add", add, prints_json=True)
    one.add_argument(
        "portals",
        nargs="+",
        metavar="PORTAL",
        help="ADDRESS, ADDRESS:PORT or [IPv6]:PORT; @INTERFACE behind it binds to a network interface",
    )
    one.add_argument(
        "--target", action="append", default=[], metavar="IQN", help="only this target; repeatable"
    )
    one.add_argument("--chap-user", default="", metavar="NAME", help="the name that this host proves")
    one.add_argument(
        "--chap-secret-file",
        metavar="FILE",
        help="its secret: a file that only its owner can read, or - for standard input; else you are asked",
    )
    one.add_argument("--chap-user-in", default="", metavar="NAME", help="mutual CHAP: the target's name")
    one.add_argument(
        "--chap-secret-in-file", metavar="FILE", help="mutual CHAP: the target's secret, likewise"
    )
    one.add_argument(
        "--discovery-chap", action="store_true", help="the portal wants CHAP for the discovery too"
    )
    one.add_argument("--no-wait", action="store_true", help="return before the outcome is known")
    one = verb("remove", remove, prints_json=True)
    one.add_argument("portals", nargs="+", metavar="PORTAL")
    one = verb("rescan", rescan, prints_json=True)
    one.add_argument("portals", nargs="*", metavar="PORTAL", help="none: all")
    one.add_argument("--hct", default="", metavar="H:C:T", help="only the session at HOST:CHANNEL:TARGET")


def listing(client: Client, arguments: Arguments) -> Exit:
    """List the portals, how they are reached, and what is wrong with them."""
    found = _portals(client)
    if arguments.json:
        print(render.as_json(render.as_dicts(found)))
    else:
        print(render.portals(found) if found else "There are no portals. Add one: p2vctl portals add ADDRESS")
    return Exit.OK


def add(client: Client, arguments: Arguments) -> Exit:
    """Log in to portals and remember them; they are logged in again after a reboot."""
    secret = read_secret(arguments.chap_user, arguments.chap_secret_file, "CHAP secret")
    secret_in = read_secret(
        arguments.chap_user_in, arguments.chap_secret_in_file, "CHAP secret of the target"
    )
    options: dict[str, object] = {}
    if arguments.target:
        options["targets"] = dbus.Array(arguments.target, signature="s")
    if arguments.chap_user:
        options["chap-user"] = arguments.chap_user
    if arguments.chap_user_in:
        options["chap-user-in"] = arguments.chap_user_in
    if arguments.discovery_chap:
        options["discovery-chap"] = True
    paths = []
    for portal in arguments.portals:
        with Descriptors({"chap-secret": secret, "chap-secret-in": secret_in}) as descriptors:
            given = make_options({**options, **descriptors})
            (path,) = client.call(ROOT, MANAGER, "AddPortal", "sa{sv}", portal, given)
        paths.append(path)
    if arguments.no_wait:
        return _report(arguments, [_get(client, path) for path in paths])
    return _report(arguments, [_settled(client, path) for path in paths])


def remove(client: Client, arguments: Arguments) -> Exit:
    """Log out of portals and forget them; sessions that p2vd did not make stay."""
    objects = _portals(client)
    removed = []
    for item in [find(text, objects, (PORTAL,)) for text in arguments.portals]:
        client.call(ROOT, MANAGER, "RemovePortal", "sa{sv}", item["Id"], make_options({}))
        left = _until(client, item.path, lambda now: now["State"] != "removing")
        if left is not None:
            raise CliError(
                left["Error"][1] or f"{item['Id']} is still being removed. See: p2vctl portals list"
            )
        removed.append(str(item["Id"]))
        if not arguments.json:
            print(f"{item['Id']} is removed.")
    if arguments.json:
        print(render.as_json(removed))
    return Exit.OK


def rescan(client: Client, arguments: Arguments) -> Exit:
    """Look for new, grown and vanished LUNs, and for LUN numbers that are other disks now."""
    objects = _portals(client)
    chosen = [find(text, objects, (PORTAL,)) for text in arguments.portals] or objects
    if not chosen:
        raise CliError("There are no portals. Add one: p2vctl portals add ADDRESS")
    options = {"hct": arguments.hct} if arguments.hct else {}
    done = []
    for item in chosen:
        client.act(item.path, PORTAL, "Rescan", **options)
        now = _until(client, item.path, lambda now: not now["Rescanning"], _RESCANNED_S)
        if now is None:
            raise CliError(f"{item['Id']} was removed meanwhile.")
        if now["Rescanning"]:
            raise CliError(f"The rescan of {item['Id']} goes on. See: p2vctl portals list")
        if now["Error"][1]:
            raise CliError(now["Error"][1])
        done.append(Object(item.path, PORTAL, now))
        if not arguments.json:
            print(render.rescan(done[-1]))
    if arguments.json:
        print(render.as_json(render.as_dicts(done)))
    stale = any(item["LastRescan"]["LeftAlone"] for item in done)
    return Exit.REFUSED if stale else Exit.OK


def _report(arguments: Arguments, portals: Sequence[Object]) -> Exit:
    """Print what became of portals; the first that is not connected ends the command with its sentence."""
    failed = [item for item in portals if item["State"] not in ("connected", "connecting")]
    if arguments.json:
        print(render.as_json(render.as_dicts(portals)))
    else:
        for item in portals:
            if item not in failed:
                print(render.portal(item))
    if failed:
        more = " p2vd goes on trying; to end that: p2vctl portals remove " + str(failed[0]["Id"])
        raise CliError(str(failed[0]["Error"][1]) + (more if failed[0]["State"] == "retrying" else ""))
    return Exit.OK


def _settled(client: Client, path: str) -> Object:
    now = _until(client, path, lambda now: now["State"] != "connecting", _SETTLED_S)
    if now is None:
        raise CliError("The portal was removed meanwhile.")
    return Object(path, PORTAL, now)


def _until(
    client: Client, path: str, done: Callable[[Properties], bool], timeout_s: float = _SETTLED_S
) -> Properties | None:
    """Return a portal's properties once `done` or out of time; None where it is gone."""
    deadline = time.monotonic() + timeout_s
    while True:
        now = next((item.properties for item in _portals(client) if item.path == path), None)
        if now is None or done(now) or time.monotonic() > deadline:
            return now
        time.sleep(_POLL_S)


def _get(client: Client, path: str) -> Object:
    return Object(path, PORTAL, client.properties(path, PORTAL))


def _portals(client: Client) -> list[Object]:
    return [item for item in client.objects() if item.interface == PORTAL]
