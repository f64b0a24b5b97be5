"""How full a pool will be, in the whole daemon: at worst always, expected where it is asked for."""

import json
from pathlib import Path

import dbus
import pytest

from p2vd.bus.names import JOB, MACHINE
from p2vd.model.size import GIB, MIB
from tests.bus.harness import Client
from tests.sim.conftest import Start
from tests.sim.test_end_to_end import await_, ctl, limit, migrate, usable

SCRIPT = """
[[luns]]
count = 2
size = "1 GiB"
data_percent = 25

[[volume_group]]
name = "vg_san"
size = "16 GiB"
pool = { name = "pool0", size = "8 GiB" }

[speed]
copy = "20 MiB"
verify = "1600 MiB"
"""


def test_a_plan_tells_the_worst_and_a_sample_what_is_expected_beside_other_jobs(
    start: Start, client: Client, bus_address: str
) -> None:
    start(SCRIPT)
    client.until(lambda: len(usable(client)) == 2)
    first, second = usable(client)
    words = ("plan", first, "--source-offline", "--name", "erp1", "--json")
    plain = json.loads(ctl(bus_address, *words))
    (worst,) = plain["PoolFills"]
    assert (worst["VolumeGroup"], worst["Pool"], worst["Size"]) == ("vg_san", "pool0", 8 * GIB)
    assert (worst["Used"], worst["OtherJobs"], worst["WorstCaseUsed"]) == (0, 0, GIB)
    assert worst["WorstCasePercent"] == 12.5
    assert "ExpectedUsed" not in worst
    assert "ExpectedBytes" not in plain["Disks"][0]

    sampled = json.loads(ctl(bus_address, *words, "--sample"))
    assert sampled["Id"] == plain["Id"]
    (disk,), (fill,) = sampled["Disks"], sampled["PoolFills"]
    assert disk["ExpectedBytes"] == fill["ExpectedUsed"] == 256 * MIB
    assert disk["SampledBlocksWithData"] * 4 == disk["SampledBlocks"]
    assert disk["ExpectedLeastBytes"] < 256 * MIB < disk["ExpectedMostBytes"] < 300 * MIB
    assert fill["ExpectedPercent"] == 3.12 or fill["ExpectedPercent"] == 3.13
    assert fill["ExpectedLeastPercent"] < fill["ExpectedPercent"] < fill["ExpectedMostPercent"]
    assert fill["WorstCaseUsed"] == GIB

    limit(client, 4)
    machine, job = migrate(client, second, "erp2")
    client.until(lambda: client.get(job, JOB, "BytesCommitted"))
    page = ctl(bus_address, "plan", first, "--source-offline", "--name", "erp1", "--sample")
    assert "vg_san/pool0, " in page
    assert "; other jobs may take " in page
    assert "its copies take 256 MiB, with 95 % confidence " in page
    assert client.get(machine, MACHINE, "State") == "copying"


def test_a_source_that_a_sample_was_taken_of_is_free_for_its_job(
    start: Start, client: Client, bus_address: str
) -> None:
    start(SCRIPT.replace("20 MiB", "800 MiB"))
    client.until(lambda: len(usable(client)) == 2)
    words = ("plan", usable(client)[0], "--source-offline", "--name", "erp1", "--sample", "--json")
    plan = json.loads(ctl(bus_address, *words))
    machine = str(client.manager("Migrate", "sa{sv}", plan["Id"], dbus.Dictionary({}, signature="sv")))
    await_(client, machine, MACHINE, "State", "registered")


def test_a_thick_volume_has_nothing_to_sample_and_that_is_said(
    start: Start, client: Client, bus_address: str, tmp_path: Path
) -> None:
    policies = tmp_path / "state/policy.d"
    policies.mkdir(parents=True)
    (policies / "50-thick.toml").write_text(
        '[[rule]]\nname = "thick"\nmatch.transport = ["iscsi"]\ntarget.volume_groups = ["vg_san"]\n'
        'target.provisioning = "thick"\ntarget.single_host = true\n'
    )
    start(SCRIPT)
    client.until(lambda: len(usable(client)) == 2)
    page = ctl(bus_address, "plan", usable(client)[0], "--source-offline", "--sample")
    assert "No disk of it goes to a thin pool" in page
    assert "  Pool " not in page


def test_the_option_is_a_boolean(start: Start, client: Client) -> None:
    start(SCRIPT)
    options = dbus.Dictionary({"sample": "yes"}, signature="sv")
    with pytest.raises(dbus.DBusException, match="sample"):
        client.manager("Plan", "asa{sv}", ["x"], options)


def test_with_a_wave_there_is_no_sample(bus_address: str, tmp_path: Path) -> None:
    ctl(bus_address, "plan", "--wave", str(tmp_path / "list.csv"), "--sample", exits=2)
