"""The disposable helper that asks NBD servers how large an export is, and how it begins and ends.

`python -m p2vd.copying.nbd_asker --channel FD`. A plain TCP server is listened to without privileges; keys
and Unix sockets are root's, so for these the privileges stay until the process ends, as for a copy's
handshake.
"""

import argparse
import contextlib
import logging
import sys
import threading
from collections.abc import Sequence

from p2vd.copying.nbd_asking import ExportAnswer, ExportsRequest
from p2vd.copying.nbd_errors import Lost
from p2vd.copying.terms import NbdServer
from p2vd.model.codec import from_dict, to_dict
from p2vd.model.errors import P2vdError
from p2vd.system import privileges
from p2vd.system.descriptors import SeqpacketChannel

# Before the privileges go, and on the main thread; a host that reads no NBD exports need not have it.
try:
    from p2vd.copying.nbd_device import edge_digests, edges_text
    from p2vd.copying.nbd_dialer import Dialer
    from p2vd.copying.nbd_keys import require_private
except ImportError as error:
    _absent = f"{error}; install python3-libnbd"
else:
    _absent = ""

log = logging.getLogger(__name__)


def ask(server: NbdServer) -> ExportAnswer:
    """Return what a server says of an export; what goes wrong is an answer too, also a fault of ours."""
    try:
        return _ask(server)
    except Exception as error:
        # The daemon would wait for it, and take it for a server that hangs.
        log.exception("%s cannot be asked", server.uri)
        return ExportAnswer(server.uri, problem=f"{server.uri} cannot be asked: {error}.")


def _ask(server: NbdServer) -> ExportAnswer:
    if _absent:
        return ExportAnswer(server.uri, problem=f"{server.uri} cannot be asked: {_absent}.")
    try:
        require_private(server)
        connection = Dialer(server, lambda: False)()
    except Lost as error:
        return ExportAnswer(server.uri, problem=f"{server.uri} does not answer: {error}.")
    except P2vdError as error:
        return ExportAnswer(server.uri, problem=str(error))
    size, read_only = connection.size_bytes, connection.read_only
    try:
        edges = edges_text(edge_digests(connection, size))
    except Lost as error:
        return ExportAnswer(server.uri, problem=f"{server.uri} was lost while it was asked: {error}.")
    except OSError as error:
        return ExportAnswer(server.uri, size, unread=error.strerror or str(error), read_only=read_only)
    finally:
        connection.close()
    return ExportAnswer(server.uri, size, edges, read_only=read_only)


def answer_all(first: ExportsRequest, channel: SeqpacketChannel) -> None:
    """Ask every server at once, of this request and of those that follow, and tell what each says.

    Until nobody waits any more. Raises PrivilegesKept, ValueError for a request that is none, or that wants
    other privileges.
    """
    if not first.privileged:
        privileges.become(first.worker_uid, first.worker_gid)
    telling = threading.Lock()

    def tell(server: NbdServer) -> None:
        answer = to_dict(ask(server))
        # Else nobody waits: the process is about to end.
        with telling, contextlib.suppress(BrokenPipeError, TimeoutError):
            channel.send(answer)

    request: ExportsRequest | None = first
    while request is not None:
        if request.privileged is not first.privileged:
            raise ValueError("a request that wants other privileges than the first")
        for server in request.servers:
            # Not waited for at the end: one may hang in a read of a key.
            threading.Thread(target=tell, args=(server,), daemon=True).start()
        packet = channel.receive()
        request = None if packet is None else from_dict(ExportsRequest, packet[0])


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer requests on the inherited channel, until it is closed."""
    parser = argparse.ArgumentParser(prog="p2vd-nbd-asker", description=__doc__)
    parser.add_argument("--channel", type=int, required=True)
    logging.basicConfig(level=logging.WARNING, format="p2vd-nbd-asker %(levelname)s: %(message)s")
    with SeqpacketChannel.from_fd(parser.parse_args(arguments).channel) as channel:
        packet = channel.receive()
        if packet is None:
            return 1
        answer_all(from_dict(ExportsRequest, packet[0]), channel)
    return 0


if __name__ == "__main__":
    sys.exit(main())
