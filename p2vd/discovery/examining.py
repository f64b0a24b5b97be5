"""What the daemon asks of the helper that looks at a disk's contents, and what it answers. Pure.

The helper is disposable: reading a sick disk can hang, so the daemon waits for each answer no longer
than a deadline and then goes on without it. It answers one request after the other until the
channel is closed.
"""

from dataclasses import dataclass
from typing import Any

from p2vd.model.codec import from_dict, to_dict
from p2vd.model.contents import Contents

READY = {"ready": True}
"""What the helper says first, once it has started."""


@dataclass(frozen=True)
class ExamineRequest:
    """A source as discovery saw it. `scsi_paths` (`sda`) are asked for reservations; an image has none."""

    devnode: str
    size_bytes: int
    sector_size: int
    dm_uuid: str = ""
    scsi_paths: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExamineReply:
    """The contents, or why they could not be read."""

    contents: Contents | None = None
    problem: str = ""


def encode(message: ExamineRequest | ExamineReply) -> dict[str, Any]:
    """Return `message` as the object that goes over the channel."""
    data: dict[str, Any] = to_dict(message)
    return data


def decode_request(data: dict[str, Any]) -> ExamineRequest:
    """Return the request in `data`. Raises ValueError where it does not fit."""
    return from_dict(ExamineRequest, data)


def decode_reply(data: dict[str, Any]) -> ExamineReply:
    """Return the reply in `data`. Raises ValueError where it does not fit."""
    return from_dict(ExamineReply, data)
