"""`p2vctl support-bundle`: all that somebody needs who helps from afar, in one archive, without secrets.

p2vctl collects it itself, as whoever runs it: it must work where p2vd does not run. What only p2vd knows
comes over the bus, and is missing where that does not answer. A part that fails keeps no other away.
"""

import argparse
import io
import json
import os
import socket
import sqlite3
import tarfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from p2vd import __version__
from p2vd.bus.names import MANAGER, ROOT
from p2vd.cli import render
from p2vd.cli.bundle_parts import MAX_CHARACTERS, SECRETS, Host, Part, found, host_parts, joined
from p2vd.cli.client import Client, CliError, Exit, repeated
from p2vd.cli.redaction import redact, secrets_in
from p2vd.config import DEFAULT_PATH, Config, load
from p2vd.model.errors import P2vdError
from p2vd.system.command import SystemCommands

_FAILURES = (OSError, P2vdError, CliError, sqlite3.Error, ValueError)


@dataclass
class Bundle:
    """An archive as it is made. `known`: secrets that no part may hold; `manifest`: what became of each."""

    archive: tarfile.TarFile
    directory: str
    known: frozenset[str]
    manifest: list[dict[str, Any]] = field(default_factory=list)

    def add(self, name: str, part: Part) -> None:
        """Add a part, or a note of why it is missing."""
        began = time.monotonic()
        note: dict[str, Any] = {"part": name}
        try:
            text = part()
        except _FAILURES as error:
            note["failed"] = redact(str(error) or type(error).__name__, self.known)
        else:
            text = redact(text, self.known)  # before it is cut: half a secret is one too
            if len(text) > MAX_CHARACTERS:
                note["cut"] = f"the last {MAX_CHARACTERS} of {len(text)} characters"
                text = text[-MAX_CHARACTERS:]
            self._put(name, text)
            note["characters"] = len(text)
        note["seconds"] = round(time.monotonic() - began, 2)
        self.manifest.append(note)

    def finish(self) -> None:
        """Add the manifest, last of all."""
        page = {"p2vd": __version__, "made": datetime.now().astimezone().isoformat(" ", "seconds")}
        self._put("MANIFEST.json", json.dumps({**page, "parts": self.manifest}, indent=1) + "\n")

    @property
    def failed(self) -> list[dict[str, Any]]:
        """The parts that are missing."""
        return [note for note in self.manifest if "failed" in note]

    def _put(self, name: str, text: str) -> None:
        data = text.encode(errors="replace")
        entry = tarfile.TarInfo(f"{self.directory}/{name}")
        entry.size, entry.mode, entry.mtime = len(data), 0o600, int(time.time())
        self.archive.addfile(entry, io.BytesIO(data))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="the archive; without it one here")
    parser.add_argument("--config", type=Path, metavar="FILE", help="p2vd's configuration, not the usual one")


def support_bundle(client: Client, arguments: argparse.Namespace) -> Exit:
    """Collect what is needed to help from afar in one archive, without secrets."""
    if getattr(arguments, "host", None):
        raise CliError(
            f"The files of {arguments.host} cannot be collected from here. Run p2vctl there.", Exit.USAGE
        )
    made = datetime.now().strftime("%Y%m%dT%H%M%S")
    name = f"p2vd-support-{socket.gethostname()}-{made}"
    path = arguments.output or Path(f"{name}.tar.gz")
    host, problem = _host(arguments.config)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CliError(f"{path} cannot be made: {error.strerror}.", Exit.USAGE) from error
    with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
        bundle = collect(archive, name, host, client, problem, arguments.config or DEFAULT_PATH)
    if arguments.json:
        print(render.as_json({"File": str(path), "Parts": bundle.manifest}))
        return Exit.OK
    there = len(bundle.manifest) - len(bundle.failed)
    print(f"{path}: {there} parts. Secrets were left out; look before you send it.")
    if bundle.failed:
        print(f"{len(bundle.failed)} parts are missing; MANIFEST.json in it says why:")
        print("\n".join(f"  {note['part']}: {note['failed']}" for note in bundle.failed))
    if os.geteuid() != 0:
        print("It was made without root's rights, so much of it is missing. Run p2vctl as root.")
    return Exit.OK


def collect(
    archive: tarfile.TarFile,
    name: str,
    host: Host,
    client: Client,
    problem: str = "",
    config: Path = DEFAULT_PATH,
) -> Bundle:
    """Fill `archive`, all below the directory `name`. `problem`: why the configuration could not be read."""
    bundle = Bundle(archive, name, frozenset(_secrets(host)))
    bundle.add("configuration/p2vd.toml.txt", lambda: problem + joined([config]))
    for part, make in (*host_parts(host), *_bus_parts(client)):
        bundle.add(part, make)
    bundle.finish()
    return bundle


def _host(path: Path | None) -> tuple[Host, str]:
    """The host by its configuration; by the defaults where that has mistakes, which are then said."""
    try:
        return Host(load(path), SystemCommands()), ""
    except P2vdError as error:
        return Host(Config(), SystemCommands()), f"# It has mistakes: {error}\n"


def _secrets(host: Host) -> Iterator[str]:
    for path in found(host.root, SECRETS):
        try:
            if path.is_file():
                yield from secrets_in(path.read_text(errors="replace"))
        except OSError:  # its part fails for the same reason
            continue


def _bus_parts(client: Client) -> Iterable[tuple[str, Part]]:
    """What p2vd says itself; it is not started for this."""

    def asked(member: str) -> Part:
        def ask() -> str:
            _expect(client)
            found = repeated(
                lambda: client.act(ROOT, MANAGER, member), lambda error: error.name == "StillLooking"
            )
            return render.as_json(found)

        return ask

    def objects() -> str:
        _expect(client)
        manager = {"Path": ROOT, **client.properties(ROOT, MANAGER)}
        return render.as_json([manager, *render.as_dicts(client.objects(start=False))])

    return (
        ("p2vd/objects.json", objects),
        ("p2vd/doctor.json", asked("Doctor")),
        ("p2vd/policy.json", asked("GetPolicy")),
        ("p2vd/fabric.json", asked("GetFabric")),
        ("p2vd/audit-verdict.json", asked("VerifyAudit")),
    )


def _expect(client: Client) -> None:
    if not client.is_running():
        raise CliError("p2vd does not run", Exit.NO_DAEMON)
