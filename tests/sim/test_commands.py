"""The simulated commands answer as the recorded real ones do, and refuse what p2vd never asks."""

import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from p2vd.discovery.dm import dm_info, lv_dm_name, pool_status
from p2vd.discovery.luns import flush_map, make_map, remove_path
from p2vd.discovery.scanner import Discovery
from p2vd.discovery.scsi_scan import look_for_luns
from p2vd.model.disk import Transport
from p2vd.model.errors import DeviceInUse, NotFound
from p2vd.model.lvm import Vg
from p2vd.model.plan import LvTarget, Provisioning
from p2vd.model.size import GIB
from p2vd.provisioning.errors import LvNameTaken, VgFull
from p2vd.provisioning.lvm import Volumes
from p2vd.sim.script import parse
from p2vd.sim.volumes import StateUnusable
from p2vd.sim.world import World
from p2vd.system.command import CommandFailed
from tests.discovery.host import recording

SCRIPT = """
luns = [{ count = 2, size = "1 GiB" }, { count = 1, size = "1 GiB", sector_size = 4096, transport = "fc" }]
[[volume_group]]
name = "vg-san"
size = "16 GiB"
tags = ["san"]
pool = { size = "8 GiB" }
"""
JOB = "11111111-2222-4333-8444-555555555555"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(parse("script", SCRIPT), tmp_path)


@pytest.fixture
def discovery(world: World) -> Discovery:
    return look_at(world)


def look_at(world: World) -> Discovery:
    return Discovery(world.commands, world.root / "sys", world.root / "proc", world.root)


def group_of(discovery: Discovery) -> Vg:
    (group,) = discovery.scan().volume_groups
    return group


def recorded(*argv: str) -> str:
    """What a real host answered to the first command that begins so."""
    answers = recording("base")["commands"]
    return str(next(each["stdout"] for each in answers if each["argv"][: len(argv)] == list(argv)))


def shape(value: Any) -> Any:
    """A JSON value's keys and types; of lists the first element's."""
    if isinstance(value, Mapping):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    return type(value)


def test_multipathds_report_has_the_form_of_the_real_one(world: World) -> None:
    real, ours = recorded("multipathd"), world.commands.query(["multipathd", "show", "maps", "json"]).stdout
    assert shape(json.loads(ours)) == shape(json.loads(real))


def test_lvms_report_has_the_form_of_the_real_one(world: World, discovery: Discovery) -> None:
    make(discovery, "web1")
    (asked,) = [each["argv"] for each in recording("base")["commands"] if each["argv"][1] == "fullreport"]
    at = asked.index("--devices")
    argv = [*asked[: at + 1], group_of(discovery).pvs[0].device, *asked[at + 2 :]]
    ours = json.loads(world.commands.query(argv).stdout)
    real = json.loads(recorded("lvm", "fullreport"))
    assert shape(ours) == shape(real)
    forms = {"vg_size": r"\d+", "pv_major": r"\d+", "pv_missing": "[01]", "lv_active_locally": "-?[01]"}
    for section in (*ours["report"], *real["report"]):
        for rows in section.values():
            for row in rows:
                assert all(re.fullmatch(form, row[name]) for name, form in forms.items() if name in row)


def test_discovery_sees_the_san(discovery: Discovery) -> None:
    inventory = discovery.scan()
    assert inventory.problems == ()
    assert [source.reasons for source in inventory.sources].count(()) == 3
    (fibre,) = [source for source in inventory.sources if source.transport is Transport.FC]
    assert (fibre.sector_size, fibre.paths_ready, fibre.vendor) == (4096, 2, "P2VDSIM")
    hbas = [(hba.host, [port.target for port in hba.remote_ports]) for hba in inventory.hbas]
    assert hbas == [("host200", ["200:0:0"]), ("host201", ["201:0:0"])]
    assert {path.hba_wwpn for path in fibre.paths} == {hba.wwpn for hba in inventory.hbas}
    group = group_of(discovery)
    (pool,) = group.thin_pools
    assert (pool.autoextend_threshold_percent, pool.autoextend_percent) == (100, 20)
    assert (pool.size_bytes, pool.chunk_size_bytes, pool.zeroes) == (8 * GIB, 65536, True)
    assert group.tags == {"san"}
    assert group.free_bytes < group.size_bytes - pool.size_bytes


