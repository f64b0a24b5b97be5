"""What copies may read a second, over the bus."""

import dbus
import pytest

from p2vd.bus.names import JOB, MANAGER, ROOT, object_path
from tests.bus import values
from tests.bus.harness import Client, Face

NONE = dbus.Dictionary({}, signature="sv")
JOB_PATH = object_path(JOB, values.JOB_UUID)


def test_the_bandwidth_of_all_is_changed_and_each_job_tells_its_share(client: Client, face: Face) -> None:
    client.manager("Migrate", "sa{sv}", values.PLAN_ID, NONE)
    assert (client.get(ROOT, MANAGER, "Bandwidth"), client.get(JOB_PATH, JOB, "Bandwidth")) == (0, 0)
    client.manager("SetBandwidth", "ta{sv}", 100 << 20, NONE)
    assert client.get(ROOT, MANAGER, "Bandwidth") == 100 << 20
    assert client.get(JOB_PATH, JOB, "Bandwidth") == 50 << 20
    assert client.get(JOB_PATH, JOB, "BandwidthReason") == "Its share of 100 MiB/s, which 2 copies share."
    assert face.tell("what_was_asked")[-1] == ["set_total", 100 << 20]
    with pytest.raises(dbus.DBusException) as caught:
        client.manager("SetBandwidth", "ta{sv}", 1, NONE)
    assert caught.value.get_dbus_name() == "org.p2vd1.Error.InvalidArgument"
