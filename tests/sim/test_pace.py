"""How fast copies are in the whole daemon: a total, a source that answers late, and an estimate."""

from pathlib import Path

import dbus

from p2vd.bus.names import JOB, MACHINE, MANAGER, ROOT
from tests.bus.harness import Client
from tests.sim.conftest import SCRIPT, Start
from tests.sim.test_end_to_end import NONE, await_, ctl, limit, migrate, usable

MIB = 1 << 20
# A step of a simulated disk is what it does in a twentieth of a second, which is its latency.
SLOW = SCRIPT.replace("400 MiB", "40 MiB").replace("800 MiB", "80 MiB")
LATE = """
[[rule]]
name = "late"
match.transport = ["iscsi", "fc"]
target.volume_groups = ["vg_san"]
target.provisioning = "thin"
target.single_host = true
copy.max_latency = "5 ms"
"""


def test_a_total_is_set_while_a_copy_runs_and_its_worker_obeys(
    start: Start, client: Client, bus_address: str
) -> None:
    start(SLOW)
    limit(client, 4)
    machine, job = migrate(client)
    client.until(lambda: client.get(job, JOB, "BytesCommitted"))
    client.manager("SetBandwidth", "ta{sv}", dbus.UInt64(2 * MIB), NONE)
    assert client.get(ROOT, MANAGER, "Bandwidth") == 2 * MIB
    client.until(lambda: client.get(job, JOB, "Bandwidth") == 2 * MIB)
    assert "All that copies may have together." in ctl(bus_address, "bandwidth")
    ctl(bus_address, "bandwidth", "none")
    await_(client, machine, MACHINE, "State", "registered")


def test_a_source_that_answers_late_slows_its_copy_down_and_that_is_told(
    start: Start, client: Client, bus_address: str, tmp_path: Path
) -> None:
    directory = tmp_path / "state/policy.d"
    directory.mkdir(parents=True)
    (directory / "50-late.toml").write_text(LATE)
    start(SLOW)
    limit(client, 4)
    _, job = migrate(client)
    client.until(lambda: client.get(job, JOB, "BackOff"))
    assert "(copy.max_latency = 5 ms)" in client.get(job, JOB, "BackOff")
    assert client.get(job, JOB, "ReadLatency") > 5000
    assert "Slowed down to" in ctl(bus_address, "jobs")


def test_what_was_never_measured_is_said_to_be_unknown(
    start: Start, client: Client, bus_address: str
) -> None:
    start(SLOW)
    page = ctl(bus_address, "plan", usable(client)[0], "--source-offline")
    assert "Not known: no copy from this array or to this place has been measured yet." in page
