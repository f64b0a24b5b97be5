"""The keys of an NBD export: whether they fit it, are there, and are private."""

import stat
from pathlib import Path

from p2vd.copying.errors import SourceRefused
from p2vd.copying.terms import NbdServer
from p2vd.model.nbd import NbdAddress, key_problems

_AUTHORITIES = "ca-cert.pem"
_CLIENT_KEY = "client-key.pem"


def require_usable(server: NbdServer, address: NbdAddress) -> None:
    """See that the keys fit the export at `address`, and that their files are there. Raises SourceRefused."""
    problems = list(key_problems(address, server.certificates, server.psk_file))
    if not problems:
        if server.certificates and not (Path(server.certificates) / _AUTHORITIES).is_file():
            place = server.certificates
            problems.append(f"there is no {_AUTHORITIES} in {place}, by which to know the server")
        if server.psk_file and not Path(server.psk_file).is_file():
            problems.append(f"there is no PSK file {server.psk_file}")
    if problems:
        raise SourceRefused(server.uri, f"{'; '.join(problems)}.")


def require_private(server: NbdServer) -> None:
    """See that nobody but their owner reads the keys of a daemon that is root. Raises SourceRefused."""
    keys = [Path(server.psk_file)] if server.psk_file else []
    keys += [Path(server.certificates) / _CLIENT_KEY] if server.certificates else []
    for key in keys:
        if key.exists() and stat.S_IMODE(key.stat().st_mode) & 0o077:
            raise SourceRefused(server.uri, f"others may read the key {key}: chmod 600 {key}.")
