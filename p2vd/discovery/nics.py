"""Which network interface reaches a portal, from the kernel's routing table."""

import ipaddress
from dataclasses import dataclass

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from p2vd.model.disk import Portal
from p2vd.model.errors import P2vdError
from p2vd.model.portal import Route


@dataclass(eq=False)
class NoRoute(P2vdError):
    """The kernel has no way to a portal."""

    portal: str
    problem: str

    def __str__(self) -> str:
        return f"This host has no route to the portal {self.portal}: {self.problem}. Look at ip route."


def route_to(portal: Portal, nic: str = "") -> Route:
    """Return the way to `portal` as the kernel would choose it now, by `nic` if given. Raises NoRoute."""
    try:
        address = ipaddress.ip_address(portal.address)
    except ValueError as error:
        raise NoRoute(str(portal), "it is no IP address") from error
    try:
        with IPRoute() as netlink:
            bound = {"oif": _index(netlink, nic)} if nic else {}
            (route,) = netlink.route("get", dst=str(address), **bound)
            (link,) = netlink.get_links(route.get_attr("RTA_OIF"))
    except (NetlinkError, OSError, ValueError) as error:
        raise NoRoute(str(portal), str(error)) from error
    metrics = route.get_attr("RTA_METRICS")
    route_mtu = metrics.get_attr("RTAX_MTU") if metrics else None
    return Route(
        nic=str(link.get_attr("IFLA_IFNAME")),
        source_address=str(route.get_attr("RTA_PREFSRC") or ""),
        mtu_bytes=int(route_mtu or link.get_attr("IFLA_MTU")),
        gateway=str(route.get_attr("RTA_GATEWAY") or ""),
    )


def _index(netlink: IPRoute, nic: str) -> int:
    found: list[int] = netlink.link_lookup(ifname=nic)
    if not found:
        raise ValueError(f"there is no network interface {nic}")
    return found[0]
