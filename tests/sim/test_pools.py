"""Thin pools that run short, and machines that start by themselves, in the whole daemon."""

from pathlib import Path
from typing import Any

import dbus
import pytest

from p2vd.bus.names import JOB, MACHINE, SOURCE, VOLUME_GROUP
from p2vd.model.size import GIB, MIB
from tests.bus.harness import Client
from tests.bus.test_portals import descriptor
from tests.sim.conftest import Start
from tests.sim.harness import Simulated
from tests.sim.test_end_to_end import NONE, await_, ctl, limit, migrate, of, usable

SCRIPT = """
[[luns]]
count = 3
size = "256 MiB"
data_percent = 100

[[volume_group]]
name = "vg_san"
size = "16 GiB"
pool = { name = "pool0", size = "320 MiB" }

[speed]
copy = "40 MiB"
verify = "1600 MiB"
"""
POLICY = """
[[rule]]
name = "tight"
match.transport = ["iscsi", "fc"]
target.volume_groups = ["vg_san"]
target.provisioning = "thin"
target.single_host = true
pool.over_commit = 10
"""
EXTEND = 'pool.extend = { step = "64 MiB", max = "512 MiB", vg_free = "1 GiB" }\n'


def started(start: Start, tmp_path: Path, policy: str) -> Simulated:
    directory = tmp_path / "state/policy.d"
    directory.mkdir(parents=True)
    (directory / "50-tight.toml").write_text(policy)
    return start(SCRIPT)


def pool(client: Client) -> dict[str, Any]:
    (group,) = of(client, VOLUME_GROUP).values()
    return dict(group["ThinPools"][0])


def holds(client: Client, job: str) -> list[str]:
    return [str(hold) for hold in client.get(job, JOB, "Holds")]


def test_a_pool_that_others_fill_holds_the_copy_before_it_is_full_and_goes_on_after_an_extend(
    start: Start, client: Client, tmp_path: Path, bus_address: str
) -> None:
    daemon = started(start, tmp_path, POLICY)
    limit(client, 4)
    machine, job = migrate(client)
    client.until(lambda: client.get(job, JOB, "BytesCommitted"))
    daemon.tell("fill_pool", "vg_san", 160 * MIB)
    limit(client, 0)
    client.until(lambda: holds(client, job) == ["pool"])
    why = "its reserve of 5 %. Extend it: lvextend -L +SIZE vg_san/pool0."
    client.until(lambda: why in str(client.get(job, JOB, "Stalled")))
    client.until(lambda: pool(client)["TakenByOthers"] >= 100 * MIB)
    assert "BY OTHERS" in ctl(bus_address, "vgs")
    daemon.tell("extend_pool", "vg_san", GIB)
    await_(client, machine, MACHINE, "State", "registered")
    assert holds(client, job) == []


def test_a_pool_is_extended_as_the_policy_says_once_for_each_need(
    start: Start, client: Client, tmp_path: Path, bus_address: str
) -> None:
    daemon = started(start, tmp_path, POLICY + EXTEND)
    daemon.tell("fill_pool", "vg_san", 128 * MIB)
    plan = ctl(bus_address, "plan", sorted(daemon.tell("spare"))[0], "--source-offline", "--name", "erp1")
    assert "extends the pool vg_san/pool0 if it runs short: by 64 MiB at a time, up to 512 MiB" in plan
    machine, _ = migrate(client)
    await_(client, machine, MACHINE, "State", "registered")
    # 256 MiB and 128 MiB of others need two steps beyond the reserve.
    assert pool(client)["Size"] == 448 * MIB
    told = [line for line in ctl(bus_address, "audit").splitlines() if "thin pool vg_san/pool0: " in line]
    assert [line.partition("pool0: ")[2].split()[0] for line in told] == ["begun", "extended"] * 2


def test_a_pool_at_its_bound_holds_the_copy_and_says_so(start: Start, client: Client, tmp_path: Path) -> None:
    daemon = started(start, tmp_path, POLICY + EXTEND.replace("512 MiB", "320 MiB"))
    daemon.tell("fill_pool", "vg_san", 200 * MIB)
    machine, job = migrate(client)
    client.until(lambda: holds(client, job) == ["pool"])
    # Told before, or with, the hold: an administrator reads no hold without its words.
    seen: dict[str, Any] = {}
    for change in client.changes(job):
        seen |= change
        if "pool" in seen.get("Holds", ()):
            break
    assert "lets p2vd extend the data of the thin pool" in seen["Stalled"]
    daemon.tell("extend_pool", "vg_san", GIB)
    await_(client, machine, MACHINE, "State", "registered")


def test_jobs_that_wait_have_their_place_in_the_pool(start: Start, client: Client, tmp_path: Path) -> None:
    daemon = started(start, tmp_path, POLICY.replace("over_commit = 10", "over_commit = 1"))
    first, second, _ = sorted(daemon.tell("spare"))
    plans = [plan(client, first), plan(client, second)]
    client.manager("Migrate", "sa{sv}", plans[0], NONE)
    with pytest.raises(dbus.DBusException, match="would promise 512 MiB"):
        client.manager("Migrate", "sa{sv}", plans[1], NONE)


def plan(client: Client, source: str) -> str:
    client.until(lambda: source in usable(client))
    options = dbus.Dictionary({"source-offline": True}, signature="sv")
    plan_id, _ = client.manager("Plan", "asa{sv}", [source], options)
    return str(plan_id)


def test_a_machine_whose_lun_appears_is_started_by_itself_once(
    start: Start, client: Client, tmp_path: Path
) -> None:
    text = POLICY.replace("[[rule]]\n", "[[rule]]\nauto = true\nsource.offline = true\n")
    daemon = started(start, tmp_path, text)
    first = str(sorted(daemon.tell("spare"))[0])
    late = str(daemon.tell("attach", 2, 8 * MIB))

    def said() -> str:
        return next((str(one["Auto"]) for one in of(client, SOURCE).values() if one["Id"] == first), "")

    client.until(lambda: "when the record of its machine is imported" in said())
    assert of(client, JOB) == {}
    record = "".join(
        f'[[disks]]\nname = "sd{name}"\nsize_bytes = "{size}"\nwwid = "{wwid}"\n'
        for name, size, wwid in (("a", "256 MiB", first), ("b", "8 MiB", late))
    )
    client.manager("ImportMachine", "ha{sv}", descriptor(f'name = "erp1"\n{record}'), NONE)
    client.until(lambda: of(client, MACHINE))
    ((path, machine),) = of(client, MACHINE).items()
    assert machine["Name"] == "erp1"
    await_(client, path, MACHINE, "State", "registered")
    client.until(lambda: "not started by itself again" in said())
    assert daemon.stop() == 0
    audit = "".join(one.read_text() for one in (tmp_path / "state/audit").iterdir() if one.is_file())
    assert audit.count('"kind":"auto"') == 1
    start(SCRIPT)
    client.until(lambda: "not started by itself again" in said())
    assert len(of(client, JOB)) == 2
