"""The disposable helper that looks into image files: how large the disk in each is, and whether it is whole.

`python -m p2vd.copying.asker --channel FD`. It opens the files, gives up every privilege, and only then
reads what strangers wrote. What takes as long as the image is large (`qemu-img check`, decompression) is left
to the copy, which does it before its first byte.
"""

import argparse
import logging
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence

from p2vd.copying.asking import GOES_ON, Answer, AskRequest, ImageToAsk
from p2vd.copying.controls import Gauge, Interrupted
from p2vd.copying.errors import OpenFailed, ReadFailed
from p2vd.model.codec import from_dict, to_dict
from p2vd.model.errors import P2vdError
from p2vd.model.forms import PACKED, SourceFormat
from p2vd.system import block, privileges
from p2vd.system.clock import Clock, SystemClock
from p2vd.system.command import CommandNotStarted
from p2vd.system.descriptors import SeqpacketChannel

_SIGN_S = 5.0

Ended = Callable[[], bool]
GoesOn = Callable[[], None]
"""Hears that something more was read. Raises Interrupted."""
Look = Callable[[ImageToAsk, int, Ended], int]
"""Returns the size of the disk in an image. Raises P2vdError, OSError, Interrupted."""


def answers(
    request: AskRequest, ended: Ended = lambda: False, goes_on: GoesOn = lambda: None
) -> Iterator[Answer]:
    """Open every image, drop the privileges, and yield what is in each.

    `goes_on` hears while one is read to its end; a look is quick, or not worth waiting for. Raises
    PrivilegesKept, and Interrupted when `ended` says that nobody waits any more.
    """
    looks = {form: _look_for(form, goes_on) for form in {image.format for image in request.images}}
    opened = [open_image(image) for image in request.images]
    privileges.become(request.worker_uid, request.worker_gid)
    for image, found in zip(request.images, opened, strict=True):
        if isinstance(found, str):
            yield Answer(image.path, problem=found, unread=True)
            continue
        try:
            yield _answer(image, found, looks[image.format], ended)
        finally:
            os.close(found)


def open_image(image: ImageToAsk) -> int | str:
    """Return the image's descriptor, or why there is none."""
    try:
        # O_NONBLOCK: what was put in the place of a file may wait for a peer.
        fd = os.open(image.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return f"{image.path} cannot be opened: {error.strerror or error}."
    try:
        if stat.S_ISREG(os.fstat(fd).st_mode) and block.file_id(fd) == image.file_id:
            return fd
        problem = f"{image.path} is another file than a moment ago. Rescan (p2vctl rescan)."
    except OSError as error:
        problem = f"{image.path} cannot be looked at: {error.strerror or error}."
    os.close(fd)
    return problem


def _look_for(form: SourceFormat, goes_on: GoesOn) -> Look | str:
    """Return what looks into images of that form, or what of it is not installed: not all of it is needed."""
    try:
        if form in PACKED:
            from p2vd.copying import packed_source as packed

            def look(image: ImageToAsk, fd: int, ended: Ended) -> int:
                if not image.read_all:
                    return packed.told_size(fd, image.path, form, ended)

                def ended_by_now() -> bool:
                    goes_on()
                    return ended()

                # By reads and by blocks: each may be many of the other.
                gauge = Gauge(SystemClock(), lambda began, ended: goes_on())
                return packed.packed_source(fd, form, gauge, ended_by_now, name=image.path).size_bytes

            return look
        from p2vd.copying import image_forms

        return lambda image, fd, ended: image_forms.disk_size(fd, image.path, form, thorough=False)
    except ImportError as error:
        return f"{error}; install {'python3-zstandard' if form in PACKED else 'python3-libnbd'}"


def _answer(image: ImageToAsk, fd: int, look: Look | str, ended: Ended) -> Answer:
    if isinstance(look, str):
        return Answer(image.path, problem=f"{image.path} cannot be looked into: {look}.")
    try:
        return Answer(image.path, look(image, fd, ended))
    except (OpenFailed, ReadFailed, CommandNotStarted) as error:
        return Answer(image.path, problem=str(error), unread=True)
    except P2vdError as error:
        return Answer(image.path, problem=str(error))
    except OSError as error:
        why = f"{image.path} cannot be read: {error.strerror or error}."
        return Answer(image.path, problem=why, unread=True)


class _Signs:
    """Tells the daemon every few seconds that something was read: silence is what hangs, and nothing else."""

    def __init__(self, channel: SeqpacketChannel, clock: Clock) -> None:
        self._channel, self._clock = channel, clock
        self._said_s = clock.monotonic()

    def goes_on(self) -> None:
        """Hear of it, and tell it if that is due. Raises Interrupted."""
        now_s = self._clock.monotonic()
        if now_s - self._said_s < _SIGN_S:
            return
        self._said_s = now_s
        try:
            self._channel.send(GOES_ON)
        except BrokenPipeError:
            raise Interrupted from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer one request on the inherited channel."""
    parser = argparse.ArgumentParser(prog="p2vd-asker", description=__doc__)
    parser.add_argument("--channel", type=int, required=True)
    logging.basicConfig(level=logging.WARNING, format="p2vd-asker %(levelname)s: %(message)s")
    os.nice(10)  # it is never urgent, and may unpack for hours
    with SeqpacketChannel.from_fd(parser.parse_args(arguments).channel) as channel:
        packet = channel.receive()
        if packet is None:
            return 1
        try:
            signs = _Signs(channel, SystemClock())
            request = from_dict(AskRequest, packet[0])
            for answer in answers(request, channel.peer_is_gone, signs.goes_on):
                channel.send(to_dict(answer))
        except (BrokenPipeError, Interrupted):
            return 1  # the daemon did not wait for us
    return 0


if __name__ == "__main__":
    sys.exit(main())
