"""The scenarios that come with p2vd, smaller and quicker: each shows what the manual says."""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from p2vd.bus.names import JOB, MACHINE, SOURCE, object_path
from p2vd.sim.fault import Fault, FaultKind
from p2vd.sim.script import SCENARIOS, parse
from p2vd.sim.world import World
from tests import waiting
from tests.bus.harness import PATIENCE_S, Client
from tests.sim.conftest import Start
from tests.sim.harness import Simulated
from tests.sim.test_end_to_end import NONE, await_, limit, looked_at, migrate

GIB = 1 << 30


def quick(name: str) -> str:
    """A scenario with disks of a 32nd, and faults of a third of their time.

    Half of a copy takes 2 s: the worker has made its checkpoint of each second by then.
    """
    text = (SCENARIOS / f"{name}.toml").read_text()
    text = re.sub(r'"(\d+) GiB"', lambda match: f'"{int(match[1]) * 32} MiB"', text)
    text = text.replace('copy = "100 MiB"', 'copy = "16 MiB"')
    return re.sub(r"(seconds = )(\d+)", lambda match: f"{match[1]}{int(match[2]) * 0.3:g}", text)


def begun(start: Start, client: Client, scenario: str) -> tuple[Simulated, list[str], list[tuple[str, str]]]:
    """The daemon, the LUNs in order, and of each LUN its machine's and its job's path."""
    daemon = start(quick(scenario))
    luns = daemon.tell("spare")
    looked_at(client)
    client.forget()
    limit(client, 1)  # nothing goes wrong before all are on their way
    moves = [migrate(client, lun, f"m{number}") for number, lun in enumerate(luns, 1)]
    limit(client, 0)
    return daemon, luns, moves


def told(client: Client, path: str, name: str) -> list[Any]:
    """What signals said of a property, in order."""
    return [change[name] for change in client.changes(path) if name in change]


def activity_at(client: Client, job: str, source: str, paths_ready: int) -> str:
    """What a job did, by what signals had said until they told that a source has so many paths."""
    activity = ""
    for where, _, member, arguments in client.signals:
        if member == "InterfacesAdded" and arguments[0] == job:
            activity = str(arguments[1][JOB]["Activity"])
        elif member == "PropertiesChanged" and where == job:
            activity = str(arguments[1].get("Activity", activity))
        elif (
            member == "PropertiesChanged"
            and where == source
            and arguments[1].get("PathsReady") == paths_ready
        ):
            break
    return activity


def until_told(client: Client, path: str, name: str, is_it: Callable[[Any], bool]) -> None:
    client.until(lambda: any(is_it(value) for value in told(client, path, name)))


def test_quiet_has_disks_of_many_kinds(start: Start, client: Client) -> None:
    start(quick("quiet"))
    kinds = {
        (str(each["Transport"]), int(each["SectorSize"])) for each in looked_at(client) if each["Usable"]
    }
    assert kinds == {("iscsi", 512), ("iscsi", 4096), ("fc", 512)}


@pytest.mark.slow
def test_path_failure(start: Start, client: Client) -> None:
    _, (first, second, _), moves = begun(start, client, "path-failure")
    (_, job), (_, held), _ = moves
    source = object_path(SOURCE, first)
    until_told(client, source, "PathsReady", lambda ready: ready == 1)
    assert activity_at(client, job, source, paths_ready=1) == "running"
    portal = client.manager("AddPortal", "sa{sv}", "192.0.2.1", NONE)
    until_told(client, held, "Holds", lambda holds: list(holds) == ["source-absent"])
    client.until(lambda: [object_path(SOURCE, second), [SOURCE]] in client.heard("InterfacesRemoved"))
    until_told(client, job, "Activity", lambda activity: activity == "stalled")
    assert "read of" in next(text for text in told(client, job, "Stalled") if text)
    for machine, _ in moves:
        await_(client, machine, MACHINE, "State", "registered")
    until_told(client, source, "PathsReady", lambda ready: ready == 2)
    assert {0, 1, 2} == {int(ready) for ready in told(client, source, "PathsReady")}
    client.until(lambda: client.get(portal, "org.p2vd1.Portal", "State") == "connected")


@pytest.mark.slow
def test_pool_short(start: Start, client: Client) -> None:
    _, _, moves = begun(start, client, "pool-short")
    _, job = moves[0]
    until_told(client, job, "Holds", lambda holds: list(holds) == ["pool"])
    for machine, _ in moves:
        await_(client, machine, MACHINE, "State", "registered")
    assert list(client.get(job, JOB, "Holds")) == []


@pytest.mark.slow
def test_reboot(start: Start, client: Client) -> None:
    daemon, _, moves = begun(start, client, "reboot")
    machine, job = moves[0]
    assert daemon.wait() == -9
    start(quick("reboot"))
    until_told(client, machine, "Error", lambda error: error[0] == "LibvirtUnreachable")
    for each, _ in moves:
        await_(client, each, MACHINE, "State", "registered")
    assert client.get(job, JOB, "ResumedFrom") > 0


