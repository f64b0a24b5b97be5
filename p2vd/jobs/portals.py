"""The portals that p2vd was given: remembered, logged in again after a reboot, and seen on the bus.

Who logs in after a reboot: the host's own open-iscsi.service, because the records that p2vd makes say
`node.startup = automatic`. So disks that virtual machines live on come back in the boot order that
other services rely on, and also where p2vd does not start. What is missing when p2vd starts (the
array was late, that service is off) p2vd logs in itself, and goes on trying.

Each portal has one thread at a time, while something is done for it; nothing polls.
"""

import logging
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from p2vd.discovery.iscsi import Session
from p2vd.discovery.iscsi_errors import IscsiTransient, LoginRejected, PortalUnreachable
from p2vd.jobs.again import Again
from p2vd.jobs.events import Event, PortalChanged
from p2vd.jobs.portal_connect import Connector
from p2vd.jobs.portal_live import Live, PortalFault, PortalTools, by_hosts
from p2vd.jobs.portal_request import PortalRequest
from p2vd.jobs.store import STORE_FAILURES, Store
from p2vd.jobs.task import Task
from p2vd.model.errors import IllegalTransition, InvalidArgument, NotFound, P2vdError
from p2vd.model.portal import PortalRecord, PortalState, PortalView, parse_portal
from p2vd.system.threads import NoThread, start

log = logging.getLogger(__name__)

_FIRST_WAIT_S = 1.0
_BUSY = (PortalState.CONNECTING, PortalState.REMOVING)
_HCT = re.compile(r"\d+:\d+:\d+")

Done = Callable[[P2vdError | None], None]


