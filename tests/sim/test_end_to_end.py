"""The whole daemon over its real bus, with a simulated SAN behind its doors."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dbus
import pytest

from p2vd.bus.names import JOB, MACHINE, SOURCE, VOLUME_GROUP, object_path
from tests.bus.harness import Client
from tests.sim.conftest import SCRIPT, Start
from tests.sim.harness import Simulated

NONE = dbus.Dictionary({}, signature="sv")
SLOW = SCRIPT.replace("400 MiB", "40 MiB")


def of(client: Client, interface: str) -> dict[str, Any]:
    """The objects with an interface: their properties by path."""
    return {path: own[interface] for path, own in client.objects().items() if interface in own}


def looked_at(client: Client) -> list[dict[str, Any]]:
    """All sources, once it is known what is on them."""

    def done() -> list[dict[str, Any]]:
        sources = list(of(client, SOURCE).values())
        return [] if any(each["Contents"]["State"] == "under-way" for each in sources) else sources

    found: list[dict[str, Any]] = client.until(done)
    return found


def usable(client: Client, *transports: str) -> list[str]:
    """The ids of the usable sources, of these transports (none given: of all), once all were looked at."""
    return sorted(
        str(each["Id"])
        for each in looked_at(client)
        if each["Usable"] and (not transports or each["Transport"] in transports)
    )


def limit(client: Client, mib_per_s: int) -> None:
    """What all copies may read a second; 0: as much as they can.

    A copy that something is to happen to is slowed down before it begins: however long the test takes to get
    there, it is still under way. A restart of the daemon ends the limit.
    """
    client.manager("SetBandwidth", "ta{sv}", dbus.UInt64(mib_per_s << 20), NONE)


def sizes_told(client: Client, source: str) -> list[int]:
    """What signals said of a source's size, once there is one."""
    path = object_path(SOURCE, source)
    found: list[int] = client.until(lambda: [one["Size"] for one in client.changes(path) if "Size" in one])
    return found


def migrate(client: Client, source: str = "", name: str = "erp1") -> tuple[str, str]:
    """Plan and start a copy; the machine's and the job's path."""
    options = dbus.Dictionary({"source-offline": True, "name": name}, signature="sv")
    plan_id, _ = client.manager("Plan", "asa{sv}", [source or usable(client)[0]], options)
    machine = str(client.manager("Migrate", "sa{sv}", plan_id, NONE))
    (job,) = client.get(machine, MACHINE, "Jobs")
    return machine, str(job)


def uuid_of(client: Client, job: str) -> str:
    return str(client.get(job, JOB, "Uuid"))


def await_(client: Client, path: str, interface: str, name: str, *values: str) -> None:
    """Wait until a property has one of the values; the signals that come meanwhile are kept."""
    client.until(lambda: str(client.get(path, interface, name)) in values)


def await_holds(client: Client, job: str, *holds: str) -> None:
    client.until(lambda: [str(hold) for hold in client.get(job, JOB, "Holds")] == list(holds))


