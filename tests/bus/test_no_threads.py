"""Calls that the host has no thread for: each has its answer, and none counts as under way for ever."""

import dbus
import pytest

from p2vd.bus.names import ERROR_PREFIX
from p2vd.bus.service import CALLS_AT_ONCE
from tests.bus.harness import Client, Face


def test_a_call_without_a_thread_is_refused_and_is_not_under_way(face: Face, client: Client) -> None:
    face.tell("threads", False)
    for _ in range(CALLS_AT_ONCE + 1):
        with pytest.raises(dbus.DBusException, match="TasksMax=") as refused:
            client.manager("Doctor", "a{sv}", dbus.Dictionary({}, signature="sv"))
        assert refused.value.get_dbus_name() == f"{ERROR_PREFIX}NoThread"
    face.tell("threads", True)
    client.manager("Doctor", "a{sv}", dbus.Dictionary({}, signature="sv"))