class Portals:
    """Every portal by its id. Thread-safe; no method waits for the network."""

    def __init__(
        self,
        tools: PortalTools,
        store: Store,
        publish: Callable[[Event], None],
        first_wait_s: float = _FIRST_WAIT_S,
        again: Again | None = None,
    ) -> None:
        """`again` begins what the host has no thread for."""
        self._tools = tools
        self._again = again or Again()
        self._store = store
        self._publish = publish
        self._first_wait_s = first_wait_s
        self._connector = Connector(tools.iscsiadm, tools.sessions, self._remember, tools.boot_id)
        self._lock = threading.RLock()
        self._one_scan = threading.Lock()
        self._lives: dict[str, Live] = {}
        self._stopped = False

    def start(self) -> None:
        """Log in to what is remembered and not connected, until it is."""
        for record in self._store.portals():
            live = self._lives[record.id] = Live(record, PortalState.CONNECTING)
            self._begin_reconnect(live)

    def stop(self) -> None:
        """End what waits; waits for nothing itself. Commands under way go on in their units."""
        with self._lock:
            self._stopped = True
            for live in self._lives.values():
                if live.task is not None:
                    live.task.cancel.set()

    def views(self) -> tuple[PortalView, ...]:
        """Every portal as it is now."""
        with self._lock:
            lives = [live for _, live in sorted(self._lives.items())]
        if not lives:
            return ()
        sessions, luns = self._tools.sessions(), by_hosts(self._tools.inventory())
        return tuple(self._tools.view(live, sessions, luns, self._connector.ours) for live in lives)

    def view(self, portal_id: str) -> PortalView:
        """One portal as it is now. Raises NotFound."""
        with self._lock:
            if portal_id not in self._lives:
                raise NotFound("portal", portal_id)
            live = self._lives[portal_id]
        sessions, luns = self._tools.sessions(), by_hosts(self._tools.inventory())
        return self._tools.view(live, sessions, luns, self._connector.ours)

    # ---- verbs -------------------------------------------------------------------------------

    def add(self, request: PortalRequest) -> str:
        """Remember a portal and log in to it; its id, at once.

        Raises InvalidArgument, IllegalTransition, StoreUnwritable, NoThread.
        """
        wanted, chap = request.read()
        with self._lock:
            live = self._lives.get(wanted.id)
            was = None if live is None else (live.record, live.state)
            if live is None:
                live = Live(wanted, PortalState.REFUSED)
            elif live.state in _BUSY:
                raise IllegalTransition(f"Portal {wanted.id}", live.state.value, "add")
            known = live.record
            has_chap = wanted.chap or (known.chap and bool(known.nodes))
            record = replace(known, targets=wanted.targets, chap=has_chap)
            self._store.put_portal(record)
            live.record, self._lives[wanted.id] = record, live
            self._set(live, PortalState.CONNECTING)
        log.info("portal %s: added", wanted.id)

        def connect(live: Live, task: Task) -> None:
            self._set(live, PortalState.CONNECTING)
            # Read here: an attempt before this one has ended only now.
            record = live.record
            before = record if record.settled else replace(record, nodes=(), interface_made=False)
            self._connect(live, task, lambda one: self._connector.connect(one, chap), before)

        try:
            self._begin(live, connect)
        except NoThread:
            self._set_back(live, was)
            raise
        return wanted.id

    def remove(self, text: str, done: Done) -> None:
        """Log out what p2vd logged in and forget the portal; `done` is called when it is over.

        Raises InvalidArgument, NotFound, IllegalTransition, NoThread.
        """
        with self._lock:
            live = self._find(text)
            was = live.record, live.state
            if live.state is PortalState.REMOVING or live.rescanning:
                raise IllegalTransition(f"Portal {live.record.id}", live.doing, "remove")
            self._set(live, PortalState.REMOVING)

        def remove(live: Live, _: Task) -> None:
            self._set(live, PortalState.REMOVING)
            problem = self._guarded(live, lambda: self._remove(live))
            if problem is not None:
                log.error("portal %s: %s", live.record.id, problem)
                state = PortalState.CONNECTED if live.record.settled else PortalState.REFUSED
                self._set(live, state, problem)
            done(problem)

        try:
            self._begin(live, remove)
        except NoThread:
            self._set_back(live, was)
            raise

    def rescan(self, text: str, hct: str, done: Done) -> None:
        """Look for LUNs of a portal, or of the one session at `hct` (HOST:CHANNEL:TARGET).

        A session that is gone is logged in again first. Raises InvalidArgument, NotFound,
        IllegalTransition, NoThread.
        """
        if hct and not _HCT.fullmatch(hct):
            raise InvalidArgument("option hct", f"{hct!r} is not HOST:CHANNEL:TARGET, such as 6:0:0.")
        with self._lock:
            live = self._find(text)
            if live.state in (*_BUSY, PortalState.RETRYING) or live.rescanning or not live.record.settled:
                raise IllegalTransition(f"Portal {live.record.id}", live.doing, "rescan")
            if hct and not self._sessions(live.record, hct):
                raise NotFound(f"session of the portal {live.record.id} at", hct)
            live.rescanning = True
        self._publish(PortalChanged(live.record.id))

        def scan(live: Live, _: Task) -> None:
            problem = self._guarded(live, lambda: self._rescan(live, hct))
            live.rescanning = False
            self._set(live, live.state, problem)
            done(problem)

        try:
            self._begin(live, scan)
        except NoThread:
            live.rescanning = False
            self._publish(PortalChanged(live.record.id))
            raise

    def _set_back(self, live: Live, was: tuple[PortalRecord, PortalState] | None) -> None:
        """Nothing could be begun: have a portal as it was; None: it was not there."""
        with self._lock:
            if was is None:
                del self._lives[live.record.id]
                self._store.remove_portal(live.record.id)
            else:
                record, live.state = was
                if record != live.record:
                    live.record = record
                    self._store.put_portal(record)
        self._publish(PortalChanged(live.record.id))

    # ---- on a portal's own thread ------------------------------------------------------------

    def _begin(self, live: Live, work: Callable[[Live, Task], None]) -> None:
        """Run `work` on a thread, after what is done for the portal now; that is told to end.

        Raises NoThread; then what is done now goes on.
        """
        task = Task()

        def run() -> None:
            if previous is not None:
                previous.end()
            try:
                work(live, task)
            except Exception:
                if not self._stopped:  # else it met what the daemon has closed; the next start goes on
                    raise

        with self._lock:
            if self._stopped:
                return
            previous = live.task
            task.thread = start(run, f"portal {live.record.id}")
            live.task = task

    def _begin_reconnect(self, live: Live) -> None:
        """Log in to what is remembered: soon, where there is no thread for it now."""
        with self._lock:
            if self._lives.get(live.record.id) is not live or live.state is not PortalState.CONNECTING:
                return  # somebody has wanted something else meanwhile
        try:
            self._begin(live, self._reconnect)
        except NoThread as error:
            self._again.owe(f"portal {live.record.id}", partial(self._begin_reconnect, live), error)

    def _reconnect(self, live: Live, task: Task) -> None:
        self._connect(live, task, self._connector.reconnect, None)

    def _connect(
        self,
        live: Live,
        task: Task,
        attempt: Callable[[PortalRecord], PortalRecord],
        before: PortalRecord | None,
    ) -> None:
        """Attempt until it works, is refused or is cancelled; a refused one is taken back to `before`."""

        # An array that starts says of a target it does not know yet what one says that it never will.
        passing: tuple[type[P2vdError], ...] = (IscsiTransient, *STORE_FAILURES)
        if before is None:
            passing = (*passing, LoginRejected)

        def once() -> None:
            try:
                self._tools.route_of(live.record)
            except P2vdError as error:
                raise PortalUnreachable(live.record.id, str(error).rstrip(".")) from error
            live.routed = True
            attempt(live.record)

        def wait(error: BaseException | None) -> None:
            log.warning("portal %s: %s", live.record.id, error)
            self._set(live, PortalState.RETRYING, error)

        problem = self._guarded(live, lambda: task.repeat(once, passing, wait, self._first_wait_s))
        if problem is None:
            log.info("portal %s: connected", live.record.id)
            self._set(live, PortalState.CONNECTED)
        elif not isinstance(problem, passing):  # else it was cancelled: what comes next says the state
            log.error("portal %s: %s", live.record.id, problem)
            if before is not None:
                unstored = self._guarded(live, partial(self._take_back, live, before))
                if unstored is not None:  # the next start finds the attempt, and tries it again
                    log.error("portal %s: that it is taken back is not stored: %s", live.record.id, unstored)
            nodes = live.record.nodes
            whole = bool(nodes) and all(self._connector.session(live.record, node) for node in nodes)
            self._set(live, PortalState.CONNECTED if whole else PortalState.REFUSED, problem)

    def _take_back(self, live: Live, before: PortalRecord) -> None:
        self._connector.undo(live.record, before)
        with self._lock:
            live.record = before
            if before.settled:
                self._store.put_portal(before)
            else:
                self._store.remove_portal(before.id)

    def _remove(self, live: Live) -> None:
        record = live.record
        own = [
            session
            for node in record.nodes
            if self._connector.ours(node) and (session := self._connector.session(record, node)) is not None
        ]
        with self._lock:
            shared = any(
                one is not live and one.record.interface == record.interface for one in self._lives.values()
            )
        self._tools.removal.run(
            record.id, own, lambda: self._connector.disconnect(record, keep_interface=shared)
        )
        with self._lock:
            self._store.remove_portal(record.id)
            del self._lives[record.id]
        log.info("portal %s: removed", record.id)
        self._publish(PortalChanged(record.id))

    def _rescan(self, live: Live, hct: str) -> None:
        self._connector.reconnect(live.record)
        live.state = PortalState.CONNECTED
        with self._one_scan:
            live.report = self._tools.rescan.run(self._sessions(live.record, hct), live.record.id)

    def _sessions(self, record: PortalRecord, hct: str) -> list[Session]:
        found = [self._connector.session(record, node) for node in record.nodes]
        host = f"host{hct.partition(':')[0]}" if hct else ""
        return [session for session in found if session is not None and host in ("", session.host)]

    # ---- shared ------------------------------------------------------------------------------

    def _guarded(self, live: Live, step: Callable[[], object]) -> P2vdError | None:
        """Run a step; return what it failed with, whatever that was."""
        try:
            step()
        except P2vdError as error:
            return error
        except Exception as error:
            if self._stopped:
                raise
            log.exception("portal %s", live.record.id)
            return PortalFault(live.record.id, f"{type(error).__name__}: {error}")
        return None

    def _find(self, text: str) -> Live:
        name = str(parse_portal(text))
        if name not in self._lives:
            raise NotFound("portal", name)
        return self._lives[name]

    def _remember(self, record: PortalRecord) -> None:
        with self._lock:
            live = self._lives[record.id]
            if live.record == record:
                return
            self._store.put_portal(record)
            live.record = record
        self._publish(PortalChanged(record.id))

    def _set(self, live: Live, state: PortalState, error: BaseException | None = None) -> None:
        with self._lock:
            live.state = state
            live.error = error if isinstance(error, P2vdError) else None
        self._publish(PortalChanged(live.record.id))
