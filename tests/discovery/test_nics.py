"""Routes to portals, as far as every host has them."""

from pathlib import Path

import pytest

from p2vd.discovery.nics import NoRoute, route_to
from p2vd.model.disk import Portal


def test_the_loopback() -> None:
    route = route_to(Portal("127.0.0.1", 3260))
    assert (route.nic, route.source_address, route.gateway) == ("lo", "127.0.0.1", "")
    assert route.mtu_bytes > 1000


def test_the_loopback_of_ipv6() -> None:
    if not Path("/proc/net/if_inet6").exists():
        pytest.skip("this host has no IPv6")
    route = route_to(Portal("::1", 3260))
    assert (route.nic, route.source_address) == ("lo", "::1")


def test_a_bound_interface_is_the_way() -> None:
    assert route_to(Portal("127.0.0.1", 3260), "lo").nic == "lo"
    with pytest.raises(NoRoute, match="no network interface nosuch0"):
        route_to(Portal("127.0.0.1", 3260), "nosuch0")


def test_a_name_is_no_address() -> None:
    with pytest.raises(NoRoute, match="no IP address"):
        route_to(Portal("storage.example", 3260))
