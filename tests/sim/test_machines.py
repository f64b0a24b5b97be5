"""Machines of many disks over the whole simulated daemon: registered once, taken back, accepted."""

from pathlib import Path

import dbus
import pytest

from p2vd.bus.names import JOB, MACHINE, SOURCE, object_path
from tests.bus.harness import Client
from tests.sim.conftest import SCRIPT, Start
from tests.sim.harness import Simulated
from tests.sim.test_end_to_end import NONE, await_, ctl, limit, of, usable, uuid_of

SIX = SCRIPT.replace("count = 3", "count = 6")
SLOW_SIX = SIX.replace("400 MiB", "40 MiB")
MIB = 1 << 20


def migrate(client: Client, count: int, name: str = "erp1") -> tuple[str, list[str], list[str]]:
    """Plan and start a machine of so many disks, the last LUN first: its path, its jobs', its sources."""
    sources = usable(client)[:count][::-1]
    options = dbus.Dictionary({"source-offline": True, "name": name}, signature="sv")

    plan_id, page = client.manager("Plan", "asa{sv}", sources, options)
    assert [disk["SourceId"] for disk in page["Disks"]] == sources
    machine = str(client.manager("Migrate", "sa{sv}", plan_id, NONE))
    return machine, [str(job) for job in client.get(machine, MACHINE, "Jobs")], sources


def error(client: Client, machine: str) -> tuple[str, str]:
    name, text = client.get(machine, MACHINE, "Error")
    return str(name), str(text)


def verb(client: Client, machine: str, name: str, **options: object) -> None:
    client.call(machine, MACHINE, name, "a{sv}", dbus.Dictionary(options, signature="sv"))


def registered(start: Start, client: Client, count: int = 2) -> tuple[Simulated, str, list[str], str]:
    """A registered machine: the daemon, its path, its sources, its domain."""
    daemon = start()
    machine, _, sources = migrate(client, count)
    await_(client, machine, MACHINE, "State", "registered")
    return daemon, machine, sources, str(client.get(machine, MACHINE, "Domain"))


def test_of_six_disks_one_fails_and_nothing_is_defined_until_it_is_retried(
    start: Start, client: Client, bus_address: str
) -> None:
    daemon = start(SLOW_SIX)
    limit(client, 8)
    machine, jobs, sources = migrate(client, 6)
    victim = jobs[2]
    client.until(lambda: client.get(victim, JOB, "BytesCommitted"))
    daemon.tell("grow", sources[2], 200 * MIB)
    daemon.tell("kill", uuid_of(client, victim))
    await_(client, victim, JOB, "Stage", "failed")
    limit(client, 0)
    for job in jobs:
        await_(client, job, JOB, "Stage", *(["failed"] if job == victim else ["proven"]))
    assert client.get(machine, MACHINE, "State") == "copying"
    client.until(lambda: error(client, machine)[0] == "IdentityChanged")
    _, text = error(client, machine)
    assert text.startswith(f"Disk 3 of 6 ({sources[2]}) failed:")
    assert daemon.tell("domains") == []
    assert "Disk 3 of 6" in ctl(bus_address, "show", "erp1")
    daemon.tell("grow", sources[2], 96 * MIB)
    client.until(lambda: client.get(object_path(SOURCE, sources[2]), SOURCE, "Size") == 96 * MIB)
    ctl(bus_address, "retry", "erp1")
    await_(client, machine, MACHINE, "State", "registered")
    domain = str(client.get(machine, MACHINE, "Domain"))
    assert daemon.tell("domains") == [domain]
    assert daemon.tell("disks_of", domain) == [f"/dev/vg_san/erp1-{number}" for number in range(1, 7)]
    assert [client.get(job, JOB, "SourceId") for job in jobs] == sources
    assert error(client, machine) == ("", "")


