"""Calls that no client library makes, found by tests/sim/test_fuzz.py: each is refused by its right name."""

import pytest
from gi.repository import GLib

from p2vd.bus.names import MANAGER, PROPERTIES, ROOT
from tests.bus.harness import Face
from tests.sim.fuzz import Sender, Sent

INVALID = "org.freedesktop.DBus.Error.InvalidArgs"


@pytest.mark.parametrize(
    ("member", "body"),
    [
        ("ImportMachine", GLib.Variant("(ha{sv})", (0, {}))),
        ("ImportMachine", GLib.Variant("(ha{sv})", (1 << 30, {}))),
        ("Rescan", GLib.Variant("(a{sv})", ({"scsi": GLib.Variant("h", 0)},))),
    ],
)
def test_a_descriptor_that_nobody_sent(face: Face, bus_address: str, member: str, body: object) -> None:
    sender = Sender(bus_address)
    name, sentence = sender.send(Sent(ROOT, MANAGER, member, body))
    sender.close()
    assert name == INVALID
    assert "invalid file descriptor" in sentence


@pytest.mark.parametrize("value", [GLib.Variant("y", 255), GLib.Variant("h", 3)])
def test_a_property_is_read_only_whatever_it_is_set_to(face: Face, bus_address: str, value: object) -> None:
    sender = Sender(bus_address)
    body = GLib.Variant("(ssv)", (MANAGER, "Version", value))
    name, _ = sender.send(Sent(ROOT, PROPERTIES, "Set", body))
    sender.close()
    assert name in ("org.freedesktop.DBus.Error.PropertyReadOnly", INVALID)
