"""NBD exports as sources: for the tool, and for the worker that soon has no privileges.

An export has no WWID. Its identity is its URI, its size, and the digests of its first and last MiB, looked
at again whenever it is connected to anew. That finds a server that serves another disk, unless both disks
have the same size and the same first and last MiB, as clones of one image may have; at resume 64 random
MiB of what was copied are compared too. What a server says of its size, its holes and its contents cannot
be proven from here: one that lies in all of its answers is believed.
"""

import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace

from p2vd.copying.controls import Controls, Gauge
from p2vd.copying.devices import Source
from p2vd.copying.endpoints import Endpoint
from p2vd.copying.errors import OpenFailed
from p2vd.copying.forms import Asked, Handed, OpenSource
from p2vd.copying.nbd_connection import Connection
from p2vd.copying.nbd_device import NbdDevice
from p2vd.copying.nbd_dialer import Dialer, over
from p2vd.copying.nbd_errors import ConnectionLost, Lost
from p2vd.copying.nbd_keys import require_private
from p2vd.copying.nbd_pool import Connections
from p2vd.copying.terms import NbdServer
from p2vd.model.nbd import NbdAddress

log = logging.getLogger(__name__)

_SECTOR = 512  # NBD does not tell a disk's logical sectors


def open_source(asked: Asked) -> OpenSource:
    """Connect to the export that the command line names. Raises OpenFailed, SourceRefused."""
    server = asked.source_form.nbd
    if server is None:
        raise ValueError("no NBD server was named")
    dialer = Dialer(server, asked.ended)
    connections = _connected(dialer, asked.threads, dialer.address)
    device = _device(connections, server, asked.controls, asked.gauge, asked.bad_sectors)
    endpoint = Endpoint(-1, dialer.address.id, device.size_bytes, _SECTOR)
    return OpenSource(endpoint, device, device.close)


def handed_source(handed: Handed) -> Callable[[], Source]:
    """Connect as far as that needs privileges; what is returned does the rest.

    Raises SourceRefused; ConnectionLost where the server does not answer, which is no refusal: it may be back
    later.
    """
    server = handed.start.source_form.nbd
    if server is None:
        raise ValueError("no NBD server was named")
    require_private(server)
    with _lost(server):
        finish = _handed(handed, server)

    def finished() -> Source:
        with _lost(server):
            return finish()

    return finished


@contextlib.contextmanager
def _lost(server: NbdServer) -> Iterator[None]:
    try:
        yield
    except OpenFailed as error:
        raise ConnectionLost(server.uri, 0, 0, error.cause) from error
    except Lost as error:
        raise ConnectionLost(server.uri, 0, 0, str(error)) from error


def _handed(handed: Handed, server: NbdServer) -> Callable[[], Source]:
    start, ended = handed.start, handed.ended
    dialer = Dialer(server, ended)
    export, threads = dialer.address.export, start.queue_depth

    def device(connections: Connections, reconnect_s: float) -> Source:
        lasting = replace(server, reconnect_s=reconnect_s)
        return _device(connections, lasting, handed.controls, handed.gauge, start.bad_sectors)

    if dialer.address.tls:
        made = _Once(dialer)
        secured = _connected(made, threads, dialer.address)
        made.privileged = False
        return lambda: device(secured, 0)
    if dialer.address.socket:
        peers = [_dialled(dialer) for _ in range(threads)]

        def from_here() -> Source:
            connections = _connected(lambda: over(_next(peers), export, ended), threads, dialer.address)
            while peers:  # the server lets one client have fewer
                peers.pop().close()
            return device(connections, 0)

        return from_here
    return lambda: device(_connected(dialer, threads, dialer.address), server.reconnect_s)


class _Once:
    """Connects as long as there are privileges: keys are read from files at each handshake."""

    def __init__(self, dialer: Dialer):
        self._dialer = dialer
        self.privileged = True

    def __call__(self) -> Connection:
        if not self.privileged:
            raise Lost("a connection with TLS is made anew by the next worker")
        return self._dialer()


def _next(peers: list[socket.socket]) -> socket.socket:
    if not peers:
        raise Lost("a connection over a Unix socket is made anew by the next worker")
    return peers.pop()


def _dialled(dialer: Dialer) -> socket.socket:
    try:
        return dialer.dial()
    except Lost as error:
        raise OpenFailed(dialer.address.uri, str(error)) from error


def _connected(connect: Callable[[], Connection], threads: int, address: NbdAddress) -> Connections:
    try:
        return Connections(connect, threads)
    except Lost as error:
        raise OpenFailed(address.uri, str(error)) from error


def _device(
    connections: Connections, server: NbdServer, controls: Controls, gauge: Gauge, bad_sectors: int
) -> NbdDevice:
    if not connections.first.read_only:
        log.warning(
            "%s: the server lets clients write; start it read-only (nbdkit -r, qemu-nbd -r)", server.uri
        )
    device = NbdDevice(connections, server.uri, gauge, controls, server.reconnect_s)
    device.remember(tolerant=bad_sectors > 0)
    if server.edges:
        device.expect(server.edges)
    return device
