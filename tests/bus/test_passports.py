"""Records of machines on the bus: objects, descriptors that never end, and no half of a record."""

import json
import os
from collections.abc import Callable
from typing import Any

import dbus
import pytest

from p2vd.bus.names import MANAGER, PASSPORT, ROOT, object_path
from p2vd.model.codec import to_dict, to_json
from p2vd.model.passport_record import MAX_BYTES
from tests.bus import values
from tests.bus.harness import Client, Face
from tests.bus.test_portals import descriptor
from tests.bus.test_service import NONE, error_of

PATH = object_path(PASSPORT, "erp1")
RECORD = to_json(values.PASSPORT)


def take_in(client: Client, record: str = RECORD, **options: object) -> Any:
    given = dbus.Dictionary(options, signature="sv")
    return client.manager("ImportMachine", "ha{sv}", descriptor(record), given)


def test_a_record_is_an_object_at_once(client: Client, face: Face) -> None:
    assert take_in(client) == PATH
    own = client.objects()[PATH][PASSPORT]
    assert json.loads(client.call(PATH, PASSPORT, "GetRecord", "a{sv}", NONE)) == to_dict(values.PASSPORT)
    assert (own["Name"], own["Cpus"], own["Memory"], own["Firmware"]) == ("erp1", 64, 256 << 30, "uefi")
    assert [(disk["Wwid"], bool(disk["Boots"])) for disk in own["Disks"]] == [
        (values.WWID, True),
        ("35000c500a1b2c3d4", False),
    ]
    assert own["Nics"][0]["Addresses"] == ["10.1.2.3/24"]
    client.until(lambda: client.heard("InterfacesAdded"))
    assert [arguments[0] for arguments in client.heard("InterfacesAdded")] == [PATH]


def test_a_record_may_be_written_by_hand_and_named_anew(client: Client, face: Face) -> None:
    assert take_in(client, 'name = "x"\nmemory_bytes = "4 GiB"\n', name="web.1") == object_path(
        PASSPORT, "web.1"
    )
    own = client.objects()[object_path(PASSPORT, "web.1")][PASSPORT]
    assert (own["Name"], own["Memory"], bool(own["WrittenByHand"])) == ("web.1", 4 << 30, True)


def test_another_record_of_that_name_is_replaced_only_if_asked(client: Client, face: Face) -> None:
    take_in(client)
    assert take_in(client) == PATH  # the same again
    other = 'name = "erp1"\n'
    name, message = error_of(lambda: take_in(client, other))
    assert name == "org.p2vd1.Error.PassportExists"
    assert "p2vctl machine import FILE --replace" in message
    assert client.get(PATH, PASSPORT, "Memory") == 256 << 30
    assert take_in(client, other, replace=True) == PATH
    assert client.get(PATH, PASSPORT, "Memory") == 0
    client.until(lambda: any("Digest" in change for change in client.changes(PATH)))


def test_every_mistake_is_named_and_nothing_is_kept(client: Client, face: Face) -> None:
    name, message = error_of(lambda: take_in(client, '{"name": "x", "memory": 1, "cpu": {"sockets": "two"}}'))
    assert name == "org.p2vd1.Error.PassportInvalid"
    assert "memory: there is no such key" in message
    assert "cpu.sockets: must be a whole number from 0, not 'two'" in message
    assert not [path for path in client.objects() if "passport" in path]


def test_a_descriptor_that_never_ends_delays_nobody(client: Client, face: Face) -> None:
    read, write = os.pipe()
    os.write(write, b'{"name": ')
    name, message = error_of(client.manager, "ImportMachine", "ha{sv}", dbus.types.UnixFd(read), NONE)
    os.close(read)
    os.close(write)
    assert name == "org.p2vd1.Error.InvalidArgument"
    assert "its end did not come in time" in message


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda: os.open("/dev/zero", os.O_RDONLY), "it is no file, pipe or socket"),
        (lambda: os.open("/", os.O_RDONLY), "it is no file, pipe or socket"),
        (lambda: endless(MAX_BYTES + 1), f"it is longer than {MAX_BYTES} bytes"),
    ],
    ids=["a device", "a directory", "too long"],
)
def test_what_is_no_record_is_not_read_on(
    client: Client, face: Face, made: Callable[[], int], says: str
) -> None:
    fd = made()
    name, message = error_of(client.manager, "ImportMachine", "ha{sv}", dbus.types.UnixFd(fd), NONE)
    os.close(fd)
    assert name == "org.p2vd1.Error.InvalidArgument"
    assert says in message


def endless(size: int) -> int:
    fd = os.memfd_create("record")
    os.truncate(fd, size)
    return fd


def test_a_removed_record_vanishes(client: Client, face: Face) -> None:
    take_in(client)
    client.call(PATH, PASSPORT, "Remove", "a{sv}", NONE)
    assert PATH not in client.objects()
    name, _ = error_of(client.call, PATH, PASSPORT, "Remove", "a{sv}", NONE)
    assert name == "org.freedesktop.DBus.Error.UnknownObject"


def test_a_guess_is_shown_and_not_kept(client: Client, face: Face) -> None:
    record, notes = client.manager("GuessMachine", "asa{sv}", [values.WWID], NONE)
    (disk,) = json.loads(record)["disks"]
    assert (disk["wwid"], disk["partition_table"], disk["boots"]) == (values.WWID, "gpt", True)
    assert json.loads(record)["firmware"] == "uefi"
    assert "Guessed from the disks alone." in notes[0]
    assert not [path for path in client.objects() if "passport" in path]


@pytest.mark.parametrize(
    ("sources", "error"),
    [(["nosuch"], "NotFound"), ([], "InvalidArgument"), ([values.WWID] * 2, "InvalidArgument")],
)
def test_a_guess_wants_known_disks_each_once(
    client: Client, face: Face, sources: list[str], error: str
) -> None:
    name, _ = error_of(client.manager, "GuessMachine", "asa{sv}", dbus.Array(sources, signature="s"), NONE)
    assert name == f"org.p2vd1.Error.{error}"


def test_polkit_decides(client: Client, face: Face) -> None:
    take_in(client)
    face.tell("deny", "org.p2vd1.migrate")
    assert error_of(lambda: take_in(client, 'name = "x"'))[0] == "org.p2vd1.Error.NotAuthorized"
    assert (
        error_of(client.call, PATH, PASSPORT, "Remove", "a{sv}", NONE)[0] == "org.p2vd1.Error.NotAuthorized"
    )
    assert list(client.objects()[PATH]) == [PASSPORT]


def test_a_record_is_no_argument_of_another_type(client: Client, face: Face) -> None:
    name, _ = error_of(client.call, ROOT, MANAGER, "ImportMachine", "sa{sv}", RECORD, NONE)
    assert name == "org.freedesktop.DBus.Error.InvalidArgs"
