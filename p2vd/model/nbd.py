"""NBD exports: where one is, by its URI (the NBD project's doc/uri.md), and what the daemon is told of it."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath
from urllib.parse import parse_qs, quote, unquote, urlsplit

PORT = 10809
"""IANA's port of NBD."""

SCHEMES = {
    "nbd": (False, False),
    "nbds": (True, False),
    "nbd+unix": (False, True),
    "nbds+unix": (True, True),
}
"""Of each scheme whether it is encrypted, and whether it is a Unix socket."""


@dataclass(frozen=True)
class NbdAddress:
    """An export of a server on TCP (`host`, `port`) or on a Unix `socket`. `username` is for TLS with PSK."""

    uri: str
    export: str = ""
    host: str = ""
    port: int = PORT
    socket: str = ""
    tls: bool = False
    username: str = ""

    @property
    def id(self) -> str:
        """What names it to the daemon and in checkpoints: host and port, or socket, and name of the export.

        The same with TLS and without.
        """
        export = quote(self.export)
        if self.socket:
            return f"nbd+unix:///{export}?socket={quote(self.socket)}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"nbd://{host}:{self.port}/{export}"


def parse_uri(uri: str) -> NbdAddress:
    """Return what `uri` names. Raises ValueError."""
    parts = urlsplit(uri)
    if parts.scheme not in SCHEMES:
        raise ValueError(f"{parts.scheme}:// is no scheme of NBD; there are {', '.join(SCHEMES)}")
    tls, unix = SCHEMES[parts.scheme]
    query = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    if parts.password is not None:
        raise ValueError("a password in it would be seen by everybody (ps, logs): keys belong in a PSK file")
    if parts.fragment:
        raise ValueError("it has a fragment (#...), which means nothing in NBD")
    sockets = query.pop("socket", [])
    if query:
        raise ValueError(
            f"it says {', '.join(sorted(query))}: only socket= is known; TLS has options (--tls-certificates)"
        )
    if unix is not (len(sockets) == 1 and sockets[0] != ""):
        raise ValueError("a Unix socket is named by nbd+unix:///EXPORT?socket=PATH, and only there")
    if unix and parts.hostname:
        raise ValueError(f"a Unix socket has no host ({parts.hostname}): write three slashes")
    if not unix and not parts.hostname:
        raise ValueError("it names no host")
    return NbdAddress(
        uri=uri,
        export=unquote(parts.path.removeprefix("/")),
        host=parts.hostname or "",
        port=parts.port or PORT,
        socket=sockets[0] if sockets else "",
        tls=tls,
        username=unquote(parts.username or ""),
    )


@dataclass(frozen=True)
class NbdExport:
    """An export that is a source, as a policy file names it.

    `certificates`: the directory of `ca-cert.pem`, and of `client-cert.pem` and `client-key.pem` where the
    server asks for them; empty: the authorities of this host. `psk_file`: pre-shared keys instead.
    `sector_size`: the logical one of the disk behind it, in bytes, which NBD does not tell.
    """

    uri: str
    certificates: str = ""
    psk_file: str = ""
    sector_size: int = 512

    @cached_property
    def address(self) -> NbdAddress:
        """Where it is."""
        return parse_uri(self.uri)

    @property
    def id(self) -> str:
        """What names it, as `NbdAddress.id` says it."""
        return self.address.id

    @property
    def name(self) -> str:
        """A short name for people: the server, and the export where it has a name."""
        server = PurePath(self.address.socket).name or self.address.host
        return f"{server}/{self.address.export}" if self.address.export else server

    @property
    def needs_privileges(self) -> bool:
        """Whether only root reaches it: by keys, or by a Unix socket."""
        return self.address.tls or self.address.socket != ""


def key_problems(address: NbdAddress, certificates: str, psk_file: str) -> tuple[str, ...]:
    """Return what contradicts itself in the keys of an export, for whoever names them; reads no file."""
    problems = []
    if not address.tls and (certificates or psk_file):
        problems.append("keys are given and it is not encrypted: write nbds://")
    if certificates and psk_file:
        problems.append("certificates and a PSK file are given: use one of them")
    if address.tls and address.socket and not psk_file:
        problems.append("a Unix socket has no name for a certificate to be for: use a PSK file")
    return tuple(problems)
