"""Portals on the bus: objects, options, descriptors, and answers that never wait for a network."""

import os
from typing import Any

import dbus
import pytest

from p2vd.bus.names import MANAGER, PORTAL, ROOT, object_path
from tests.bus.harness import Client, Face
from tests.bus.test_service import NONE, error_of

ID = "10.98.1.1:3260"
PATH = object_path(PORTAL, ID)


def descriptor(text: str) -> Any:
    fd = os.memfd_create("secret")
    os.write(fd, text.encode())
    os.lseek(fd, 0, os.SEEK_SET)
    wrapped = dbus.types.UnixFd(fd)
    os.close(fd)
    return wrapped


def add(client: Client, portal: str = "10.98.1.1", **options: object) -> Any:
    named = {name.replace("_", "-"): value for name, value in options.items()}
    return client.manager("AddPortal", "sa{sv}", portal, dbus.Dictionary(named, signature="sv"))


def test_a_portal_is_an_object_at_once(client: Client, face: Face) -> None:
    assert add(client) == PATH
    own = client.objects()[PATH][PORTAL]
    assert (own["Id"], own["Address"], own["Port"], own["State"]) == (ID, "10.98.1.1", 3260, "connecting")
    assert own["Targets"] == []
    face.tell("portal", ID, "connected", 2)
    client.until(lambda: client.get(PATH, PORTAL, "State") == "connected")
    assert client.get(PATH, PORTAL, "Mtu") == 9000
    (session,) = client.get(PATH, PORTAL, "Sessions")
    assert (session["Number"], session["State"], session["Ours"]) == (1, "LOGGED_IN", True)
    client.until(lambda: any("State" in change for change in client.changes(PATH)))


def test_secrets_come_as_descriptors_and_are_seen_nowhere(client: Client, face: Face) -> None:
    add(
        client,
        chap_user="me",
        chap_secret=descriptor("my-secret-12\n"),
        chap_user_in="they",
        chap_secret_in=descriptor("their-secret-34"),
        targets=dbus.Array(["iqn.x"], signature="s"),
    )
    assert face.tell("what_was_asked") == [["add_portal", ID, ["iqn.x"], ["my-secret-12", "their-secret-34"]]]
    assert client.get(PATH, PORTAL, "Chap") == dbus.Boolean(True)
    assert "my-secret" not in str(client.objects())


def test_a_secret_as_a_string_is_refused(client: Client, face: Face) -> None:
    name, message = error_of(lambda: add(client, chap_user="me", chap_secret="my-secret-12"))
    assert name == "org.p2vd1.Error.InvalidArgument"
    assert "chap-secret" in message
    assert "my-secret" not in message
    assert face.tell("what_was_asked") == []


@pytest.mark.parametrize(
    ("portal", "options", "says"),
    [
        ("storage.example", {}, "no IPv4 or IPv6 address"),
        ("10.98.1.1", {"chap_user": "me"}, "chap-secret"),
        ("10.98.1.1", {"targets": "iqn.x"}, "option targets"),
        ("10.98.1.1", {"targets": dbus.Array(["a b"], signature="s")}, "'a b' is no name"),
    ],
)
def test_a_wrong_request_names_the_place(
    client: Client, portal: str, options: dict[str, object], says: str
) -> None:
    name, message = error_of(lambda: add(client, portal, **options))
    assert name == "org.p2vd1.Error.InvalidArgument"
    assert says in message


def test_a_secret_that_does_not_come_is_not_waited_for(client: Client, face: Face) -> None:
    read, write = os.pipe()
    name, message = error_of(lambda: add(client, chap_user="me", chap_secret=dbus.types.UnixFd(read)))
    os.close(read)
    os.close(write)
    assert name == "org.p2vd1.Error.InvalidArgument"
    assert "nothing came in time" in message


def test_a_removed_portal_vanishes(client: Client, face: Face) -> None:
    add(client)
    client.manager("RemovePortal", "sa{sv}", ID, NONE)
    assert PATH not in client.objects()
    name, _ = error_of(client.manager, "RemovePortal", "sa{sv}", ID, NONE)
    assert name == "org.p2vd1.Error.NotFound"


def test_news_of_one_portal_leave_the_others_as_they_are(client: Client, face: Face) -> None:
    others = [add(client, f"10.98.1.{number}") for number in (2, 3)]
    add(client)
    face.tell("lose_portal", ID)
    client.until(lambda: PATH not in client.objects())
    assert set(others) < client.objects().keys()


def test_a_portal_in_use_says_by_whom(client: Client, face: Face) -> None:
    add(client)
    face.tell("portal", ID, "connected", 1)
    name, message = error_of(client.manager, "RemovePortal", "sa{sv}", ID, NONE)
    assert name == "org.p2vd1.Error.PortalInUse"
    assert "mounted on /mnt" in message


def test_a_rescan_reports(client: Client, face: Face) -> None:
    add(client)
    client.call(PATH, PORTAL, "Rescan", "a{sv}", dbus.Dictionary({"hct": "6:0:0"}, signature="sv"))
    assert face.tell("what_was_asked")[-1] == ["rescan_portal", ID, "6:0:0"]
    report = client.get(PATH, PORTAL, "LastRescan")
    assert report["New"] == ["36001405d"]
    assert report["LeftAlone"] == ["36001405e is in use."]


@pytest.mark.parametrize("method", ["AddPortal", "RemovePortal"])
def test_polkit_decides(client: Client, face: Face, method: str) -> None:
    face.tell("deny", "org.p2vd1.manage-portals")
    name, _ = error_of(client.call, ROOT, MANAGER, method, "sa{sv}", "10.98.1.1", NONE)
    assert name == "org.p2vd1.Error.NotAuthorized"
    assert face.tell("what_was_asked") == []


def test_an_ipv6_portal_has_a_path_that_comes_back(client: Client) -> None:
    path = add(client, "fd98::1@ens4")
    assert path == object_path(PORTAL, "[fd98::1]:3260@ens4")
    assert client.get(path, PORTAL, "Interface") == "ens4"
