"""Connections to one NBD export, made by libnbd: over TCP, with TLS, or through a Unix socket.

Whoever dials hears a stop within a second or two, also where a firewall drops every packet. python3-libnbd
1.14 takes no TCP address in `aio_connect` ("unknown address type"), so each address of a host goes to
`aio_connect_tcp` as numbers, which are not resolved again.
"""

import socket
from collections.abc import Callable

import nbd

from p2vd.copying.errors import OpenFailed
from p2vd.copying.nbd_address import parse
from p2vd.copying.nbd_connection import Connection, negotiate
from p2vd.copying.nbd_errors import Lost
from p2vd.copying.nbd_keys import require_usable
from p2vd.copying.nbd_resolver import addresses
from p2vd.copying.terms import NbdServer


class Dialer:
    """Makes connections to one export. A host's name is resolved once, here; with TLS, each time.

    Raises SourceRefused where the URI or the keys make no sense, OpenFailed where there is no such host, and
    Interrupted.
    """

    def __init__(self, server: NbdServer, ended: Callable[[], bool]):
        self.address = parse(server.uri)
        self._server = server
        self._ended = ended
        require_usable(server, self.address)
        self._places = [] if self.address.tls or self.address.socket else self._resolve()

    def __call__(self) -> Connection:
        """Connect. Raises Lost, Interrupted; OpenFailed where there is no such host."""
        if self.address.tls:
            return self._with_tls()
        if self.address.socket:
            return over(self.dial(), self.address.export, self._ended)
        causes: dict[str, None] = {}
        for host, port in self._places:
            try:  # a host may know no such family: then the next
                return self._over_tcp(host, port)
            except Lost as error:
                causes[str(error)] = None
        raise Lost("; ".join(causes) or "it has no address")

    def dial(self) -> socket.socket:
        """Connect a socket to the server on a Unix socket, and say nothing. Raises Lost."""
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        peer.setblocking(False)  # a server whose queue is full is told at once
        try:
            peer.connect(self.address.socket)
        except OSError as error:
            peer.close()
            raise Lost(error.strerror or str(error)) from error
        return peer

    def _over_tcp(self, host: str, port: str) -> Connection:
        handle = nbd.NBD()
        handle.set_export_name(self.address.export)
        return negotiate(handle, lambda: handle.aio_connect_tcp(host, port), self._ended)

    def _with_tls(self) -> Connection:
        address, server, handle = self.address, self._server, nbd.NBD()
        handle.set_export_name(address.export)
        handle.set_tls(nbd.TLS_REQUIRE)
        if address.username:
            handle.set_tls_username(address.username)
        if server.psk_file:
            handle.set_tls_psk_file(server.psk_file)
        else:
            handle.set_tls_verify_peer(True)
            if server.certificates:
                handle.set_tls_certificates(server.certificates)
        if address.socket:
            return negotiate(handle, lambda: handle.aio_connect_unix(address.socket), self._ended)
        self._resolve()  # libnbd does it again, at once, and would hear no stop while nobody answers
        # By name, not by its numbers: the certificate must be for that name.
        return negotiate(handle, lambda: handle.aio_connect_tcp(address.host, str(address.port)), self._ended)

    def _resolve(self) -> list[tuple[str, str]]:
        address = self.address
        try:
            return addresses(address.host, address.port, self._ended)
        except (OSError, UnicodeError) as error:
            raise OpenFailed(address.uri, getattr(error, "strerror", "") or str(error)) from error


def over(peer: socket.socket, export: str, ended: Callable[[], bool]) -> Connection:
    """Speak NBD over a connected socket, which libnbd closes. Raises Lost, Interrupted."""
    handle = nbd.NBD()
    handle.set_export_name(export)
    return negotiate(handle, lambda: handle.aio_connect_socket(peer.detach()), ended)
