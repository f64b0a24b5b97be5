"""Where an NBD export is: its URI taken apart, as the NBD project's doc/uri.md defines it. Pure."""

from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

from p2vd.copying.errors import SourceRefused

PORT = 10809
"""IANA's port of NBD."""

_SCHEMES = {
    "nbd": (False, False),
    "nbds": (True, False),
    "nbd+unix": (False, True),
    "nbds+unix": (True, True),
}


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


def parse(uri: str) -> NbdAddress:
    """Return what `uri` names. Raises SourceRefused."""
    try:
        return _parse(uri)
    except ValueError as error:
        raise SourceRefused(uri, f"{error}.") from error


def _parse(uri: str) -> NbdAddress:
    parts = urlsplit(uri)
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"{parts.scheme}:// is no scheme of NBD; there are {', '.join(_SCHEMES)}")
    tls, unix = _SCHEMES[parts.scheme]
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