def test_a_scan_for_luns_goes_where_there_is_a_host(world: World) -> None:
    look_for_luns(world.commands, "all", world.root / "sys")
    look_for_luns(world.commands, "20:00:02:00:00:01:00:c8", world.root / "sys")
    assert world.commands.counts[sys.executable] == 4 + 1
    with pytest.raises(NotFound):
        look_for_luns(world.commands, "77", world.root / "sys")


def test_the_pool_is_what_dmsetup_says_too(world: World, discovery: Discovery) -> None:
    tpool = lv_dm_name("vg-san", "pool0", "tpool")
    status = pool_status(world.commands, tpool)
    assert (status.total_data_bytes, status.used_data_bytes, status.mode) == (8 * GIB, 0, "rw")
    lv = make(discovery, "web1")
    world.volumes.allocate(world.volumes.groups["vg-san"], lv, 9 * GIB)
    assert pool_status(world.commands, tpool).used_data_bytes == GIB
    info = dm_info(world.commands, lv_dm_name("vg-san", "web1"))
    assert (info.open_count, info.table.split()[2]) == (0, "thin")
    with pytest.raises(CommandFailed, match="does not exist"):
        dm_info(world.commands, "nothere")


def target(name: str, provisioning: Provisioning = Provisioning.THIN, size_bytes: int = GIB) -> LvTarget:
    return LvTarget("", "vg-san", name, provisioning, size_bytes, 512, pool_name="pool0", single_host=True)


def make(
    discovery: Discovery, name: str, provisioning: Provisioning = Provisioning.THIN, size: int = GIB
) -> str:
    group = group_of(discovery)
    volumes = Volumes(discovery._commands, discovery.volume_group)
    volumes.create(JOB, target(name, provisioning, size), group)
    lv = volumes.adopt(JOB, discovery.volume_group(group.uuid))
    assert lv is not None
    return lv.uuid


def test_provisioning_takes_a_volume_through_its_life(world: World, discovery: Discovery) -> None:
    uuid = make(discovery, "web1")
    group = group_of(discovery)
    volumes = Volumes(world.commands, discovery.volume_group)
    lv = group.lv(uuid)
    assert lv is not None
    lv = volumes.settle(lv, group, JOB, 1)
    assert not lv.autoactivation
    lv = volumes.deactivate(lv, group, JOB)
    assert not lv.active
    lv = volumes.finish(volumes.activate(lv, group, JOB), group, JOB, autoactivate=True)
    assert lv.autoactivation
    assert lv.tags == {f"p2vd.job={JOB}", "p2vd.generation=1"}
    volumes.remove(lv, group, JOB)
    assert "web1" not in [each.name for each in group_of(discovery).lvs]


def test_lvcreate_refuses_in_lvms_words(discovery: Discovery, world: World) -> None:
    make(discovery, "web1", Provisioning.THICK, 7 * GIB)
    volumes = Volumes(world.commands, discovery.volume_group)
    before = group_of(discovery)
    with pytest.raises(VgFull, match="insufficient free space"):
        volumes.create(JOB, target("web2", Provisioning.THICK, 7 * GIB), before)
    with pytest.raises(LvNameTaken):
        volumes.create(JOB, target("web1"), replace(before, lvs=()))


