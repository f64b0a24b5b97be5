"""Whole LUNs and files as targets, over the bus, with a simulated SAN behind the doors."""

from pathlib import Path

import dbus
import pytest

from p2vd.bus.names import JOB, MACHINE, SOURCE
from tests.bus.harness import Client
from tests.sim.conftest import Start
from tests.sim.test_end_to_end import await_, ctl, limit, looked_at, migrate, of, uuid_of

SCRIPT = """
[[luns]]
count = 3
size = "96 MiB"

[[luns]]
count = 2
size = "128 MiB"
model = "EMPTY"
empty = true

[[directory]]
path = "/srv/images"
size = "1 GiB"

[speed]
copy = "400 MiB"
verify = "800 MiB"
"""
SLOW = SCRIPT.replace("400 MiB", "40 MiB")
LUN = """
[[rule]]
name = "luns"
match.model = "SIMULATED"
target.lun.model = "EMPTY"
"""
FILE = """
[[rule]]
name = "files"
match.model = "SIMULATED"
target.directory = "/srv/images"
target.require_mount = "/srv/images"
"""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "state/policy.d/10.toml"
    path.parent.mkdir(parents=True)
    return path


def full(client: Client) -> str:
    """A LUN that is to be copied."""
    return str(min(each["Id"] for each in looked_at(client) if each["Model"] == "SIMULATED"))


def empty(client: Client) -> set[str]:
    return {str(each["Id"]) for each in looked_at(client) if each["Model"] == "EMPTY"}


def refusal(client: Client, source: str) -> str:
    options = dbus.Dictionary({"source-offline": True, "name": "again"}, signature="sv")
    with pytest.raises(dbus.DBusException) as refused:
        client.manager("Plan", "asa{sv}", [source], options)
    return str(refused.value)


def image(tmp_path: Path, name: str) -> Path:
    return tmp_path / "state/sim/files/srv/images" / name


def removed(client: Client, machine: str) -> None:
    client.call(machine, MACHINE, "Cancel", "a{sv}", dbus.Dictionary({"target": "remove"}, signature="sv"))
    await_(client, machine, MACHINE, "State", "cancelled")


def test_a_disk_becomes_a_lun(start: Start, client: Client, policy: Path, bus_address: str) -> None:
    policy.write_text(LUN)
    daemon = start(SCRIPT)
    luns = empty(client)
    machine, job = migrate(client, full(client))
    await_(client, machine, MACHINE, "State", "registered")
    target = str(client.get(job, JOB, "Target"))
    (taken,) = {wwid for wwid in luns if wwid in target}
    assert target == f"/dev/disk/by-id/dm-uuid-mpath-{taken}"
    assert client.get(job, JOB, "TargetKind") == "lun"
    assert daemon.tell("disks_of", client.get(machine, MACHINE, "Domain")) == [target]
    assert f"LUN {taken}" in ctl(bus_address, "receipt", uuid_of(client, job))
    # It is never a source of anything, and not the target of a second job.
    assert "is what job" in refusal(client, taken)
    second, other_job = migrate(client, sources(client)[1], "erp2")
    await_(client, second, MACHINE, "State", "registered")
    assert taken not in str(client.get(other_job, JOB, "Target"))
    third = refusal(client, sources(client)[2])
    assert "is taken by job" in third


def sources(client: Client) -> list[str]:
    return sorted(str(each["Id"]) for each in of(client, SOURCE).values() if each["Model"] == "SIMULATED")


def test_an_empty_lun_that_a_policy_describes_is_no_source(
    start: Start, client: Client, policy: Path
) -> None:
    policy.write_text(LUN.replace('match.model = "SIMULATED"', 'match.wwid = "*"'))
    start(SCRIPT)
    assert "is kept for what is copied to it" in refusal(client, min(empty(client)))


def test_a_lun_that_is_given_up_is_not_taken_for_empty(start: Start, client: Client, policy: Path) -> None:
    policy.write_text(LUN)
    daemon = start(SLOW)
    limit(client, 2)
    machine, job = migrate(client, full(client))
    client.until(lambda: client.get(job, JOB, "BytesCommitted"))
    first = str(client.get(job, JOB, "Target"))
    removed(client, machine)
    limit(client, 0)
    assert "is released with what was copied to it" in daemon.log.read_text()
    machine, job = migrate(client, full(client))
    assert str(client.get(job, JOB, "Target")) != first
    await_(client, machine, MACHINE, "State", "registered")
    daemon.stop()
    daemon = start(SLOW)
    assert "is not empty" in refusal(client, sources(client)[1])


