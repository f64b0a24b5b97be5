"""Portals of an emulated host, as tests of jobs drive them."""

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from p2vd.jobs.events import Event, PortalChanged
from p2vd.jobs.lun_rescan import LunRescan
from p2vd.jobs.lun_use import LunUse
from p2vd.jobs.portal_live import PortalTools
from p2vd.jobs.portal_remove import PortalRemoval
from p2vd.jobs.portal_request import PortalRequest
from p2vd.jobs.portals import Portals
from p2vd.jobs.store import Store
from p2vd.model.disk import Portal
from p2vd.model.errors import P2vdError
from p2vd.model.inventory import Inventory
from p2vd.model.portal import PortalState, PortalView, Route
from p2vd.policy.model import PolicySet
from tests.iscsi_host import IscsiHost, make_host
from tests.jobs.values import source

A, B = "10.98.3.1:3260", "10.98.4.1:3260"
OTHER = "iqn.2026-01.org.example.lab:other"
PATIENCE_S = 60.0


class Desk:
    """Portals of an emulated host; `until` waits for events, never for time."""

    def __init__(self, root: Path, host: IscsiHost, boot: str = "boot-1") -> None:
        self.host = host
        self.inventory = Inventory()
        self.released: list[str] = []
        self.open_counts: Callable[[], dict[str, int]] = dict
        self.route_problem: P2vdError | None = None
        self.store = Store(root / "state.db")
        self._changed = threading.Condition()
        commands = host
        tools = PortalTools(
            host.iscsiadm,
            host.sessions,
            LunRescan(
                commands, host.iscsiadm, host.sessions, lambda: self.inventory, self.use, self.released.append
            ),
            PortalRemoval(commands, lambda: self.inventory, self.use, self.released.append),
            lambda: self.inventory,
            self.route,
            boot,
        )
        self.portals = Portals(tools, self.store, self.hear, first_wait_s=0.001)

    def use(self, inventory: Inventory) -> LunUse:
        return LunUse(inventory, PolicySet(), (), self.open_counts())

    def route(self, portal: Portal, nic: str) -> Route:
        if self.route_problem:
            raise self.route_problem
        return Route(nic or "ens4", "10.98.3.9", 9000)

    def hear(self, event: Event) -> None:
        assert isinstance(event, PortalChanged)
        with self._changed:
            self._changed.notify_all()

    def until(self, what: Callable[[dict[str, PortalView]], bool]) -> dict[str, PortalView]:
        """The portals at the moment when it is so: what is tried again is soon otherwise."""
        seen: list[dict[str, PortalView]] = []

        def so() -> bool:
            seen.append(self.views())
            return what(seen[-1])

        with self._changed:
            assert self._changed.wait_for(so, PATIENCE_S), seen[-1]
        return seen[-1]

    def views(self) -> dict[str, PortalView]:
        return {view.record.id: view for view in self.portals.views()}

    def settled(self, portal: str, state: PortalState) -> PortalView:
        return self.until(lambda views: portal in views and views[portal].state is state)[portal]

    def add(self, portal: str, state: PortalState = PortalState.CONNECTED, **how: Any) -> PortalView:
        return self.settled(self.portals.add(PortalRequest(portal, **how)), state)

    def remove(self, portal: str) -> P2vdError | None:
        return self._done(lambda done: self.portals.remove(portal, done))

    def rescan(self, portal: str, hct: str = "") -> P2vdError | None:
        return self._done(lambda done: self.portals.rescan(portal, hct, done))

    def _done(self, begin: Callable[[Callable[[P2vdError | None], None]], None]) -> P2vdError | None:
        over, said = threading.Event(), []
        begin(lambda error: (said.append(error), over.set())[1])  # type: ignore[func-returns-value]  # both
        assert over.wait(PATIENCE_S)
        return said[0]


def secret(text: str) -> int:
    fd = os.memfd_create("secret")
    os.write(fd, text.encode())
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def chap(text: str = "right-secret-12") -> dict[str, Any]:
    return {"chap_user": "me", "chap_secret": secret(text)}


def lun(host: IscsiHost, *portals: str) -> Inventory:
    """One LUN with a path by each portal's session."""
    hosts = {str(session.name): session.host.removeprefix("host") for session in host.sessions()}
    paths = tuple(
        replace(path, hctl=f"{hosts[portal]}:0:0:1", device=f"sd{letter}")
        for path, portal, letter in zip(source().paths, portals, "ab", strict=False)
    )
    return Inventory(sources=(replace(source(), paths=paths),))


def no_portals(root: Path) -> Portals:
    """The portals of a host that has none, for an engine that needs them."""
    return Desk(root, make_host(root)).portals
