"""Records of machines in a simulated daemon: kept over a restart, and guessed from simulated disks."""

import json

import dbus

from p2vd.bus.names import MANAGER, PASSPORT, ROOT, object_path
from tests.bus.harness import Client
from tests.bus.test_portals import descriptor
from tests.sim.conftest import Start
from tests.sim.test_end_to_end import usable

NONE = dbus.Dictionary({}, signature="sv")
PATH = object_path(PASSPORT, "erp1")


def test_a_record_is_remembered_until_it_is_removed(start: Start, client: Client) -> None:
    daemon = start()
    record = descriptor('name = "erp1"\nmemory_bytes = "8 GiB"\n')
    assert client.manager("ImportMachine", "ha{sv}", record, NONE) == PATH
    assert daemon.stop() == 0
    daemon = start()
    assert client.objects()[PATH][PASSPORT]["Memory"] == 8 << 30
    client.call(PATH, PASSPORT, "Remove", "a{sv}", NONE)
    assert daemon.stop() == 0
    start()
    assert PATH not in client.objects()


def test_a_guess_names_simulated_disks(start: Start, client: Client) -> None:
    start()
    luns = usable(client, "iscsi")[:2]
    assert len(luns) == 2
    record, notes = client.call(
        ROOT, MANAGER, "GuessMachine", "asa{sv}", luns, dbus.Dictionary({"name": "erp1"}, signature="sv")
    )
    assert [disk["wwid"] for disk in json.loads(record)["disks"]] == luns
    assert json.loads(record)["name"] == "erp1"
    assert len(notes) >= 2
