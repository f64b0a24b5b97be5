"""What the daemon asks of the helper that looks into image files, and what it answers. Pure.

The helper is disposable: a file server can hang whoever asks it, so the daemon waits no longer than a
deadline for the next answer and then goes on without it. It answers once for each image, in the order in
which they were named, and ends. While it reads an image to its end it says in between that it goes on.
"""

from dataclasses import dataclass
from typing import Any

from p2vd.model.forms import SIZE_UNKNOWN, SourceFormat

MOST_IMAGES = 32
"""In one request: all are opened before the first is looked into."""

MOST_BYTES = 1 << 63
"""No disk has as many, nor can a file's size be (Linux's loff_t)."""

GOES_ON: dict[str, Any] = {}
"""What a helper says that has no answer yet, but has read on since it said something last."""


@dataclass(frozen=True)
class ImageToAsk:
    """An image file as discovery saw it. `read_all`: read it to its end, if nothing less tells the size."""

    path: str
    file_id: str
    format: SourceFormat
    read_all: bool = False


@dataclass(frozen=True)
class AskRequest:
    """Images to look into, as the user of the copies, who is to read them."""

    images: tuple[ImageToAsk, ...]
    worker_uid: int
    worker_gid: int


@dataclass(frozen=True)
class Answer:
    """What is in the image of that `path`: a disk of so many bytes, or `problem`, why none can be copied.

    `unread`: for the file could not be read, which may pass.
    """

    path: str
    size_bytes: int = SIZE_UNKNOWN
    problem: str = ""
    unread: bool = False

    def __post_init__(self) -> None:
        if not SIZE_UNKNOWN <= self.size_bytes < MOST_BYTES:
            raise ValueError(f"{self.path}: no disk has {self.size_bytes} bytes")
