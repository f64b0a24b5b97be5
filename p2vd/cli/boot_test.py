"""`p2vctl boot-test`: starts a machine for a test, and says what was seen."""

import argparse
import time
from typing import Any

import dbus

from p2vd.bus.names import MACHINE
from p2vd.cli import render
from p2vd.cli.client import Client, CliError, Exit
from p2vd.cli.lookup import find
from p2vd.model.size import parse_size

_LOOK_EVERY_S = 0.5
_SERIAL_LINES = 12
# Whoever watches has the daemon's word for the end; this is for a daemon that restarted in between.
_BEYOND_S = 600.0
_DEFAULT_S = 300


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("machine", metavar="MACHINE")
    parser.add_argument(
        "--expect",
        default="",
        metavar="REGEX",
        help="text that the serial port has to show; without it any sign of life counts",
    )
    parser.add_argument(
        "--timeout", type=_seconds, default=_DEFAULT_S, metavar="SECONDS", help=f"default {_DEFAULT_S}"
    )
    parser.add_argument(
        "--memory", type=_size, default=0, metavar="SIZE", help="less than it is defined with"
    )
    parser.add_argument("--no-wait", action="store_true", help="return at once; p2vctl show tells the result")


def boot_test(client: Client, arguments: argparse.Namespace) -> Exit:
    """Start a machine from throw-away overlays and tell whether it boots."""
    machine = find(arguments.machine, client.objects(), (MACHINE,))
    options: dict[str, object] = {"timeout": dbus.UInt32(arguments.timeout)}
    if arguments.expect:
        options["expect"] = arguments.expect
    if arguments.memory:
        options["memory"] = dbus.UInt64(arguments.memory)
    client.act(machine.path, MACHINE, "BootTest", **options)
    if arguments.no_wait:
        print(f"{machine['Name']} is being started. What is seen: p2vctl show {machine['Name']}")
        return Exit.OK
    if not arguments.json:
        print(f"{machine['Name']} is being started, without network; its volumes are only read.", flush=True)
    try:
        test = _result(client, machine.path, arguments.timeout + _BEYOND_S)
    except KeyboardInterrupt:
        raise CliError(
            f"No longer watching; the test goes on. Its result: p2vctl show {machine['Name']}",
            Exit.INTERRUPTED,
        ) from None
    if arguments.json:
        print(render.as_json(test))
    elif test["State"] != "failed":
        print(told(test))
    if test["State"] == "failed":
        raise CliError(str(test["Seen"]), Exit.REFUSED, str(test["Error"]))
    return Exit.OK if test["State"] == "booted" else Exit.JOB_FAILED


def told(test: dict[str, Any]) -> str:
    """Return a boot test for a reader. Pure."""
    lines = [f"Boot test: {test['State']}", *filter(None, [str(test["Seen"])])]
    if test["Accelerator"] == "tcg":
        lines.append("It ran in emulation, many times slower than it will.")
    serial = [line for line in str(test["Serial"]).splitlines() if line.strip()]
    if serial:
        lines += ["", "Last on its serial port:", *(f"  {line}" for line in serial[-_SERIAL_LINES:])]
    if test["Screenshot"]:
        lines += ["", f"Screen: {test['Screenshot']}"]
    return "\n".join(lines)


def _result(client: Client, path: str, patience_s: float) -> dict[str, Any]:
    deadline_s = time.monotonic() + patience_s
    while True:
        test: dict[str, Any] = client.properties(path, MACHINE)["BootTest"]
        if test.get("State") != "running":
            return test
        if time.monotonic() > deadline_s:
            raise CliError("p2vd did not say how the boot test ended. See: systemctl status p2vd")
        time.sleep(_LOOK_EVERY_S)


def _seconds(text: str) -> int:
    """Whole seconds, as far as the bus has them; p2vd knows how many it takes."""
    if not text.isdecimal() or len(text) > 9 or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: write whole seconds, such as {_DEFAULT_S}")
    return int(text)


def _size(text: str) -> int:
    try:
        size_bytes = parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if size_bytes >= 1 << 64:  # more than the bus can say
        raise argparse.ArgumentTypeError(f"{text!r} is more memory than there is")
    return size_bytes
