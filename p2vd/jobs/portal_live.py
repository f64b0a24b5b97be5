"""A portal of this moment, and how it looks to others."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from p2vd.discovery.iscsi import Session
from p2vd.discovery.iscsiadm import Iscsiadm
from p2vd.jobs.lun_rescan import LunRescan
from p2vd.jobs.portal_remove import PortalRemoval
from p2vd.jobs.task import Task
from p2vd.model.disk import Portal
from p2vd.model.errors import P2vdError
from p2vd.model.inventory import Inventory
from p2vd.model.portal import Node, PortalRecord, PortalSession, PortalState, PortalView, RescanReport, Route


@dataclass(eq=False)
class PortalFault(P2vdError):
    """p2vd failed at a portal for a reason of its own."""

    portal: str
    problem: str
    template: ClassVar[str] = (
        "p2vd has a fault at the portal {portal} ({problem}). The log says more: journalctl -u p2vd"
    )


@dataclass
class Live:
    """A portal; changed under the lock of `Portals`.

    `routed`: its thread has asked netlink for the way to it, for the first time a slow question.
    """

    record: PortalRecord
    state: PortalState
    error: P2vdError | None = None
    task: Task | None = None
    routed: bool = False
    rescanning: bool = False
    report: RescanReport = field(default_factory=RescanReport)

    @property
    def doing(self) -> str:
        """What it does now, in a word."""
        return "being rescanned" if self.rescanning else self.state.value


@dataclass(frozen=True)
class PortalTools:
    """What the portals are worked with; the daemon puts it together."""

    iscsiadm: Iscsiadm
    sessions: Callable[[], Sequence[Session]]
    rescan: LunRescan
    removal: PortalRemoval
    inventory: Callable[[], Inventory]
    route: Callable[[Portal, str], Route]
    boot_id: str

    def route_of(self, record: PortalRecord) -> Route:
        """Return how packets to a portal leave this host. Raises NoRoute."""
        return self.route(record.portal, self.iscsiadm.nic(record.interface))

    def view(
        self,
        live: Live,
        sessions: Sequence[Session],
        luns: Mapping[frozenset[str], int],
        ours: Callable[[Node], bool],
    ) -> PortalView:
        """Return everything about a portal; `sessions` are all that there are, `luns` as by_hosts counts."""
        record = live.record
        here = {(one.target_iqn, one.portal): one for one in sessions if one.interface == record.interface}
        shown, hosts = [], set()
        for node in record.nodes:
            session = here.get(node.key)
            if session is not None:
                hosts.add(session.host)
            number, state = (session.number, session.state) if session else (-1, "")
            shown.append(PortalSession(node.target_iqn, number, state, ours(node)))
        up = all(one.up for one in shown)
        view = PortalView(
            record,
            PortalState.IMPAIRED if live.state is PortalState.CONNECTED and not up else live.state,
            error_name=live.error.name if live.error else "",
            error=str(live.error) if live.error else "",
            sessions=tuple(shown),
            luns=sum(count for its, count in luns.items() if its & hosts),
            rescanning=live.rescanning,
            rescan=live.report,
        )
        try:
            route = self.route_of(record) if live.routed else None
        except P2vdError:
            route = None
        if route is None:
            return view
        return replace(
            view,
            nic=route.nic,
            source_address=route.source_address,
            gateway=route.gateway,
            mtu_bytes=route.mtu_bytes,
        )


def by_hosts(inventory: Inventory) -> Mapping[frozenset[str], int]:
    """Count the disks by the SCSI hosts of their paths: once for all portals, there may be thousands."""
    return Counter(frozenset(path.host for path in source.paths) for source in inventory.sources)
