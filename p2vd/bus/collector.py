"""Reads the engine on a thread of its own and hands finished pictures to the GLib thread.

So a D-Bus call never waits for the engine: what is read over the bus is the last picture, even
while a lock of the engine is held by somebody who waits for a disk.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, islice

from p2vd.bus import views, views_work
from p2vd.bus.names import (
    JOB,
    KIND,
    MACHINE,
    MANAGER,
    PASSPORT,
    PORTAL,
    ROOT,
    SOURCE,
    VOLUME_GROUP,
    object_path,
)
from p2vd.bus.passports import passport as passport_view
from p2vd.bus.port import EnginePort
from p2vd.bus.tree import Interfaces
from p2vd.jobs.events import (
    Event,
    InventoryChanged,
    JobAdded,
    JobChanged,
    JobRemoved,
    JobVerified,
    MachineAdded,
    MachineChanged,
    PassportChanged,
    PolicyErrorsChanged,
    PortalChanged,
)
from p2vd.model.errors import NotFound
from p2vd.model.inventory import Difference, Inventory
from p2vd.model.job import Job, Machine
from p2vd.model.lvm import Vg
from p2vd.model.plan import LvTarget

log = logging.getLogger(__name__)

# What is to be read again: an interface, and one object's id or "" for all objects of that interface.
Topic = tuple[str, str]

EVERYTHING: frozenset[Topic] = frozenset(
    {(MANAGER, ""), (SOURCE, ""), (VOLUME_GROUP, ""), (MACHINE, ""), (JOB, ""), (PORTAL, ""), (PASSPORT, "")}
)
INVENTORY: frozenset[Topic] = frozenset({(MANAGER, ""), (SOURCE, ""), (VOLUME_GROUP, ""), (PORTAL, "")})
WORK: frozenset[Topic] = frozenset({(MACHINE, ""), (JOB, ""), (VOLUME_GROUP, "")})

_MANAGER: Topic = (MANAGER, "")
# A picture of thousands would leave holes of its size in the daemon's memory.
_AT_ONCE = 256


@dataclass
class Picture:
    """New values by path, and what is `gone`.

    Of the kinds in `complete`, all objects that are not in `objects` are gone.
    """

    objects: dict[str, Interfaces] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    complete: set[str] = field(default_factory=set)

    def drops(self, paths: Set[str]) -> list[str]:
        """Return which of the objects at `paths` are gone."""
        if not self.complete:
            return [path for path in self.gone if path in paths]
        kinds = tuple(f"{ROOT}/{kind}/" for kind in self.complete)
        left_out = {path for path in paths if path.startswith(kinds) and path not in self.objects}
        return [*left_out, *(path for path in self.gone - left_out if path in paths)]


@dataclass
class Scans:
    """The rescans that were asked for over the bus."""

    running: int = 0
    problem: str = ""


class Collector:
    """Keeps pictures in order: they are taken under one lock and posted before it is released."""

    def __init__(
        self,
        engine: EnginePort,
        version: str,
        post: Callable[[Iterator[None]], None],
        apply: Callable[[Picture], Iterator[None]],
        on_calm: Callable[[], None] = lambda: None,
    ) -> None:
        """`post` runs iterators on the GLib thread, in order; `apply` takes a picture there, step by step.

        `on_calm` is called after news of more than one picture.
        """
        self._engine = engine
        self._version = version
        self._post = post
        self._apply = apply
        self._on_calm = on_calm
        self.scans = Scans()
        self.results: dict[str, str] = {}  # how jobs ended, by path, as the engine said
        self._taking = threading.Lock()
        self._wanted = threading.Condition()
        self._dirty: set[Topic] = set()
        self._burst = False
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="bus-pictures", daemon=True)

    def start(self) -> None:
        """Apply a first picture of everything at once, then listen. On the GLib thread.

        In this order nothing is missed, and no older picture comes after a newer one.
        """
        self._engine.subscribe(self.on_event)
        for _ in self._apply(self.picture(EVERYTHING)):
            pass
        self._thread.start()

    def stop(self) -> None:
        """End soon; waits for nothing."""
        with self._wanted:
            self._stopped = True
            self._wanted.notify()

    def on_event(self, event: Event) -> None:
        """Note what has to be read again. Cheap; may be called on any thread."""
        if isinstance(event, JobRemoved):
            self.results[object_path(JOB, event.uuid)] = event.result
        self.want(topics_of(event))

    def want(self, topics: Collection[Topic]) -> None:
        """Read `topics` again soon; many wishes make one reading."""
        with self._wanted:
            self._dirty.update(topics)
            self._wanted.notify()

    def take(self, topics: Collection[Topic], then: Callable[[], None]) -> None:
        """Read `topics` now, and run `then` on the GLib thread after the picture is published."""
        with self._taking:
            try:
                picture = self.picture(topics)
            except Exception:  # one odd object must not end all news, nor leave a caller without answer
                log.exception("cannot read the engine's state for the bus")
                picture = Picture()

            def publish() -> Iterator[None]:
                try:
                    yield from self._apply(picture)
                finally:
                    then()

            self._post(publish())

    def picture(self, topics: Collection[Topic]) -> Picture:
        """Read the engine."""
        picture = Picture()
        for interface, object_id in sorted(topics):
            _READERS[interface](self, picture, object_id)
        if (manager := picture.objects.pop(ROOT, None)) is not None:
            picture.objects[ROOT] = manager  # published last, as in `_run`
        return picture

    def _run(self) -> None:
        while True:
            with self._wanted:
                self._wanted.wait_for(lambda: self._dirty or self._stopped)
                if self._stopped:
                    return
                # The manager last: who hears that a scan is over finds on the bus what it saw.
                others = (topic for topic in self._dirty if topic[0] != MANAGER)
                topics = set(islice(chain(others, self._dirty & {_MANAGER}), _AT_ONCE))
                self._dirty -= topics
                last_of_many = self._burst and not self._dirty
                self._burst = bool(self._dirty)
            published = threading.Event()
            self.take(topics, published.set)
            published.wait()
            if last_of_many:
                self._on_calm()

    def _read_manager(self, picture: Picture, _: str) -> None:
        inventory = self._engine.inventory()
        scan = (self.scans.problem,) if self.scans.problem and not inventory.stale_since_us else ()
        values: views.Properties = {
            "Version": self._version,
            "PolicyErrors": tuple(self._engine.policy_errors()),
            "Problems": (
                *scan,
                *_staleness(inventory),
                *(problem for problem in inventory.problems if problem not in inventory.unread),
                *(reason.text for reason in inventory.exposures),
                *filter(None, (self._engine.records.audit.problem(),)),
            ),
            "StaleSince": inventory.stale_since_us,
            "Scanning": self.scans.running > 0,
            "Bandwidth": self._engine.bandwidth.total,
        }
        picture.objects[ROOT] = {MANAGER: values}

    def _read_sources(self, picture: Picture, source_id: str) -> None:
        inventory = self._engine.inventory()
        known = inventory.by_id.get(source_id)
        for source in inventory.sources if not source_id else [known] if known else []:
            policy, findings = self._engine.matched_policy(source), self._engine.findings(source)
            values = views.source(source, policy, findings, self._engine.auto_said(source.id))
            picture.objects[object_path(SOURCE, source.id)] = {SOURCE: values}
        if not source_id:
            picture.complete.add(KIND[SOURCE])
        elif known is None:
            picture.gone.add(object_path(SOURCE, source_id))

    def _read_volume_groups(self, picture: Picture, uuid: str) -> None:
        for vg in self._engine.inventory().volume_groups:
            if uuid in ("", vg.uuid):
                picture.objects[object_path(VOLUME_GROUP, vg.uuid)] = {VOLUME_GROUP: self._volume_group(vg)}
        if not uuid:
            picture.complete.add(KIND[VOLUME_GROUP])
        elif (path := object_path(VOLUME_GROUP, uuid)) not in picture.objects:
            picture.gone.add(path)

    def _volume_group(self, vg: Vg) -> views.Properties:
        taken = {pool.name: self._engine.pool_use(vg.uuid, pool.name) for pool in vg.thin_pools}
        return views.volume_group(vg, taken, self._engine.inventory().system_id)

    def _read_machines(self, picture: Picture, uuid: str) -> None:
        try:
            machines = (self._engine.machine(uuid),) if uuid else self._engine.machines()
        except NotFound:
            return self._read_machines(picture, "")
        for machine in machines:
            picture.objects[object_path(MACHINE, machine.uuid)] = self._machine(machine)
        if not uuid:
            picture.complete.add(KIND[MACHINE])
        return None

    def _machine(self, machine: Machine) -> dict[str, views.Properties]:
        return {MACHINE: views_work.machine(machine, self._engine.hypervisor(machine))}

    def _read_jobs(self, picture: Picture, uuid: str) -> None:
        try:
            jobs = (self._engine.job(uuid),) if uuid else self._engine.jobs()
        except NotFound:
            return self._read_jobs(picture, "")
        for job in jobs:
            picture.objects[object_path(JOB, job.uuid)] = {JOB: self._job(job)}
        if uuid:
            target = jobs[0].plan.target
            # What it may still take of its pool has changed with it; of many jobs in one group once.
            if (
                isinstance(target, LvTarget)
                and object_path(VOLUME_GROUP, target.vg_uuid) not in picture.objects
            ):
                self._read_volume_groups(picture, target.vg_uuid)
        else:
            picture.complete.add(KIND[JOB])
        return None

    def _read_portals(self, picture: Picture, portal_id: str) -> None:
        try:
            portals = self._engine.portals
            found = (portals.view(portal_id),) if portal_id else portals.views()
        except NotFound:
            picture.gone.add(object_path(PORTAL, portal_id))
            return
        for portal in found:
            picture.objects[object_path(PORTAL, portal.record.id)] = {PORTAL: views.portal(portal)}
        if not portal_id:
            picture.complete.add(KIND[PORTAL])

    def _read_passports(self, picture: Picture, name: str) -> None:
        try:
            found = (self._engine.passports.get(name),) if name else self._engine.passports.all()
        except NotFound:
            picture.gone.add(object_path(PASSPORT, name))
            return
        for passport in found:
            picture.objects[object_path(PASSPORT, passport.name)] = {PASSPORT: passport_view(passport)}
        if not name:
            picture.complete.add(KIND[PASSPORT])

    def _job(self, job: Job) -> views.Properties:
        activity, stalled = self._engine.activity(job.uuid), self._engine.stalled(job.uuid)
        waiting = self._engine.waiting(job.uuid)
        grant = self._engine.bandwidth.granted(job)
        return views_work.job(job, activity, stalled, time.time_ns() // 1000, waiting, grant)


def _staleness(inventory: Inventory) -> Iterator[str]:
    if inventory.stale_since_us:
        since = datetime.fromtimestamp(inventory.stale_since_us / 1e6).astimezone().isoformat(" ", "seconds")
        yield f"The list of disks and volume groups is out of date since {since}: {inventory.stale_cause}"


_READERS: Mapping[str, Callable[[Collector, Picture, str], None]] = {
    MANAGER: Collector._read_manager,
    SOURCE: Collector._read_sources,
    VOLUME_GROUP: Collector._read_volume_groups,
    MACHINE: Collector._read_machines,
    JOB: Collector._read_jobs,
    PORTAL: Collector._read_portals,
    PASSPORT: Collector._read_passports,
}


def topics_of(event: Event) -> Collection[Topic]:
    """What has to be read again after `event`."""
    match event:
        case InventoryChanged(Difference(sources, volume_groups)):
            # Paths that come and go are seen at portals too.
            found = {(SOURCE, source_id) for source_id in sources} | {(MANAGER, ""), (PORTAL, "")}
            return found | {(VOLUME_GROUP, uuid) for uuid in volume_groups}
        case InventoryChanged() | PolicyErrorsChanged():
            return INVENTORY
        case JobAdded() | JobRemoved():
            return WORK
        case JobChanged(uuid) | JobVerified(uuid):
            return ((JOB, uuid),)
        case MachineAdded():
            return ((MACHINE, ""),)
        case MachineChanged(uuid):
            return ((MACHINE, uuid),)
        case PortalChanged(portal_id):
            return ((PORTAL, portal_id),)
        case PassportChanged(name):
            return ((PASSPORT, name),)
