"""The hardware passport of this machine, as JSON: `p2vctl machine collect`, or p2vd-collect alone."""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Dict, Optional

from p2vd.discovery.passport.disks import boot_devices, disks
from p2vd.discovery.passport.hardware import cpu, dmi, firmware, memory_bytes
from p2vd.discovery.passport.loader import fallback_loader
from p2vd.discovery.passport.network import network
from p2vd.discovery.passport.reading import Host
from p2vd.discovery.passport.system import clock, is_live, own_name, system

FORMAT = 1
"""Of the record: p2vd.model.passport.FORMAT, which this file cannot import where it is carried to."""

_DESCRIPTION = (
    "Write down what this machine is, for p2vd: processors, memory, firmware, disks, network, system."
)
_EPILOG = (
    "Run it as root. What could not be read is named on standard error, and the rest recorded all the same; "
    "no secret is read. From afar: ssh root@MACHINE python3 - < p2vd-collect > MACHINE.json"
)


def record(host: Host, called: str, now_us: int) -> Dict[str, Any]:
    """Return the record of a machine, named `called` or by its own name; `host.problems`: what it lacks."""
    live = is_live(host)
    if live:
        host.problem(
            "This is a live or rescue system: the machine's own system and its clock are not recorded. Mount "
            "its root, /boot and /boot/efi read-only and say where: --root DIR. Names of NICs, addresses, "
            "routes and DNS are the rescue system's."
        )
    elif host.system_root != host.root:
        host.problem(
            "Names of NICs, addresses and routes are those of this rescue system, not the machine's."
        )
    called = called or own_name(host)
    if called in ("", "localhost"):
        host.problem("This machine has no name of its own: give it one with --name.")
    return {
        "name": called,
        "format": FORMAT,
        "collected_us": now_us,
        "written_by_hand": False,
        "cpu": cpu(host),
        "memory_bytes": memory_bytes(host),
        **firmware(host),
        "fallback_loader": fallback_loader(host, live),
        "dmi": dmi(host),
        "disks": disks(host, boot_devices(host, live)),
        **network(host),
        "clock": None if live else clock(host),
        "system": {} if live else system(host),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the collector."""
    parser.add_argument("--output", metavar="FILE", help="write there, not to standard output")
    parser.add_argument(
        "--name", default="", metavar="NAME", help="call the machine so, not by its host name"
    )
    parser.add_argument(
        "--root",
        default="",
        metavar="DIR",
        help="in a rescue system: where the machine's own root is mounted",
    )


def collect(output: Optional[str], called: str, root: str) -> int:
    """Write the record of this machine; return the exit status."""
    host = Host("/", str(Path(root).resolve()) if root else "")
    if root and not Path(root, "etc").is_dir():
        print(f"p2vd-collect: {root} has no /etc: it is no root of a system.", file=sys.stderr)
        return 1
    if os.geteuid() != 0:
        host.problem("Only root may read all of it: run this as root.")
    text = json.dumps(record(host, called, int(time.time() * 1_000_000)), indent=1) + "\n"
    for problem in host.problems:
        print(f"p2vd-collect: {problem}", file=sys.stderr)
    try:
        if output:
            Path(output).write_text(text, encoding="ascii")
        else:
            sys.stdout.write(text)
            sys.stdout.flush()
    except OSError as error:
        print(f"p2vd-collect: {output or 'standard output'}: {error.strerror}.", file=sys.stderr)
        return 1
    return 0


def main() -> int:
    """Run p2vd-collect; return the exit status."""
    parser = argparse.ArgumentParser(prog="p2vd-collect", description=_DESCRIPTION, epilog=_EPILOG)
    add_arguments(parser)
    options = parser.parse_args()
    return collect(options.output, options.name, options.root)


if __name__ == "__main__":
    sys.exit(main())
