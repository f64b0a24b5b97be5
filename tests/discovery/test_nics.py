"""Routes to portals, as far as every host has them."""

import pytest

from p2vd.discovery.nics import NoRoute, route_to
from p2vd.model.disk import Portal


def test_the_loopback() -> None:
    route = route_to(Portal("127.0.0.1", 3260))
    assert (route.nic, route.source_address, route.gateway) == ("lo", "127.0.0.1", "")
    assert route.mtu_bytes > 1000


def test_a_name_is_no_address() -> None:
    with pytest.raises(NoRoute, match="no IP address"):
        route_to(Portal("storage.example", 3260))