def test_a_disk_becomes_a_file(
    start: Start, client: Client, policy: Path, tmp_path: Path, bus_address: str
) -> None:
    policy.write_text(FILE)
    daemon = start(SLOW)
    assert "/srv/images/erp1.raw, raw, 96 MiB" in ctl(
        bus_address, "plan", full(client), "--source-offline", "--name", "erp1"
    )
    limit(client, 2)
    machine, job = migrate(client, full(client))
    client.until(lambda: client.get(job, JOB, "BytesCommitted"))
    temporary = image(tmp_path, f".erp1.raw.p2vd-{uuid_of(client, job)}")
    assert temporary.stat().st_size == 96 << 20
    assert daemon.stop() == 0
    daemon = start(SLOW)
    await_(client, machine, MACHINE, "State", "registered")
    assert client.get(job, JOB, "ResumedFrom") > 0
    assert not temporary.exists()
    assert image(tmp_path, "erp1.raw").stat().st_size == 96 << 20
    assert client.get(job, JOB, "Target") == "/srv/images/erp1.raw"
    assert daemon.tell("files_of", client.get(machine, MACHINE, "Domain")) == ["/srv/images/erp1.raw"]
    assert "/srv/images/erp1.raw, raw" in ctl(bus_address, "receipt", uuid_of(client, job))
    assert "is there already" in refusal_of_name(client, sources(client)[1], "erp1")


def refusal_of_name(client: Client, source: str, name: str) -> str:
    options = dbus.Dictionary({"source-offline": True, "name": name}, signature="sv")
    with pytest.raises(dbus.DBusException) as refused:
        client.manager("Plan", "asa{sv}", [source], options)
    return str(refused.value)


def test_a_cancelled_file_is_removed(start: Start, client: Client, policy: Path, tmp_path: Path) -> None:
    policy.write_text(FILE)
    start(SLOW)
    limit(client, 2)
    machine, job = migrate(client, full(client))
    client.until(lambda: client.get(job, JOB, "BytesCommitted"))
    image(tmp_path, "keep").write_text("another's")
    removed(client, machine)
    assert [path.name for path in image(tmp_path, "").iterdir()] == ["keep"]


def test_a_directory_that_gets_full_holds_the_copy_until_there_is_room(
    start: Start, client: Client, policy: Path
) -> None:
    policy.write_text(FILE)
    daemon = start(SLOW)
    daemon.tell("fill", "/srv/images", (1 << 30) - (55 << 20))  # 4 MiB beyond the reserve of 5 %
    machine, job = migrate(client, full(client))
    client.until(lambda: "pool" in list(client.get(job, JOB, "Holds")))
    why = "The filesystem of /srv/images lets copies take"
    client.until(lambda: why in str(client.get(job, JOB, "Stalled")))
    daemon.tell("fill", "/srv/images", 0)
    await_(client, machine, MACHINE, "State", "registered")


def test_a_directory_that_is_not_there_is_refused(start: Start, client: Client, policy: Path) -> None:
    policy.write_text(FILE.replace("/srv/images", "/srv/other"))
    start(SCRIPT)
    assert "/srv/other cannot be used" in refusal(client, full(client))


def test_nobody_takes_a_machine(start: Start, client: Client, policy: Path) -> None:
    policy.write_text(FILE + 'domain.hypervisor = "none"\n')
    daemon = start(SCRIPT)
    machine, _ = migrate(client, full(client))
    await_(client, machine, MACHINE, "State", "registered")
    assert daemon.tell("domains") == []


def test_a_qcow2_is_defined_as_one(start: Start, client: Client, policy: Path, bus_address: str) -> None:
    policy.write_text(FILE + 'target.format = "qcow2"\n')
    start(SCRIPT)
    machine, job = migrate(client, full(client))
    await_(client, machine, MACHINE, "State", "registered")
    assert client.get(job, JOB, "Target") == "/srv/images/erp1.qcow2"
    assert "-f qcow2 -O vmdk" in ctl(bus_address, "export", "erp1", "--format", "vmdk", "--directory", "/tmp")
