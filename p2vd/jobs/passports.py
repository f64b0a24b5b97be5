"""The records of physical machines that p2vd was given: taken in, kept, told of on the bus."""

import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from p2vd.jobs.events import Event, PassportChanged
from p2vd.jobs.store import Store
from p2vd.model.contents import Examination
from p2vd.model.errors import InvalidArgument, P2vdError, StillLooking
from p2vd.model.inventory import Inventory
from p2vd.model.names import machine_name_problem
from p2vd.model.passport import Guess, Passport
from p2vd.model.passport_record import MAX_BYTES, parse_passport
from p2vd.planning.passport import guess_passport
from p2vd.policy.names import default_machine_name
from p2vd.system.handed import read_to_end

log = logging.getLogger(__name__)

_READ_S = 0.7  # a caller is answered within a second


@dataclass(eq=False)
class PassportExists(P2vdError):
    """There is another record of that name already."""

    machine: str
    template: ClassVar[str] = (
        "There is another record of the machine {machine} already, and it stays. What differs: "
        "p2vctl machine diff {machine} FILE. To replace it: p2vctl machine import FILE --replace. "
        "If it is another machine, give it another name: --name."
    )


class Passports:
    """The records by the machines' names. Thread-safe."""

    def __init__(
        self, store: Store, publish: Callable[[Event], None], inventory: Callable[[], Inventory]
    ) -> None:
        self._store = store
        self._publish = publish
        self._inventory = inventory
        self._lock = threading.Lock()

    def all(self) -> tuple[Passport, ...]:
        """Every record, in the order of their import."""
        return self._store.passports()

    def get(self, name: str) -> Passport:
        """The record of a machine. Raises NotFound."""
        return self._store.passport(name)

    def take_in(self, fd: int, name: str = "", *, replace: bool = False) -> Passport:
        """Keep the record that `fd` holds, under `name` if given, and return it; `fd` is closed.

        The same record again changes nothing. Raises InvalidArgument (the descriptor), PassportInvalid,
        PassportExists.
        """
        try:
            raw = read_to_end(fd, MAX_BYTES, _READ_S)
        except (OSError, ValueError) as error:
            raise InvalidArgument("record", f"it could not be read from the descriptor: {error}.") from error
        finally:
            os.close(fd)
        passport = parse_passport(raw, name)
        with self._lock:
            known = next((one for one in self.all() if one.name == passport.name), None)
            if known == passport:
                return passport
            if known is not None and not replace:
                raise PassportExists(passport.name)
            self._store.put_passport(passport)
        log.info("machine %s: its record was %s", passport.name, "replaced" if known else "taken in")
        self._publish(PassportChanged(passport.name))
        return passport

    def remove(self, name: str) -> None:
        """Forget a record. Raises NotFound."""
        with self._lock:
            self.get(name)
            self._store.remove_passport(name)
        log.info("machine %s: its record was removed", name)
        self._publish(PassportChanged(name))

    def guess(self, source_ids: Sequence[str], name: str = "") -> Guess:
        """Return the record that the sources' contents speak for; it is not kept.

        Raises NotFound, Refused (a path), InvalidArgument, StillLooking: ask again.
        """
        inventory = self._inventory()
        sources = [inventory.source(one) for one in source_ids]
        if len({source.id for source in sources}) < len(sources):
            raise InvalidArgument("sources", "one of them is named twice.")
        if name and (problem := machine_name_problem(name)):
            raise InvalidArgument("option name", problem)
        for source in sources:
            if source.examination is Examination.UNDER_WAY and source.contents is None:
                raise StillLooking(str(source))
        return guess_passport(name or default_machine_name(sources[0]), sources)
