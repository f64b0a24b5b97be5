"""Disks that no device of this host shows, open for a look at a few places before their copy.

In a process that can be done without: what strangers wrote is read there once the privileges are gone. An
image that can only be read from its start is not opened: to read the end of its disk is to read all of it.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from p2vd.copying.asking import ImageToAsk
from p2vd.copying.controls import Gauge
from p2vd.copying.errors import SourceRefused
from p2vd.copying.layout import BLOCK
from p2vd.copying.nbd_errors import Lost
from p2vd.copying.terms import NbdServer
from p2vd.model.errors import P2vdError
from p2vd.model.forms import PACKED, SIZE_UNKNOWN
from p2vd.model.size import MIB
from p2vd.system.clock import SystemClock

if TYPE_CHECKING:
    from p2vd.copying.framed_source import FramedSource
    from p2vd.copying.nbd_connection import Connection
    from p2vd.copying.streams import StreamSource

MOST_LEAD_BYTES = 64 * MIB
"""So much of a compressed disk is unpacked to get to one place: the blocks of `xz -T` hold 24 MiB, those of
`xz -T -9` 192. A disk that has no more is unpacked whole.
"""

MOST_UNPACKED_BYTES = 1024 * MIB
MOST_UNPACKING_S = 30.0
"""What all places together may take: less than the daemon waits for."""

Ended = Callable[[], bool]


@dataclass(eq=False)
class InOrderOnly(P2vdError):
    """A compressed image of which one place cannot be read without all before it."""

    why: str
    template: ClassVar[str] = (
        "it can only be read from its start ({why}). Packed anew by p2vd-copy (--target-format raw.zst) it "
        "can be looked at."
    )


@dataclass(eq=False)
class UnpacksTooLong(P2vdError):
    """A compressed image whose places could be reached, but not in the time that a look has."""

    what: str
    template: ClassVar[str] = (
        "to unpack what lies before each place takes too long here ({what}). Packed anew by p2vd-copy "
        "(--target-format raw.zst) it can be looked at."
    )


@dataclass(eq=False)
class OtherDisk(P2vdError):
    """It is not the disk that discovery saw."""

    disk: str
    what: str
    template: ClassVar[str] = "{disk} holds another disk now: {what}. Rescan (p2vctl rescan)."


@dataclass(eq=False)
class ImageUnread(P2vdError):
    """The image file cannot be opened, or is another one."""

    problem: str
    template: ClassVar[str] = "{problem}"


@dataclass(frozen=True)
class LookedAt:
    """A disk that is open. `read` returns exactly the bytes asked for, all of which are within the disk.

    It raises P2vdError, Lost, OSError, Interrupted.
    """

    size_bytes: int
    read: Callable[[int, int], bytes]
    close: Callable[[], None]


def export(server: NbdServer, *, privileged: bool, edges: str, ended: Ended) -> Callable[[], LookedAt]:
    """Reach an export as far as that needs privileges; what is returned does the rest.

    `edges`: how it began and ended when it was found, "" where that could not be read. Both raise
    SourceRefused, OpenFailed, Lost, Interrupted, ImportError (no libnbd); what is returned OtherDisk and
    OSError, too.
    """
    from p2vd.copying.nbd_device import edge_digests, edges_text
    from p2vd.copying.nbd_dialer import Dialer
    from p2vd.copying.nbd_keys import require_private

    def opened(connection: "Connection") -> LookedAt:
        size = connection.size_bytes
        if edges and edges_text(edge_digests(connection, size)) != edges:
            raise OtherDisk(server.uri, "its first or last MiB, or its size, is another")
        return LookedAt(size, _reader(connection), connection.close)

    require_private(server)
    if not privileged:
        return lambda: opened(Dialer(server, ended)())
    connection = Dialer(server, ended)()
    return lambda: opened(connection)


def image(wanted: ImageToAsk, size_bytes: int, ended: Ended) -> Callable[[], LookedAt]:
    """Open an image file, in which is a disk of so many bytes; what is returned reads it, without privileges.

    Raises ImageUnread; what is returned InOrderOnly, OtherDisk, SourceRefused, OpenFailed, OSError,
    Interrupted, ImportError (no libnbd, no zstandard).
    """
    from p2vd.copying.asker import open_image

    fd = open_image(wanted)
    if isinstance(fd, str):
        raise ImageUnread(fd)
    if wanted.format in PACKED:
        return lambda: _packed(fd, wanted, size_bytes, ended)
    return lambda: _served(fd, wanted, ended)


def _served(fd: int, wanted: ImageToAsk, ended: Ended) -> LookedAt:
    """By a qemu-nbd of our own, which ends with us."""
    from p2vd.copying import image_forms, qemu
    from p2vd.copying.nbd_dialer import over

    def refuse(problem: str) -> SourceRefused:
        return SourceRefused(wanted.path, problem)

    image_forms.disk_size(fd, wanted.path, wanted.format, ended=ended, thorough=False)
    node = qemu.node(wanted.format, fd, direct=image_forms.has_direct_io(fd, os.O_RDONLY))
    server = qemu.serve(node, fd, writable=False, connections=1, user=None, refuse=refuse)

    @contextlib.contextmanager
    def refused_if_lost() -> Iterator[None]:
        try:
            yield
        except Lost as error:
            raise server.refusal(error, refuse) from error

    try:
        with refused_if_lost():
            connection = over(server.peers.pop(), "", ended)
    except BaseException:
        server.end()
        raise
    read_served = _reader(connection)

    def read(offset: int, length: int) -> bytes:
        with refused_if_lost():
            return read_served(offset, length)

    def close() -> None:
        connection.close()
        server.end()

    return LookedAt(connection.size_bytes, read, close)


def _reader(connection: "Connection") -> Callable[[int, int], bytes]:
    """Return what reads an export in pieces that its server takes."""
    size, most = connection.size_bytes, min(BLOCK, connection.most)

    def read(offset: int, length: int) -> bytes:
        start = offset // connection.least * connection.least
        end = min(size, -(-(offset + length) // connection.least) * connection.least)
        data = bytearray(end - start)
        view = memoryview(data)
        for at in range(0, len(data), most):
            connection.read(view[at : at + most], start + at)
        return bytes(data[offset - start : offset - start + length])

    return read


def _packed(fd: int, wanted: ImageToAsk, size_bytes: int, ended: Ended) -> LookedAt:
    from p2vd.copying.packed_source import packed_source, told_size
    from p2vd.copying.streams import StreamSource

    told = told_size(fd, wanted.path, wanted.format, ended)
    if told == SIZE_UNKNOWN and size_bytes > MOST_LEAD_BYTES:
        raise InOrderOnly(f"this .{wanted.format.value} has no index")
    source = packed_source(fd, wanted.format, Gauge(SystemClock()), ended, size_bytes, wanted.path)
    if source.size_bytes != size_bytes:
        raise OtherDisk(wanted.path, f"it has {source.size_bytes} bytes")
    if isinstance(source, StreamSource):
        read = _all_of(source) if size_bytes <= MOST_LEAD_BYTES else _near_points(source)
    else:
        read = _reads(source)
    return LookedAt(size_bytes, read, lambda: os.close(fd))


def _reads(source: "FramedSource | StreamSource") -> Callable[[int, int], bytes]:
    from p2vd.copying.devices import Buffer

    buffer = Buffer()

    def read(offset: int, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            part = min(BLOCK, length - len(data))
            source.read(buffer, offset + len(data), part)
            data += buffer.view[:part]
        return bytes(data)

    return read


def _all_of(source: "StreamSource") -> Callable[[int, int], bytes]:
    """Return what reads a small disk, which is unpacked once: to go back is to begin again."""
    whole = _reads(source)(0, source.size_bytes)
    return lambda offset, length: whole[offset : offset + length]


def _near_points(source: "StreamSource") -> Callable[[int, int], bytes]:
    """Return what reads at places that lie near one where unpacking can begin.

    It raises InOrderOnly where one does not, and UnpacksTooLong.
    """
    read, until = _reads(source), time.monotonic() + MOST_UNPACKING_S

    def expect_near(offset: int) -> None:
        lead = source.lead(offset)
        if lead > MOST_LEAD_BYTES:
            raise InOrderOnly(f"{lead // MIB} MiB have to be unpacked to get to one place")
        if source.unpacked_bytes + lead > MOST_UNPACKED_BYTES:
            raise UnpacksTooLong(f"more than {MOST_UNPACKED_BYTES // MIB} MiB")
        if time.monotonic() >= until:
            raise UnpacksTooLong(f"more than {MOST_UNPACKING_S:.0f} s")

    def near(offset: int, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            at = offset + len(data)
            expect_near(at)
            data += read(at, min(length - len(data), BLOCK - at % BLOCK))
        return bytes(data)

    return near
