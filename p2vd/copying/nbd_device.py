"""An NBD export as a source, and as a target that QEMU writes to, behind the interfaces of `devices`."""

import errno
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import tenacity

from p2vd.copying.controls import Controls, Gauge
from p2vd.copying.devices import Buffer
from p2vd.copying.digests import DigestKind
from p2vd.copying.errors import PoolFull, ReadFailed, SourceRefused, WriteFailed
from p2vd.copying.layout import BLOCK, SUB_BLOCK, ZERO_WORK_BLOCKS, Extent
from p2vd.copying.nbd_connection import Connection
from p2vd.copying.nbd_errors import ConnectionLost, Lost, SourceSwapped
from p2vd.copying.nbd_pool import Connections

log = logging.getLogger(__name__)

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_FIRST_WAIT_S = 0.25
_LONGEST_WAIT_S = 10.0
_SECTOR = 512
T = TypeVar("T")


def edge_digests(connection: Connection, size_bytes: int, *, tolerant: bool = False) -> tuple[bytes, ...]:
    """Of the first and last MiB; empty where one cannot be read. Raises OSError unless `tolerant`, Lost."""
    if not size_bytes:
        return ()
    buffer, found, most = Buffer(), [], min(BLOCK, connection.most)
    for start in (0, (size_bytes - 1) // BLOCK * BLOCK):
        length = min(BLOCK, size_bytes - start)
        try:
            for at in range(0, length, most):
                connection.read(buffer.view[at : min(length, at + most)], start + at)
        except OSError:
            if not tolerant:
                raise
            found.append(b"")
        else:
            found.append(DigestKind.XXH3.of(buffer.view[:length]))
    return tuple(found)


def edges_text(digests: Sequence[bytes]) -> str:
    """Return the digests of an export's first and last MiB as one word, by which it is known again."""
    return "-".join(digest.hex() for digest in digests)


@dataclass
class NbdDevice:
    """An export for reading. A read that a lost connection cut is done again: it changes nothing.

    `reconnect_s`: how long that is tried; 0: not at all. `served_by`: a child of ours that is the server;
    when it ends, it stays away.
    """

    connections: Connections
    name: str
    gauge: Gauge
    controls: Controls
    reconnect_s: float = 0.0
    reading: str = "read"
    served_by: str = ""
    _edges: tuple[bytes, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        first = self.connections.first
        self.size_bytes = first.size_bytes
        self.align = max(first.least, _SECTOR)
        self._most = min(BLOCK, first.most)
        self._knows_extents = first.knows_extents

    def read(self, buffer: Buffer, offset: int, length: int, at: int = 0) -> None:
        """Fill `length` bytes of the buffer from its byte `at` on. Raises ReadFailed, SourceSwapped."""
        for done in range(0, length, self._most):
            part = buffer.view[at + done : at + min(length, done + self._most)]
            place = offset + done

            def fill(connection: Connection, part: memoryview = part, place: int = place) -> None:
                connection.read(part, place)

            self._ask(self.reading, place, length - done, fill)

    def extents(self, start: int, length: int) -> Iterator[Extent]:
        """What the server knows to be zero; all is data where it knows nothing."""
        end = start + length
        while start < end:
            left = end - start
            for count, zero in self._status(start, left) if self._knows_extents else [(left, False)]:
                count = min(count, end - start)
                if count > 0:
                    yield Extent(start, count, zero)
                    start += count

    def remember(self, *, tolerant: bool) -> None:
        """Read the first and last MiB: from now on a server that comes back must serve the same.

        `tolerant`: what cannot be read is not compared. Raises SourceRefused where the server does not
        give what it says that it has.
        """
        try:
            with self.connections.use() as connection:
                self._edges = edge_digests(connection, self.size_bytes, tolerant=tolerant)
        except OSError as error:
            raise SourceRefused(
                self.name,
                f"it says that it has {self.size_bytes} bytes, and does not give its first or last MiB: "
                f"{error.strerror}.",
            ) from error
        self.connections.prove = self._prove

    def expect(self, edges: str) -> None:
        """See that what was remembered is what `edges_text` said, as far as it could be read.

        Raises SourceSwapped.
        """
        for which, before, now in zip(("first", "last"), edges.split("-"), self._edges, strict=True):
            if now and before and now.hex() != before:
                raise SourceSwapped(self.name, f"its {which} MiB is another")

    def close(self) -> None:
        """End the conversation."""
        self.connections.close()

    def _prove(self, connection: Connection) -> None:
        """See that a new connection leads to the same disk. Raises SourceSwapped, Lost."""
        if connection.size_bytes != self.size_bytes:
            what = f"the server now says {connection.size_bytes} bytes, it said {self.size_bytes}"
            raise SourceSwapped(self.name, what)
        for which, before, now in zip(
            ("first", "last"),
            self._edges,
            edge_digests(connection, self.size_bytes, tolerant=True),
            strict=True,
        ):
            if b"" not in (before, now) and before != now:
                raise SourceSwapped(self.name, f"its {which} MiB is another")

    def _status(self, start: int, length: int) -> list[tuple[int, bool]]:
        try:
            found = self._ask("read", start, length, lambda connection: connection.status(start, length))
        except ConnectionLost:
            raise
        except ReadFailed as error:
            if not error.errno:
                raise
            log.warning("%s Its holes are not known from there on; all is read.", error)
            self._knows_extents = False
            found = []
        return found if any(count > 0 for count, _ in found) else [(length, False)]

    def _ask(self, operation: str, offset: int, length: int, ask: Callable[[Connection], T]) -> T:
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(Lost),
            stop=tenacity.stop_after_delay(self.reconnect_s),
            wait=tenacity.wait_exponential(_FIRST_WAIT_S, max=_LONGEST_WAIT_S),
            sleep=self.controls.wait,
            before_sleep=self._tell,
            reraise=True,
        )
        try:
            with self.gauge.io(operation, offset):
                answer: T = retrying(self._once, ask)
                return answer
        except Lost as error:
            if self.served_by:
                cause = f"{self.served_by} ended: {error}"
                raise ReadFailed(self.name, offset, length, cause) from error
            raise ConnectionLost(self.name, offset, length, str(error)) from error
        except OSError as error:
            cause = error.strerror or str(error)
            raise ReadFailed(self.name, offset, length, cause, error.errno or 0) from error

    def _once(self, ask: Callable[[Connection], T]) -> T:
        with self.connections.use() as connection:
            return ask(connection)

    def _tell(self, state: tenacity.RetryCallState) -> None:
        if state.attempt_number == 1 and state.outcome is not None:
            log.warning(
                "%s: the connection is lost (%s); it is tried again for %g s",
                self.name,
                state.outcome.exception(),
                self.reconnect_s,
            )


@dataclass
class NbdTarget(NbdDevice):
    """An export of QEMU's that a disk is written to.

    `cluster_bytes`: of the image behind it. `once`: a cluster is written only where nothing is (a
    compressed one, which QEMU does not write twice); what is there is made a hole first. `alive`: raises
    OSError when the server has ended.
    """

    cluster_bytes: int = SUB_BLOCK
    once: bool = False
    admit: Callable[[int, int], None] = lambda offset, length: None
    alive: Callable[[], None] = lambda: None

    @property
    def skips_zeros(self) -> bool:
        """What was never written in a new image reads as zero."""
        return True

    def least_zero(self, skipped: bool) -> int:
        """A cluster is the least that a hole saves."""
        return max(self.cluster_bytes, SUB_BLOCK)

    def write(self, buffer: Buffer, start: int, offset: int, length: int) -> None:
        """Write bytes of the buffer."""
        self.admit(offset, length)

        def put(connection: Connection) -> None:
            if self.once and any(not zero for _, zero in connection.status(offset, length)):
                connection.zero(length, offset)
            connection.write(buffer.view[start : start + length], offset)

        self._put("write", offset, length, put)

    def zero(self, scratch: Buffer, offset: int, length: int) -> None:
        """Make a range zero, which QEMU promises whatever was there; whole clusters become holes."""
        step = ZERO_WORK_BLOCKS * BLOCK
        for at in range(offset, offset + length, step):
            part = min(step, offset + length - at)

            def put(connection: Connection, at: int = at, part: int = part) -> None:
                connection.zero(part, at)

            self._put("zero", at, part, put)

    def flush(self) -> None:
        """QEMU writes its tables and has the file flushed: the durability barrier."""
        self._put("flush", 0, self.size_bytes, lambda connection: connection.flush())

    def check(self) -> None:
        """See that the server that holds the image still runs. Raises TargetChanged."""
        try:
            self.alive()
        except OSError as error:
            raise WriteFailed(self.name, 0, self.size_bytes, f"its server (qemu-nbd): {error}") from error

    def _put(self, operation: str, offset: int, length: int, put: Callable[[Connection], None]) -> None:
        """Do it once: what was not answered may be done in part, and is not tried again here."""
        try:
            with self.gauge.io(operation, offset):
                self._once(put)
        except Lost as error:
            raise WriteFailed(self.name, offset, length, f"its server (qemu-nbd) ended: {error}") from error
        except OSError as error:
            kind = PoolFull if error.errno in _NO_SPACE else WriteFailed
            raise kind(self.name, offset, length, error.strerror or str(error)) from error
