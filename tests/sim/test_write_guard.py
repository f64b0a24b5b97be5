"""What a running copy keeps of its source: writers off it, and every path asked who it is."""

import dbus

from p2vd.bus.names import JOB, MACHINE, SOURCE, object_path
from tests.bus.harness import Client
from tests.sim.conftest import Start
from tests.sim.test_end_to_end import NONE, SLOW, await_, ctl, limit, migrate, usable
from tests.waiting import until

OTHER = "36001405ffffffffffffffffffffffffff"


def error(client: Client, job: str) -> list[str]:
    return [str(word) for word in client.get(job, JOB, "Error")]


def test_the_source_is_read_only_while_it_is_copied_and_is_as_it_was_after(
    start: Start, client: Client
) -> None:
    daemon = start(SLOW)
    limit(client, 2)
    source = usable(client)[0]
    first, second = daemon.tell("paths", source)
    daemon.tell("set_read_only", second, True)
    machine, job = migrate(client, source)
    client.until(lambda: client.get(job, JOB, "BytesCommitted"))
    assert daemon.tell("read_only", source) == ["map", first, second]
    # Neither who sets it back meanwhile has it, nor who finds a path that is logged in meanwhile.
    daemon.tell("set_read_only", first, False)
    new = daemon.tell("add_path", source)
    until(lambda: daemon.tell("read_only", source) == ["map", first, second, new])
    limit(client, 0)
    await_(client, machine, MACHINE, "State", "registered")
    assert daemon.tell("read_only", source) == [second]


def failures(bus_address: str) -> int:
    """How often a job failed, by the audit: on the bus it has not changed where it fails again at once."""
    return ctl(bus_address, "audit").count("job failed")


def test_a_path_that_comes_back_as_another_lun_ends_the_copy_for_good(
    start: Start, client: Client, bus_address: str
) -> None:
    daemon = start(SLOW)
    limit(client, 2)
    source = usable(client)[0]
    path = daemon.tell("paths", source)[1]
    machine, job = migrate(client, source)
    client.until(lambda: client.get(job, JOB, "BytesCommitted"))
    daemon.tell("path", path, False)
    client.until(lambda: client.get(object_path(SOURCE, source), SOURCE, "PathsReady") == 1)
    daemon.tell("lead_elsewhere", path, OTHER)
    daemon.tell("path", path, True)
    await_(client, job, JOB, "Stage", "failed")
    name, message = error(client, job)
    assert name == "IdentityChanged"
    for told in (f"/dev/{path}", source, OTHER):
        assert told in message
    until(lambda: daemon.tell("read_only", source) == [])  # no signal tells of it
    # What was read through it stays in the volume, whatever the path leads to by now.
    daemon.tell("lead_elsewhere", path, source)
    until(lambda: failures(bus_address) == 1)
    client.call(job, JOB, "Retry", "a{sv}", NONE)
    until(lambda: failures(bus_address) == 2)
    assert error(client, job) == [name, message]
    client.call(machine, MACHINE, "Cancel", "a{sv}", dbus.Dictionary({"target": "remove"}, signature="sv"))
    await_(client, machine, MACHINE, "State", "cancelled")
