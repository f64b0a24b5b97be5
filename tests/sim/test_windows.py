"""Windows of policies in the whole daemon, by a clock that the test sets."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from p2vd.bus.names import JOB, MACHINE
from tests.bus.harness import Client
from tests.sim.conftest import SCRIPT, Start
from tests.sim.harness import Simulated
from tests.sim.test_end_to_end import NONE, await_, ctl, limit, migrate

SLOW = SCRIPT.replace("400 MiB", "40 MiB").replace("800 MiB", "80 MiB")
POLICY = """
[[rule]]
name = "nights"
match.transport = ["iscsi", "fc"]
target.volume_groups = ["vg_san"]
target.provisioning = "thin"
target.single_host = true
window = [{ from = "22:00", to = "05:00", timezone = "UTC" }]
"""
NIGHT, MORNING, EVENING = "2026-11-27T23:00", "2026-11-28T05:00", "2026-11-28T22:00"


def microseconds(at: str) -> int:
    return int(datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp()) * 1_000_000


def set_clock(daemon: Simulated, at: str) -> None:
    daemon.tell("set_clock", microseconds(at))


def holds(client: Client, job: str) -> list[str]:
    return [str(hold) for hold in client.get(job, JOB, "Holds")]


@pytest.fixture
def at_night(start: Start, tmp_path: Path) -> Simulated:
    directory = tmp_path / "state/policy.d"
    directory.mkdir(parents=True)
    (directory / "50-nights.toml").write_text(POLICY)
    (tmp_path / "state/clock").write_text(str(microseconds(NIGHT)))
    return start(SLOW)


def test_a_copy_is_held_when_its_window_closes_and_goes_on_by_itself(
    at_night: Simulated, client: Client, bus_address: str
) -> None:
    limit(client, 2)
    machine, job = migrate(client)
    client.until(lambda: client.get(job, JOB, "BytesCommitted"))
    assert holds(client, job) == []
    set_clock(at_night, MORNING)
    client.until(lambda: holds(client, job) == ["window"])
    await_(client, job, JOB, "Activity", "idle")
    assert client.get(job, JOB, "Waiting") == "Its window opens on Sat 2026-11-28 22:00 UTC."
    assert "held: window" in ctl(bus_address, "jobs")
    set_clock(at_night, EVENING)
    limit(client, 0)
    await_(client, machine, MACHINE, "State", "registered")
    assert client.get(job, JOB, "ResumedFrom") == 0  # by the same worker


def test_a_users_pause_outlives_the_window_in_which_it_was_made(at_night: Simulated, client: Client) -> None:
    limit(client, 2)
    machine, job = migrate(client)
    client.until(lambda: client.get(job, JOB, "BytesCommitted"))
    set_clock(at_night, MORNING)
    client.until(lambda: holds(client, job) == ["window"])
    client.call(job, JOB, "Pause", "a{sv}", NONE)
    set_clock(at_night, EVENING)
    client.until(lambda: holds(client, job) == ["user"])
    client.call(job, JOB, "Resume", "a{sv}", NONE)
    limit(client, 0)
    await_(client, machine, MACHINE, "State", "registered")


def test_a_window_that_closes_and_opens_while_the_daemon_is_down(
    at_night: Simulated, start: Start, client: Client, tmp_path: Path
) -> None:
    limit(client, 2)
    machine, job = migrate(client)
    client.until(lambda: client.get(job, JOB, "BytesCommitted"))
    assert at_night.stop() == 0
    (tmp_path / "state/clock").write_text(str(microseconds(MORNING)))
    daemon = start(SLOW)
    assert holds(client, job) == ["window"]
    assert client.get(job, JOB, "Activity") == "idle"
    assert daemon.stop() == 0
    (tmp_path / "state/clock").write_text(str(microseconds(EVENING)))
    start(SLOW)
    await_(client, machine, MACHINE, "State", "registered")
    assert client.get(job, JOB, "ResumedFrom") > 0


def test_a_job_that_is_made_by_day_makes_nothing_before_the_night(
    at_night: Simulated, client: Client
) -> None:
    set_clock(at_night, MORNING)
    machine, job = migrate(client)
    assert (holds(client, job), client.get(job, JOB, "Stage")) == (["window"], "planned")
    assert client.get(job, JOB, "TargetUuid") == ""
    set_clock(at_night, EVENING)
    await_(client, machine, MACHINE, "State", "registered")


def test_a_window_that_closed_is_ignored_when_the_administrator_says_so(
    at_night: Simulated, client: Client, bus_address: str
) -> None:
    limit(client, 2)
    machine, job = migrate(client)
    client.until(lambda: client.get(job, JOB, "BytesCommitted"))
    set_clock(at_night, MORNING)
    client.until(lambda: holds(client, job) == ["window"])
    assert "but waits. Its window opens on Sat" in ctl(bus_address, "resume", "erp1")
    assert "goes on." in ctl(bus_address, "resume", "erp1", "--ignore-window")
    limit(client, 0)
    await_(client, machine, MACHINE, "State", "registered")
    assert "its window is ignored from now on" in at_night.log.read_text()