def test_a_machine_of_two_disks_outlives_a_restart_of_the_daemon(start: Start, client: Client) -> None:
    daemon = start(SLOW_SIX)
    limit(client, 4)
    machine, jobs, _ = migrate(client, 2)
    client.until(lambda: all(client.get(job, JOB, "BytesCommitted") for job in jobs))
    assert daemon.stop() == 0
    daemon = start(SLOW_SIX)
    await_(client, machine, MACHINE, "State", "registered")
    domain = str(client.get(machine, MACHINE, "Domain"))
    assert daemon.tell("disks_of", domain) == ["/dev/vg_san/erp1-1", "/dev/vg_san/erp1-2"]


@pytest.mark.parametrize("restarted", [False, True], ids=["the daemon stays", "the daemon is restarted"])
def test_a_libvirtd_that_is_stopped_delays_the_registration(
    start: Start, client: Client, restarted: bool
) -> None:
    daemon = start()
    daemon.tell("stop_libvirt", True)
    machine, _, _ = migrate(client, 2)
    client.until(lambda: error(client, machine)[0] == "LibvirtUnreachable")
    assert client.get(machine, MACHINE, "State") in ("ready", "registering")
    if restarted:
        assert daemon.stop() == 0
        daemon = start()
    daemon.tell("stop_libvirt", False)
    await_(client, machine, MACHINE, "State", "registered")
    assert daemon.tell("domains") == [client.get(machine, MACHINE, "Domain")]


def test_a_manual_machine_waits_for_its_cutover_and_is_started(
    start: Start, client: Client, bus_address: str, tmp_path: Path
) -> None:
    daemon = start()
    policy = next((tmp_path / "state/policy.d").glob("*.toml"))
    text = policy.read_text()
    policy.write_text(text.replace("match.transport", 'cutover = "manual"\nmatch.transport'))
    ctl(bus_address, "reload")
    machine, _, _ = migrate(client, 2)
    await_(client, machine, MACHINE, "State", "ready")
    assert client.get(machine, MACHINE, "CutoverMode") == "manual"
    assert daemon.stop() == 0
    daemon = start()
    assert client.get(machine, MACHINE, "State") == "ready"
    assert daemon.tell("domains") == []
    assert "To register it: p2vctl cutover" in ctl(bus_address, "show", "erp1")
    assert "erp1 is registered" in ctl(bus_address, "cutover", "erp1", "--start")
    with pytest.raises(AssertionError, match="runs; it was not undefined"):
        ctl(bus_address, "rollback", "erp1")


def test_a_rollback_keeps_the_volumes_and_the_sources_can_be_planned_anew(
    start: Start, client: Client, bus_address: str
) -> None:
    daemon, machine, sources, domain = registered(start, client)
    daemon.tell("power", domain, True)
    verb(client, machine, "Rollback")
    client.until(lambda: error(client, machine)[0] == "DomainRunning")
    assert client.get(machine, MACHINE, "State") == "registered"
    assert daemon.tell("domains") == [domain]
    daemon.tell("power", domain, False)
    verb(client, machine, "Rollback")
    await_(client, machine, MACHINE, "State", "rolled-back")
    assert daemon.tell("domains") == []
    assert not any(daemon.tell("read_only", source) for source in sources)
    with pytest.raises(AssertionError, match="vg_san/erp1-1 is there already: it is what the job"):
        ctl(bus_address, "plan", *sources, "--source-offline", "--name", "erp1")
    again, _, _ = migrate(client, 2, "erp2")
    await_(client, again, MACHINE, "State", "registered")


def test_accepting_removes_the_sources_and_names_them(start: Start, client: Client, bus_address: str) -> None:
    daemon, machine, sources, domain = registered(start, client)
    with pytest.raises(AssertionError, match="--yes"):
        ctl(bus_address, "accept", "erp1")
    assert "The array may unmap" in ctl(bus_address, "accept", "erp1", "--yes")
    assert client.get(machine, MACHINE, "State") == "accepted"
    assert sorted(client.get(machine, MACHINE, "Unmap")) == sorted(sources)
    client.until(lambda: not {object_path(SOURCE, source) for source in sources} & of(client, SOURCE).keys())
    assert len(usable(client)) == 1
    assert daemon.tell("domains") == [domain]
    with pytest.raises(AssertionError, match="is not possible now"):
        ctl(bus_address, "rollback", "erp1")
