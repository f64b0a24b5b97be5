"""The plan of a wave, made on a thread of its own: of hundreds of machines it takes longer than a call."""

import logging
import threading
from collections.abc import Mapping
from concurrent import futures
from functools import partial

from p2vd.jobs.contents_keeper import FRESH_S
from p2vd.jobs.places import with_places
from p2vd.jobs.planner import Planner
from p2vd.jobs.services import Services
from p2vd.model.disk import Source
from p2vd.model.errors import InvalidArgument, NotFound, P2vdError, Refused, StillLooking
from p2vd.model.passport import Passport
from p2vd.model.wave import Wave, WaveEntry, WaveState
from p2vd.planning.wave import plan_wave, wave_id
from p2vd.policy.names import default_machine_name
from p2vd.system.threads import start

log = logging.getLogger(__name__)

MAX_MACHINES = 2000

# A call is answered within a second; disks that do not answer are not waited for longer than this.
_ANSWER_S = 0.8
_LOOK_S = 50.0
_ACTIVE = (WaveState.SCHEDULED, WaveState.RUNNING)
_KEPT = 8  # plans that nobody has fetched


class WavePlanning:
    """Thread-safe. Who asks again for the same list gets what was planned since the first call."""

    def __init__(self, services: Services, planner: Planner) -> None:
        self._services = services
        self._planner = planner
        self._lock = threading.Lock()
        self._works: dict[tuple[WaveEntry, ...], futures.Future[Wave]] = {}

    def plan(self, entries: tuple[WaveEntry, ...]) -> Wave:
        """Return the wave, and keep it and its plans.

        Raises InvalidArgument, NoThread; StillLooking: ask again.
        """
        if not 1 <= len(entries) <= MAX_MACHINES:
            raise InvalidArgument("machines", f"a wave has 1 to {MAX_MACHINES} machines.")
        with self._lock:
            work = self._works.get(entries)
            if work is None:
                work = futures.Future()
                start(partial(self._work, entries, work), "wave-plan")
                self._works[entries] = work  # in time: to end it waits for our lock
        if not futures.wait([work], _ANSWER_S).done:
            raise StillLooking(f"the plan of {len(entries)} machines")
        with self._lock:
            if self._works.get(entries) is work:
                del self._works[entries]
        return work.result()

    def _work(self, entries: tuple[WaveEntry, ...], work: futures.Future[Wave]) -> None:
        try:
            work.set_result(self._plan(entries))
        except P2vdError as error:
            work.set_exception(error)
        except Exception as error:
            log.exception("the plan of a wave failed")
            work.set_exception(error)
        with self._lock:
            left = [key for key, one in self._works.items() if one.done()]
            for key in left[:-_KEPT]:
                del self._works[key]

    def _plan(self, entries: tuple[WaveEntry, ...]) -> Wave:
        services = self._services
        passports = self._planner.passports()
        self._look(entries, passports)
        ids = [source for entry in entries for source in _sources(entry, passports)]
        inventory = with_places(services, self._planner.with_reservations_of_jobs(), ids, "")
        items, plans = plan_wave(
            entries,
            inventory,
            services.policies(),
            passports,
            self._planner.busy(),
        )
        wave = Wave(wave_id(items), items, planned_us=services.clock.now_us())
        # In one step: it may be started at this very moment.
        return services.store.put_wave(wave, plans, unless=lambda known: known.state in _ACTIVE)

    def _look(self, entries: tuple[WaveEntry, ...], passports: Mapping[str, Passport]) -> None:
        """Have the contents of all disks read anew, all at once; those not read in time are refused."""
        services = self._services
        inventory, clock = services.inventory.current(), services.clock
        held = self._planner.held_sources()
        wanted: list[Source] = []
        for entry in entries:
            for name in _sources(entry, passports):
                try:
                    source = inventory.source(name)
                except (NotFound, Refused):
                    continue  # the plan says why
                machine = entry.name or entry.machine or default_machine_name(source)
                if source.id not in held and self._planner.may_touch(source, machine):
                    wanted.append(source)
        if inventory.stale_since_us:
            return  # it is not known who uses a source
        end_s = clock.monotonic() + _LOOK_S
        for source in wanted:
            services.contents.refresh(source, 0.0, FRESH_S)
        for source in wanted:
            services.contents.refresh(source, max(0.0, end_s - clock.monotonic()), 2 * _LOOK_S)


def _sources(entry: WaveEntry, passports: Mapping[str, Passport]) -> tuple[str, ...]:
    """Return the ids of an entry's disks, those of its machine's record first."""
    passport = passports.get(entry.machine)
    disks = tuple(disk.wwid for disk in passport.disks if disk.wwid) if passport else ()
    return (*disks, *entry.sources)
