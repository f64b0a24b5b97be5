"""Connections to one NBD export, for many threads; those that were lost are made again."""

import logging
import queue
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from p2vd.copying.controls import Interrupted
from p2vd.copying.nbd_connection import Connection
from p2vd.copying.nbd_errors import Lost

log = logging.getLogger(__name__)


@dataclass
class _Place:
    """Where a connection is, or is to be made again."""

    connection: Connection | None


class Connections:
    """At most `wanted` connections, one where the server does not let one client have more.

    `connect` makes one, and may raise Lost; a place whose connection is lost is connected again when it
    is next used, and `prove` looks whether it still is the same export.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        wanted: int,
        prove: Callable[[Connection], None] = lambda connection: None,
    ):
        self._connect = connect
        self.prove = prove
        self.first = connect()
        self._free: queue.LifoQueue[_Place] = queue.LifoQueue()
        self._places = [_Place(self.first)]
        if self.first.for_many:
            self._more(wanted - 1)
        for place in reversed(self._places):
            self._free.put(place)

    def _more(self, count: int) -> None:
        for _ in range(count):
            try:
                self._places.append(_Place(self._connect()))
            except Lost as error:
                # It says that it takes many and does not: qemu-nbd before 5.0, with --shared=1.
                log.warning("the NBD server takes %d connections, not more: %s", len(self._places), error)
                return

    @contextmanager
    def use(self) -> Iterator[Connection]:
        """Lend a connection; waits while all are in use. Raises Lost where it cannot be made again."""
        place = self._free.get()
        try:
            if place.connection is None:
                fresh = self._connect()
                self.prove(fresh)
                place.connection = fresh
            yield place.connection
        except (Lost, Interrupted):
            place.connection = None
            raise
        finally:
            self._free.put(place)

    def close(self) -> None:
        """End the conversations."""
        for place in self._places:
            if place.connection is not None:
                place.connection.close()
                place.connection = None
