"""Options, of every method: a trailing a{sv}, of which what is not known is refused by its name."""

import os

import dbus
import pytest

from p2vd.bus.introspection import interfaces
from p2vd.bus.names import (
    ERROR_PREFIX,
    JOB,
    MACHINE,
    MANAGER,
    PASSPORT,
    PORTAL,
    ROOT,
    SOURCE,
    VOLUME_GROUP,
    object_path,
)
from tests.bus import values
from tests.bus.harness import Client, Face

METHODS = [(name, method) for name, spec in interfaces().items() for method in spec.methods]
PATHS = {
    MANAGER: ROOT,
    SOURCE: object_path(SOURCE, values.WWID),
    VOLUME_GROUP: object_path(VOLUME_GROUP, values.VG_UUID),
    MACHINE: object_path(MACHINE, values.MACHINE_UUID),
    JOB: object_path(JOB, values.JOB_UUID),
    PORTAL: object_path(PORTAL, "10.98.1.1:3260"),
    PASSPORT: object_path(PASSPORT, "erp1"),
}
ARGUMENTS = {"s": "x", "t": 1, "u": 1, "b": True}


def arguments(signature: str) -> list[object]:
    """Something for each argument before the options."""
    found: list[object] = []
    for kind in signature.removesuffix("a{sv}").replace("aa{sv}", "D").replace("as", "A"):
        if kind == "h":
            found.append(dbus.types.UnixFd(os.open(os.devnull, os.O_RDONLY)))
        else:
            found.append({"A": ["x"], "D": [{"machine": "x"}]}.get(kind) or ARGUMENTS[kind])
    return found


@pytest.fixture
def everything(client: Client, face: Face) -> Client:
    """A client of a daemon that has one object of each kind."""
    face.tell("add", values.JOB_UUID, values.MACHINE_UUID)
    none = dbus.Dictionary({}, signature="sv")
    client.manager("AddPortal", "sa{sv}", "10.98.1.1:3260", none)
    fd = os.memfd_create("record")
    os.write(fd, b'{"name": "erp1"}')
    os.lseek(fd, 0, os.SEEK_SET)
    client.manager("ImportMachine", "ha{sv}", dbus.types.UnixFd(fd), none)
    os.close(fd)
    client.until(lambda: set(PATHS.values()) - {ROOT} <= set(client.objects()))
    return client


def test_an_unknown_option_is_refused_by_every_method_and_nothing_is_done(
    everything: Client, face: Face
) -> None:
    before = face.tell("what_was_asked")
    for interface, method in METHODS:
        signature = interfaces()[interface].methods[method].in_signature
        options = dbus.Dictionary({"colour": "red"}, signature="sv")
        with pytest.raises(dbus.DBusException) as caught:
            everything.call(PATHS[interface], interface, method, signature, *arguments(signature), options)
        assert caught.value.get_dbus_name() == f"{ERROR_PREFIX}OptionNotPermitted", method
        assert f"{method} knows no option 'colour'." in str(caught.value)
    assert face.tell("what_was_asked") == before


@pytest.mark.parametrize(("interface", "method"), METHODS)
def test_every_option_has_a_type_that_is_checked(interface: str, method: str) -> None:
    for option, kind in interfaces()[interface].methods[method].options.items():
        assert kind in ("s", "b", "t", "u", "as", "h"), option


def test_a_place_that_is_not_there_is_no_problem_of_the_host(client: Client) -> None:
    """Who named it is told so; all others see what is wrong with the host, and this is not."""
    problems = client.get(ROOT, MANAGER, "Problems")
    wrong = dbus.Dictionary({"scsi": "host99"}, signature="sv")
    with pytest.raises(dbus.DBusException, match="host99"):
        client.manager("Rescan", "a{sv}", wrong)
    client.manager("Rescan", "a{sv}", dbus.Dictionary({"scsi": "7"}, signature="sv"))
    with pytest.raises(dbus.DBusException, match="host99"):
        client.manager("Rescan", "a{sv}", wrong)
    assert client.get(ROOT, MANAGER, "Problems") == problems