def test_a_volume_that_is_open_is_not_removed(world: World, discovery: Discovery) -> None:
    uuid = make(discovery, "web1")
    group = group_of(discovery)
    lv = group.lv(uuid)
    assert lv is not None
    found = world.volumes.device(group.dm_uuid(lv))
    assert found is not None
    opened = world.volumes.mapper.open(found[2])
    volumes = Volumes(world.commands, discovery.volume_group)
    with pytest.raises(DeviceInUse):
        volumes.remove(lv, group, JOB)
    os.close(opened)
    volumes.remove(lv, group, JOB)


def test_volumes_outlive_a_restart_and_belong_to_their_script(tmp_path: Path) -> None:
    make(look_at(World(parse("script", SCRIPT), tmp_path)), "web1")
    again = look_at(World(parse("script", SCRIPT), tmp_path))
    assert [lv.name for lv in group_of(again).lvs] == ["pool0", "web1"]
    with pytest.raises(StateUnusable, match=r"state\.json cannot be used: it is of another script"):
        World(parse("script", SCRIPT.replace("16 GiB", "32 GiB")), tmp_path)
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(StateUnusable, match="Name another --state-dir"):
        World(parse("script", SCRIPT), tmp_path)


@pytest.mark.parametrize(
    "argv",
    [
        ["iscsiadm", "-m", "session"],
        ["lvm", "vgs"],
        ["dmsetup", "info", "-u", "x"],
        ["dmsetup", "status", "vg--san-web1"],
        ["multipathd", "show", "map", "nothere", "json"],
        ["lvm", "fullreport", "--all"],
        ["lvm", "lvmconfig", "--type", "full", "activation/unknown"],
        [sys.executable, "-m", "p2vd.system.attribute", "/nowhere/scan", "- - -"],
        ["blockdev", "--setro", "/dev/sdzz"],
    ],
)
def test_what_it_does_not_know_it_refuses(world: World, argv: list[str]) -> None:
    with pytest.raises(CommandFailed):
        world.commands.query(argv)


@pytest.mark.parametrize("argv", [["vgremove", "vg-san"], ["lvcreate", "--snapshot", "vg-san"]])
def test_a_change_that_it_does_not_know_changes_nothing(world: World, argv: list[str]) -> None:
    with pytest.raises(CommandFailed):
        world.commands.change(argv, unit="x")


def test_read_only_is_set_on_maps_and_paths(world: World) -> None:
    lun = next(iter(world.san.luns.values()))
    world.commands.query(["blockdev", "--setro", f"/dev/{lun.device}", f"/dev/{lun.path_names[0]}"])
    flags = [
        (world.root / f"sys/class/block/{name}/ro").read_text() for name in (lun.device, *lun.path_names)
    ]
    assert flags == ["1\n", "1\n", "0\n"]


def test_a_starter_policy_is_written_once(world: World, tmp_path: Path) -> None:
    world.write_policy(tmp_path / "policy.d")
    file = tmp_path / "policy.d/50-sim.toml"
    assert 'volume_groups = ["vg-san"]' in file.read_text()
    file.unlink()
    world.write_policy(tmp_path / "policy.d")
    assert not file.exists()


def test_a_luns_map_is_flushed_and_its_paths_are_forgotten(world: World, discovery: Discovery) -> None:
    *_, lun = world.san.luns.values()
    paths = lun.path_names
    flush_map(world.commands, lun.map_name)
    with pytest.raises(CommandFailed, match="no such map"):
        flush_map(world.commands, lun.map_name)
    make_map(world.commands, paths[0])
    assert discovery.scan().by_id[lun.wwid].dm_uuid
    flush_map(world.commands, lun.map_name)
    for path in paths:
        remove_path(world.commands, path, world.root / "sys")
    assert lun.wwid not in discovery.scan().by_id
    with pytest.raises(CommandFailed, match="No such file"):
        remove_path(world.commands, paths[0], world.root / "sys")


def test_a_map_that_a_volume_group_is_on_is_in_use(world: World) -> None:
    pv = next(iter(world.volumes.groups.values())).pvs[0]
    with pytest.raises(CommandFailed, match="map in use"):
        flush_map(world.commands, pv.lun.map_name)
