"""What the daemon asks of the helper that asks NBD servers, and what it answers. Pure.

The helper is disposable: a server, or the resolver of its name, can keep whoever asks waiting. It answers
once for each export, in any order, and may be asked of more meanwhile; it ends when the daemon closes the
channel. Of what it says nothing until the daemon's deadline, nothing is known.
"""

from dataclasses import dataclass
from typing import Any

from p2vd.copying.terms import NbdServer
from p2vd.model.codec import from_dict, to_dict

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


def encode(message: ExportsRequest | ExportAnswer) -> dict[str, Any]:
    """Return `message` as the object that goes over the channel."""
    data: dict[str, Any] = to_dict(message)
    return data


def decode_request(data: dict[str, Any]) -> ExportsRequest:
    """Return the request in `data`. Raises ValueError where it does not fit."""
    return from_dict(ExportsRequest, data)


def decode_answer(data: dict[str, Any]) -> ExportAnswer:
    """Return the answer in `data`. Raises ValueError where it does not fit."""
    return from_dict(ExportAnswer, data)
