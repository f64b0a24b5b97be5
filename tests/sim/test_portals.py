"""Portals over a simulated SAN: its sessions are there already, and are another's."""

import dbus
import pytest

from p2vd.bus.names import MANAGER, PORTAL, ROOT, object_path
from tests.bus.harness import Client
from tests.sim.conftest import Start

NONE = dbus.Dictionary({}, signature="sv")
ID = "192.0.2.1:3260"
PATH = object_path(PORTAL, ID)


def state(client: Client) -> str:
    return str(client.objects()[PATH][PORTAL]["State"]) if PATH in client.objects() else ""


def test_a_portal_is_connected_rescanned_and_removed(start: Start, client: Client) -> None:
    daemon = start()
    assert client.manager("AddPortal", "sa{sv}", "192.0.2.1", NONE) == PATH
    client.until(lambda: state(client) == "connected")
    own = client.objects()[PATH][PORTAL]
    (session,) = own["Sessions"]
    assert (session["Number"], session["State"], session["Ours"]) == (1, "LOGGED_IN", dbus.Boolean(False))
    assert (own["Nic"], own["Mtu"]) == ("sim0", 1500)
    luns = own["Luns"]
    assert luns >= 3
    daemon.tell("attach", 2, 1 << 27)
    client.until(lambda: client.get(PATH, PORTAL, "Luns") == luns + 1)
    client.call(PATH, PORTAL, "Rescan", "a{sv}", NONE)
    client.until(lambda: client.get(PATH, PORTAL, "LastRescan").get("Time", 0) > 0)
    client.until(lambda: not client.get(PATH, PORTAL, "Rescanning"))
    assert client.get(PATH, PORTAL, "Error") == ("", "")
    client.call(ROOT, MANAGER, "RemovePortal", "sa{sv}", ID, NONE)
    client.until(lambda: PATH not in client.objects())


def test_a_portal_is_remembered(start: Start, client: Client) -> None:
    daemon = start()
    client.manager("AddPortal", "sa{sv}", "192.0.2.1", NONE)
    client.until(lambda: state(client) == "connected")
    assert daemon.stop() == 0
    start()
    client.until(lambda: state(client) == "connected")


@pytest.mark.parametrize(
    ("portal", "says"),
    [("10.1.1.1", "it has 192.0.2.1:3260"), ("192.0.2.1@ens9", "neither a network interface")],
)
def test_what_the_simulated_san_does_not_have_is_refused(
    start: Start, client: Client, portal: str, says: str
) -> None:
    start()
    path = client.manager("AddPortal", "sa{sv}", portal, NONE)
    ends: list[str] = []

    def refused() -> bool:
        error = client.objects().get(path, {}).get(PORTAL, {}).get("Error", ("", ""))
        ends.append(str(error[1]))
        return bool(error[1])

    client.until(refused)
    assert says in ends[-1]
