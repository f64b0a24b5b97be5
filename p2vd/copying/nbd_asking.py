"""What the daemon asks of the helper that asks NBD servers, and what it answers. Pure.

The helper is disposable: a server, or the resolver of its name, can keep whoever asks waiting. It answers
once for each export, in any order, and may be asked of more meanwhile; it ends when the daemon closes the
channel. Of what it says nothing until the daemon's deadline, nothing is known.
"""

from dataclasses import dataclass

from p2vd.copying.terms import NbdServer

MOST_EXPORTS = 64
"""Of one helper at once: each is asked on a thread of its own."""


@dataclass(frozen=True)
class ExportsRequest:
    """Exports to ask. `privileged`: their keys or sockets are root's; else the worker's user asks.

    Of one helper all requests are the same in that.
    """

    servers: tuple[NbdServer, ...]
    privileged: bool
    worker_uid: int
    worker_gid: int


@dataclass(frozen=True)
class ExportAnswer:
    """What the server of the export at `uri` says, or `problem`, why it says nothing.

    `edges`: the digests of the first and last MiB, empty where they could not be read (`unread`, why).
    """

    uri: str
    size_bytes: int = 0
    edges: str = ""
    unread: str = ""
    read_only: bool = True
    problem: str = ""