@pytest.mark.slow
def test_bad_disk(start: Start, client: Client) -> None:
    _, _, moves = begun(start, client, "bad-disk")
    (bad, changed, hanging, killed, good) = (job for _, job in moves)
    until_told(client, hanging, "Activity", lambda activity: activity == "stalled")
    for machine, job in moves:
        if job in (hanging, killed, good):
            await_(client, machine, MACHINE, "State", "registered")
    await_(client, bad, JOB, "Stage", "failed")
    await_(client, changed, JOB, "Stage", "failed")
    assert client.get(bad, JOB, "Error")[0] == "TooManyBadSectors"
    assert client.get(changed, JOB, "Error")[0] == "SourceChanged"
    assert client.get(killed, JOB, "ResumedFrom") > 0


def test_bad_sectors_that_the_policy_allows_are_told(start: Start, client: Client, tmp_path: Path) -> None:
    directory = tmp_path / "state/policy.d"
    directory.mkdir(parents=True)
    (directory / "50-lab.toml").write_text(
        '[[rule]]\nname = "lab"\nmatch.transport = ["iscsi"]\ntarget.volume_groups = ["vg_san"]\n'
        'target.provisioning = "thin"\ntarget.single_host = true\ncopy.bad_sectors = 8\n'
    )
    daemon = start(quick("bad-disk"))
    looked_at(client)
    _, job = migrate(client, daemon.tell("spare")[0])
    await_(client, job, JOB, "Stage", "proven")
    assert client.get(job, JOB, "BadBytes") == 8 * 512


# ---- without a daemon ----------------------------------------------------------------------------

SMALL = """
[[luns]]
[[volume_group]]
name = "vg_san"
size = "64 GiB"
pool = { size = "16 GiB" }
"""
until = partial(waiting.until, within_s=PATIENCE_S, every_s=0.01)


def test_a_fault_happens_once_and_one_for_good_is_there_after_a_restart(tmp_path: Path) -> None:
    script = parse("x", SMALL + '[[faults]]\nwhat = "lun-grows"\nat_percent = 50\nsize = "20 GiB"\n')
    world = World(script, tmp_path)
    (wwid,) = world.volumes.spare
    world.processes.on_copied(wwid, 49)
    world.processes.on_copied(wwid, 51)
    until(lambda: world.san.luns[wwid].size_bytes == 20 * GIB)
    world.san.grow(wwid, 21 * GIB)
    world.processes.on_copied(wwid, 52)
    assert world.san.luns[wwid].size_bytes == 21 * GIB
    again = World(script, tmp_path)
    assert again.san.luns[wwid].size_bytes == 20 * GIB


def test_what_a_restart_keeps_is_not_done_again(tmp_path: Path) -> None:
    faults = (
        '[[faults]]\nwhat = "pool-filled"\npercent = 50\n[[faults]]\nwhat = "worker-dies"\nat_percent = 9\n'
    )
    script = parse("x", SMALL + faults)
    world = World(script, tmp_path)
    world.processes.on_copied(world.volumes.spare[0], 10)
    until(lambda: world.volumes.groups["vg_san"].pool_used_bytes() == 8 * GIB)
    until(lambda: len(json.loads((tmp_path / "faults.json").read_text())) == 2)
    world.faults.begin(Fault(FaultKind.POOL_EXTENDED, size_bytes=32 * GIB))
    again = World(script, tmp_path)
    assert again.volumes.groups["vg_san"].pool_used_bytes() == 8 * GIB


def test_a_pool_is_filled_by_others_and_extended(tmp_path: Path) -> None:
    world = World(parse("x", SMALL), tmp_path)
    group = world.volumes.groups["vg_san"]
    undo = world.faults.begin(Fault(FaultKind.POOL_FILLED, percent=50))
    assert group.pool_used_bytes() == 8 * GIB
    world.faults.begin(Fault(FaultKind.POOL_EXTENDED, size_bytes=32 * GIB))
    status = world.commands.query(["dmsetup", "status", "vg_san-pool0-tpool"]).stdout.split()
    assert (status[1], status[5]) == (str(32 * GIB // 512), f"{8 * GIB // 65536}/{32 * GIB // 65536}")
    undo()
    assert group.pool_used_bytes() == 0
    again = World(parse("x", SMALL), tmp_path)
    assert again.volumes.groups["vg_san"].free_bytes < 32 * GIB
    with pytest.raises(ValueError, match="no room"):
        world.faults.begin(Fault(FaultKind.POOL_EXTENDED, size_bytes=320 * GIB))


def test_a_path_of_several_faults_is_back_after_the_last(tmp_path: Path) -> None:
    world = World(parse("x", SMALL), tmp_path)
    (wwid,) = world.volumes.spare
    first = world.faults.begin(Fault(FaultKind.PATH_FAILS, path=1))
    both = world.faults.begin(Fault(FaultKind.PATH_FAILS))
    first()
    assert [path.ready for path in world.san.luns[wwid].paths] == [False, False]
    both()
    assert [path.ready for path in world.san.luns[wwid].paths] == [True, True]


def test_a_lun_that_comes_back_is_the_same_by_other_devices(tmp_path: Path) -> None:
    world = World(parse("x", SMALL), tmp_path)
    (wwid,) = world.volumes.spare
    before = world.san.luns[wwid].path_names
    undo = world.faults.begin(Fault(FaultKind.LUN_UNMAPPED))
    assert wwid not in world.san.luns
    undo()
    lun = world.san.luns[wwid]
    assert not set(before) & set(lun.path_names)
    assert world.commands.query(["/lib/udev/scsi_id", f"/dev/{lun.path_names[0]}"]).stdout == f"{wwid}\n"