def ctl(address: str, *words: str, exits: int = 0) -> str:
    argv = [sys.executable, "-m", "p2vd.cli.main", "--bus", address, *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == exits, done.stderr
    return done.stdout


def test_a_disk_goes_its_way_to_a_registered_machine(start: Start, client: Client, tmp_path: Path) -> None:
    # Each stage takes its time: of those that follow each other at once only the last may be told.
    daemon = start(SLOW.replace("800 MiB", "80 MiB"))
    assert len(usable(client)) == 3
    (used,) = [each for each in of(client, SOURCE).values() if not each["Usable"]]
    assert "vg_san/pool0" in str(used["Reasons"][0])
    machine, job = migrate(client)
    await_(client, machine, MACHINE, "State", "registered")
    stages = [change["Stage"] for change in client.changes(job) if "Stage" in change]
    assert [stage for stage in stages if stage != "provisioning"] == ["copying", "verifying", "proven"]
    values = of(client, JOB)[job]
    size = 96 << 20
    assert (values["BytesCopied"], values["BytesZero"], values["BytesVerified"]) == (24 << 20, 72 << 20, size)
    (group,) = of(client, VOLUME_GROUP).values()
    assert group["ThinPools"][0]["DataPercent"] > 0
    assert daemon.tell("domains") == [client.get(machine, MACHINE, "Domain")]
    receipt = json.loads((tmp_path / f"state/jobs/{values['Uuid']}/receipt.json").read_text())
    assert receipt["proof"]["digest"] == "simulated:"


def test_a_registered_machine_is_started_for_a_test(
    start: Start, client: Client, tmp_path: Path, bus_address: str
) -> None:
    start()
    machine, _ = migrate(client)
    await_(client, machine, MACHINE, "State", "registered")
    assert client.get(machine, MACHINE, "BootTest") == {}
    out = ctl(bus_address, "boot-test", "erp1", "--expect", "login:")
    assert "The guest booted: its serial port said 'Simulated guest login:'." in out
    test = client.get(machine, MACHINE, "BootTest")
    assert Path(str(test["Screenshot"])).is_relative_to(tmp_path)
    assert Path(str(test["Screenshot"])).read_bytes().startswith(b"\x89PNG")
    assert "booted" in ctl(bus_address, "show", "erp1")


def promised(client: Client) -> int:
    """What the volumes of the one pool may take of it in all."""
    (group,) = of(client, VOLUME_GROUP).values()
    return int(group["ThinPools"][0]["VirtualSize"])


def test_a_copy_is_paused_resumed_and_cancelled_with_its_volume(start: Start, client: Client) -> None:
    start(SLOW)
    limit(client, 2)
    machine, job = migrate(client)
    await_(client, job, JOB, "Activity", "running")
    client.call(job, JOB, "Pause", "a{sv}", NONE)
    await_(client, job, JOB, "Activity", "idle")
    assert list(client.get(job, JOB, "Holds")) == ["user"]
    client.call(job, JOB, "Resume", "a{sv}", NONE)
    await_(client, job, JOB, "Activity", "running")
    target = client.get(job, JOB, "TargetUuid")
    client.call(machine, MACHINE, "Cancel", "a{sv}", dbus.Dictionary({"target": "remove"}, signature="sv"))
    await_(client, machine, MACHINE, "State", "cancelled")
    assert target
    client.until(lambda: promised(client) == 0)
    # Nothing of it is left: the same plan can be made again.
    migrate(client)


def test_a_killed_worker_goes_on_at_its_checkpoint(start: Start, client: Client) -> None:
    daemon = start(SLOW)
    limit(client, 2)
    machine, job = migrate(client)
    client.until(lambda: client.get(job, JOB, "BytesCommitted"))
    daemon.tell("kill", uuid_of(client, job))
    client.until(lambda: client.get(job, JOB, "ResumedFrom"))
    limit(client, 0)
    await_(client, machine, MACHINE, "State", "registered")
    assert client.get(job, JOB, "ResumedFrom") < 96 << 20


def test_a_read_that_hangs_is_told_and_goes_on(start: Start, client: Client) -> None:
    daemon = start(SLOW)
    limit(client, 2)
    _, job = migrate(client)
    await_(client, job, JOB, "Activity", "running")
    client.until(lambda: client.get(job, JOB, "BytesCommitted"))
    daemon.tell("stall", uuid_of(client, job), True)
    await_(client, job, JOB, "Activity", "stalled")
    assert "read of" in client.get(job, JOB, "Stalled")
    daemon.tell("stall", uuid_of(client, job), False)
    await_(client, job, JOB, "Activity", "running", "idle")


def test_a_restarted_daemon_resumes_on_the_same_volume(start: Start, client: Client) -> None:
    daemon = start(SLOW)
    limit(client, 2)
    machine, job = migrate(client)
    client.until(lambda: client.get(job, JOB, "BytesCommitted"))
    target = client.get(job, JOB, "TargetUuid")
    assert daemon.stop() == 0
    start(SLOW)
    await_(client, machine, MACHINE, "State", "registered")
    assert client.get(job, JOB, "TargetUuid") == target
    assert client.get(job, JOB, "ResumedFrom") > 0


def test_luns_come_go_and_change_on_the_bus(start: Start, client: Client) -> None:
    daemon = start()
    first, second, _ = usable(client)
    client.forget()
    daemon.tell("grow", first, 1 << 30)
    assert sizes_told(client, first) == [1 << 30]
    looked_at(client)
    told = client.changes(object_path(SOURCE, first))
    # It is looked at anew, and not to be planned meanwhile.
    assert {name for change in told for name in change} <= {"Size", "Contents", "Usable", "Reasons"}
    daemon.tell("path", daemon.tell("paths", second)[0], False)
    client.until(lambda: client.changes(object_path(SOURCE, second)))
    assert client.changes(object_path(SOURCE, second)) == [{"PathsReady": 1}]
    daemon.tell("detach", first)
    client.until(lambda: client.heard("InterfacesRemoved"))
    assert client.heard("InterfacesRemoved") == [[object_path(SOURCE, first), [SOURCE]]]
    new = daemon.tell("attach", 4, 1 << 30)
    client.until(lambda: client.heard("InterfacesAdded"))
    assert [path for path, _ in client.heard("InterfacesAdded")] == [object_path(SOURCE, new)]


def test_one_changed_lun_costs_one_refresh_of_two_commands(start: Start, client: Client) -> None:
    daemon = start()
    lun = usable(client)[0]
    looks, counts = daemon.tell("looks"), daemon.tell("counts")
    daemon.tell("grow", lun, 1 << 30)
    assert sizes_told(client, lun) == [1 << 30]
    assert daemon.tell("looks") == {**looks, "refresh": looks["refresh"] + 1}
    after = daemon.tell("counts")
    assert {name: after[name] - counts.get(name, 0) for name in after} == {"multipathd": 1, "lvm": 1}


def test_a_storm_costs_few_looks_and_every_call_is_answered(start: Start, client: Client) -> None:
    daemon = start()
    before = daemon.tell("looks")
    daemon.tell("storm", 10_000)
    while daemon.tell("waiting"):
        assert client.get(object_path(SOURCE, usable(client)[0]), SOURCE, "Size")
    client.until(lambda: not daemon.tell("looking"))
    after = daemon.tell("looks")
    assert after["scan"] == before["scan"]
    assert after["refresh"] - before["refresh"] <= 25  # of 20 bursts, and what comes between


def test_p2vctl_shows_plans_and_migrates(start: Start, bus_address: str, client: Client) -> None:
    daemon = start()
    lun = usable(client)[0]
    assert lun in ctl(bus_address, "sources")
    page = json.loads(ctl(bus_address, "plan", lun, "--source-offline", "--name", "erp1", "--json"))
    assert page["VolumeGroup"] == "vg_san"
    assert "erp1 is registered" in ctl(bus_address, "migrate", page["Id"], "--wait")
    assert "proven" in ctl(bus_address, "jobs")
    path = daemon.tell("paths", usable(client)[1])[0]
    with pytest.raises(AssertionError, match=f"one path of the multipathed LUN {usable(client)[1]}"):
        ctl(bus_address, "plan", path, "--source-offline")


def test_the_script_denies_what_it_says(start: Start, client: Client) -> None:
    start(SCRIPT + '[authority]\ndeny = ["org.p2vd1.migrate"]\n')
    with pytest.raises(dbus.DBusException, match="script denies") as refused:
        migrate(client)
    assert refused.value.get_dbus_name() == "org.p2vd1.Error.NotAuthorized"


def test_it_says_loudly_that_nothing_is_real_and_writes_nowhere_else(
    start: Start, client: Client, tmp_path: Path
) -> None:
    daemon = start()
    assert "simulation" in client.get("/org/p2vd1", "org.p2vd1.Manager", "Version")
    assert "SIMULATION: polkit is not asked" in daemon.log.read_text()
    written = [
        path for path in written_by(daemon.pid) if path.is_file() and not str(path).startswith("/memfd")
    ]
    assert any(tmp_path in path.parents for path in written)
    assert [path for path in written if tmp_path not in path.parents] == []


def written_by(pid: int) -> list[Path]:
    """What a process has open to be written to; it opens and closes meanwhile."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            flags = int(Path(f"/proc/{pid}/fdinfo/{link.name}").read_text().split("flags:")[1].split()[0], 8)
            if flags & os.O_ACCMODE != os.O_RDONLY:
                found.append(link.readlink())
    return found


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--sim"], "--sim needs --state-dir"),
        (["--sim", "--state-dir", "/nowhere"], "--sim needs a bus of its own"),
        (["--bus-address", "unix:path=/x"], "are for --sim"),
        (
            ["--sim=/nowhere.toml", "--state-dir", "/nowhere", "--bus-address", "unix:path=/x"],
            "cannot be read",
        ),
    ],
)
def test_a_simulation_that_could_be_taken_for_real_does_not_start(words: list[str], told: str) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "DBUS_SYSTEM_BUS_ADDRESS"}
    argv = [sys.executable, "-m", "p2vd.daemon", *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode != 0
    assert told in done.stderr
    assert not Path("/nowhere").exists()


def test_another_script_is_refused_on_the_same_state(start: Start, tmp_path: Path) -> None:
    daemon = start()
    assert daemon.stop() == 0
    other = Simulated("unix:path=/nowhere", tmp_path / "state", SCRIPT.replace("96 MiB", "192 MiB"))
    with other:
        assert other.wait() != 0
    assert "it is of another script" in other.log.read_text()


def test_more_jobs_than_may_work_wait_in_order_and_say_what_for(
    start: Start, bus_address: str, client: Client
) -> None:
    start(SLOW.replace("count = 3", "count = 6"))
    limit(client, 4)
    moves = [migrate(client, source, f"m{number}") for number, source in enumerate(usable(client))]
    jobs = [job for _, job in moves]
    for place, job in enumerate(jobs[4:], 1):
        await_(client, job, JOB, "QueuePlace", str(place))
        await_holds(client, job, "slot")
        assert client.get(job, JOB, "Waiting") == "4 jobs work already (max_jobs = 4)."
        assert client.get(job, JOB, "Stage") == "planned"
    assert "2 jobs wait: 4 jobs work already (max_jobs = 4)." in ctl(bus_address, "jobs")
    client.call(jobs[0], JOB, "Pause", "a{sv}", NONE)
    await_(client, jobs[4], JOB, "Activity", "running")
    await_(client, jobs[5], JOB, "QueuePlace", "1")
    client.call(jobs[0], JOB, "Resume", "a{sv}", NONE)
    await_(client, jobs[0], JOB, "QueuePlace", "1")
    limit(client, 0)
    for machine, _ in moves:
        await_(client, machine, MACHINE, "State", "registered")
    assert {str(client.get(job, JOB, "Waiting")) for job in jobs} == {""}
