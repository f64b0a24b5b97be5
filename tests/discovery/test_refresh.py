"""A refresh of what changed tells what a scan of the whole host would tell, and looks at nothing else."""

import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from p2vd.discovery.sysfs import read_block_tree, reread
from p2vd.model.disk import Transport
from p2vd.model.errors import Refused
from p2vd.model.inventory import Inventory
from p2vd.model.size import GIB, MIB
from p2vd.sim.san import Lun, basics, dm_attributes
from p2vd.sim.script import Luns
from tests.discovery.simulated import ARRAY, JOB, Host, lvm_was_shown


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def same(one: Inventory, other: Inventory) -> bool:
    ordered = [tuple(sorted(each.volume_groups, key=lambda vg: vg.uuid)) for each in (one, other)]
    return replace(one, volume_groups=ordered[0]) == replace(other, volume_groups=ordered[1])


# ---- it tells the same --------------------------------------------------------------------------------


def grow(host: Host, chance: random.Random) -> None:
    lun = chance.choice(list(host.san.luns.values()))
    host.san.grow(lun.wwid, lun.size_bytes + GIB)


def flip_path(host: Host, chance: random.Random) -> None:
    lun = chance.choice([lun for lun in host.san.luns.values() if lun.mapped and lun.paths])
    path = chance.choice(lun.paths)
    host.san.set_path(path.device, ready=not path.ready)


def attach(host: Host, chance: random.Random) -> None:
    host.san.attach(Luns(paths=chance.randrange(1, 4), size_bytes=GIB))


def detach(host: Host, chance: random.Random) -> None:
    lun = host.lun(chance.randrange(3))
    if not host.is_held(lun):
        host.san.detach(lun.wwid)


def flip_map(host: Host, chance: random.Random) -> None:
    lun = host.lun(chance.randrange(3))
    if not host.is_held(lun):
        (host.san.drop_map if lun.mapped else host.san.make_map)(lun.wwid)


def add_path(host: Host, chance: random.Random) -> None:
    host.san.add_path(host.lun(chance.randrange(3)).wwid, in_map=chance.random() < 0.5)


def drop_path(host: Host, chance: random.Random) -> None:
    if luns := [lun for lun in host.san.luns.values() if len(lun.paths) > 1]:
        host.san.drop_path(chance.choice(chance.choice(luns).path_names))


def suspend(host: Host, chance: random.Random) -> None:
    lun = host.lun(chance.randrange(3))
    if lun.mapped:
        host.san.tree.write(lun.device, "dm/suspended", f"{chance.randrange(2)}\n")
        host.san.uevents.send("change", lun.device)


def make_volume(host: Host, chance: random.Random) -> None:
    host.create(f"lv{chance.randrange(1 << 30)}", thin=chance.random() < 0.7)


def change_volume(host: Host, chance: random.Random) -> None:
    group = chance.choice(list(host.world.volumes.groups.values()))
    ours = [lv for lv in group.lvs.values() if lv.tags]
    if ours:
        lv = chance.choice(ours)
        select = f'vg_uuid={group.uuid} && lv_uuid={lv.uuid} && lv_tags="p2vd.job={JOB}"'
        verb = chance.choice(
            [["lvremove"], ["lvchange", "--activate", chance.choice("yn")], ["lvchange", "--addtag", "x"]]
        )
        host.lvm(*verb, "--yes", "--select", select, group=group.name)


def mount(host: Host, chance: random.Random) -> None:
    lun = host.lun(chance.randrange(3))
    host.remount(f"/dev/mapper/{lun.map_name}", f"/dev/{lun.path_names[0]}")
    # Of the device that was mounted before, too: a mount makes no event of its own.
    host.san.uevents.send("change", *(name for each in host.san.luns.values() for name in each.path_names))


def flip_partition(host: Host, chance: random.Random) -> None:
    """A partition of a path comes or goes; the event names the partition alone."""
    device = chance.choice(host.lun(chance.randrange(3)).path_names)
    directory, link = host.place(device) / f"{device}1", host.sysfs / f"class/block/{device}1"
    if link.is_symlink():
        link.unlink()
        shutil.rmtree(directory)
    else:
        (directory / "holders").mkdir(parents=True)
        for name, value in (
            ("partition", "1"),
            ("dev", f"259:{chance.randrange(1 << 20)}"),
            ("size", "2048"),
        ):
            (directory / name).write_text(f"{value}\n")
        link.symlink_to(f"../../{directory.relative_to(host.sysfs)}")
    host.san.uevents.send("change", f"{device}1")


def flip_loop(host: Host, chance: random.Random) -> None:
    """A loop device over a map comes or goes."""
    if (host.sysfs / "block/loop0").is_symlink():
        host.san.tree.remove("loop0")
    else:
        backing = f"/dev/mapper/{host.lun(chance.randrange(3)).map_name}"
        attributes = {"loop/backing_file": f"{backing}\n", "loop/offset": "0\n", "loop/sizelimit": "0\n"}
        host.san.tree.add("loop0", "devices/virtual/block/loop0", {**basics("7:0", GIB, 512), **attributes})
    host.san.uevents.send("change", "loop0")


def flip_partition_map(host: Host, chance: random.Random) -> None:
    """kpartx makes or removes the map of a partition; the event names that map alone."""
    lun = host.lun(chance.randrange(3))
    name = f"dm-{1000 + lun.number_of_all}"
    if (host.sysfs / "block" / name).is_symlink():
        host.san.tree.remove(name)
    elif lun.mapped:
        attributes = dm_attributes(f"{lun.map_name}-part1", f"part1-mpath-{lun.wwid}")
        number = f"253:{name.removeprefix('dm-')}"
        host.san.tree.add(name, f"devices/virtual/block/{name}", {**basics(number, GIB, 512), **attributes})
        host.san.tree.stack(lun.device, name)
    host.san.uevents.send("change", name)


def flip_array(host: Host, chance: random.Random) -> None:
    """An array over a LUN starts or stops; the event names the array alone."""
    if (host.sysfs / "block/md0").is_symlink():
        host.san.tree.remove("md0")
    elif not host.is_held(lun := host.lun(chance.randrange(3))) and lun.mapped:
        attributes = {**basics("9:0", GIB, 512), "md/level": "raid1\n"}
        host.san.tree.add("md0", "devices/virtual/block/md0", attributes)
        host.san.tree.stack(lun.device, "md0")
    host.san.uevents.send("change", "md0")


def flip_image(host: Host, chance: random.Random) -> None:
    """A loop device shows an image of the directory, or another one, or none."""
    backing = host.images / chance.choice(["a.img", "b.img"])
    if (host.sysfs / "block/loop1").is_symlink():
        host.san.tree.remove("loop1")
    if chance.random() < 0.6:
        attributes = {**basics("7:1", MIB, 512), "loop/backing_file": f"{backing}\n"}
        host.san.tree.add("loop1", "devices/virtual/block/loop1", attributes)
    host.san.uevents.send("change", "loop1")


def flip_port(host: Host, chance: random.Random) -> None:
    host.san.set_port(chance.choice((200, 201)), ready=chance.random() < 0.5)


OPERATIONS: list[Callable[[Host, random.Random], None]] = [
    *(grow, flip_path, attach, detach, flip_map, add_path, drop_path, suspend, mount),
    *(make_volume, change_volume, flip_partition, flip_loop, flip_partition_map),
    *(flip_array, flip_image, flip_port),
]


@pytest.mark.parametrize("seed", range(6))
def test_a_refresh_tells_what_a_scan_tells(host: Host, seed: int) -> None:
    chance = random.Random(seed)
    done = []
    for _ in range(25):
        if len(host.san.luns) < 7:
            attach(host, chance)
        for operation in chance.sample(OPERATIONS, chance.choice((1, 1, 2))):
            done.append(operation.__name__)
            operation(host, chance)
        refreshed, scanned = host.refresh(), host.new_discovery().scan()
        assert same(refreshed, scanned), done


# ---- it looks at nothing else -------------------------------------------------------------------------


def forget_all_but(host: Host, lun: Lun) -> None:
    """Take the rest of the host away behind discovery's back: who looks there finds nothing."""
    for other in host.san.luns.values():
        if other is not lun:
            for name in (other.device, *other.path_names):
                shutil.rmtree(host.place(name))


def test_a_changed_lun_costs_two_commands_and_no_look_at_another(host: Host) -> None:
    lun = host.lun()
    before = host.discovery.refresh(())
    host.commands.calls.clear()
    forget_all_but(host, lun)
    host.san.grow(lun.wwid, 7 * GIB)
    after = host.refresh()
    assert after.source(lun.wwid).size_bytes == 7 * GIB
    assert [one for one in after.sources if one.id != lun.wwid] == [
        one for one in before.sources if one.id != lun.wwid
    ]
    assert after.volume_groups == before.volume_groups
    assert [call[:3] for call in host.commands.calls] == [
        ("multipathd", "show", "map"),
        ("lvm", "fullreport", "--reportformat"),
    ]
    assert lvm_was_shown(host) == {lun.node}


def test_a_new_volume_costs_its_volume_group(host: Host) -> None:
    host.create("web1")
    inventory = host.refresh()
    (group,) = [vg for vg in inventory.volume_groups if vg.name == "vg_san"]
    assert "web1" in [lv.name for lv in group.lvs]
    assert lvm_was_shown(host) == {pv.device for pv in group.pvs}


def test_one_group_is_read_from_its_own_devices(host: Host) -> None:
    (group,) = [vg for vg in host.discovery.refresh(()).volume_groups if vg.name == "vg_san"]
    host.commands.calls.clear()
    host.create("web1")
    assert "web1" in [lv.name for lv in host.discovery.volume_group(group.uuid).lvs]
    assert lvm_was_shown(host) == {pv.device for pv in group.pvs}
    assert ("multipathd", "show", "maps", "json") not in host.commands.calls


def test_many_maps_are_asked_for_at_once(host: Host) -> None:
    host.san.attach(Luns(count=20, size_bytes=64 * MIB))
    host.refresh()
    assert [call for call in host.commands.calls if call[0] == "multipathd"] == [
        ("multipathd", "show", "maps", "json")
    ]


def test_an_array_and_a_file_are_asked_about_where_they_changed_alone(host: Host) -> None:
    chance = random.Random(0)
    flip_array(host, chance)
    array = host.refresh().source("md0")
    assert (array.id, array.transport) == (f"md-{ARRAY}", Transport.MD)
    host.commands.calls.clear()
    host.san.grow(host.lun(3).wwid, 7 * GIB)
    assert host.refresh().source("md0") is array
    assert [call[0] for call in host.commands.calls] == ["multipathd", "lvm"]


def test_images_stay_while_other_disks_change(host: Host) -> None:
    before = host.discovery.refresh(())
    host.commands.calls.clear()
    host.san.grow(host.lun().wwid, 7 * GIB)
    after = host.refresh()
    for name in ("a.img", "b.img"):
        assert after.source(name) is before.source(name)
    assert not [call for call in host.commands.calls if call[0] in ("find", "stat")]


def test_a_directory_that_is_away_costs_no_scan_of_the_disks(host: Host) -> None:
    shutil.rmtree(host.images)
    host.discovery.scan()
    host.commands.calls.clear()
    host.san.grow(host.lun().wwid, 7 * GIB)
    (problem,) = host.refresh().problems
    assert str(host.images) in problem
    assert scans(host) == 0


def test_an_array_that_cannot_be_named_is_a_problem_as_long_as_it_is_there(host: Host) -> None:
    host.commands.fails = ("mdadm",)
    flip_array(host, random.Random(0))
    assert len(host.refresh().problems) == 1
    host.san.grow(host.lun(3).wwid, 7 * GIB)
    assert len(host.refresh().problems) == 1
    flip_array(host, random.Random(0))
    assert host.refresh().problems == ()
    assert scans(host) == 0


def test_what_is_as_it_was_is_the_same_object(host: Host) -> None:
    """Else a storm of events leaves holes of the size of all that it concerned in the daemon's memory."""
    lun = host.lun()
    before = host.discovery.refresh(()).source(lun.wwid)
    host.san.set_path(lun.path_names[0], ready=False)
    after = host.refresh().source(lun.wwid)
    failed, others = lun.path_names[0], lun.path_names[1:]
    known = {path.device: path for path in before.paths}
    assert [path.device for path in after.paths if path is known[path.device]] == list(others)
    assert failed in known
    tree = read_block_tree(host.sysfs)
    again = reread(tree, [lun.device])
    assert all(again.nodes[name] is node for name, node in tree.nodes.items())


# ---- where it is not certain, it scans ----------------------------------------------------------------


def scans(host: Host) -> int:
    return sum(call[:2] == ("lvm", "systemid") for call in host.commands.calls)


def test_a_part_that_cannot_be_read_costs_a_scan(host: Host) -> None:
    host.commands.fails = ("lvm", "fullreport")
    host.san.grow(host.lun().wwid, 7 * GIB)
    assert host.refresh().problems
    assert scans(host) == 1
    host.commands.fails = ("nothing",)
    assert not host.discovery.refresh(()).problems
    assert scans(host) == 2


def test_a_map_that_multipathd_does_not_know_is_no_failure(host: Host) -> None:
    host.commands.fails = ("multipathd", "show", "map")
    host.san.grow(host.lun().wwid, 7 * GIB)
    assert not host.refresh().problems
    assert scans(host) == 0


def test_a_lost_physical_volume_costs_a_scan(host: Host) -> None:
    group = host.world.volumes.groups["vg_san"]
    pv = group.pvs[1].lun
    for path in pv.paths:
        host.san.set_path(path.device, ready=False)
    (seen,) = [vg for vg in host.refresh().volume_groups if vg.name == "vg_san"]
    assert seen.missing_pv_count == 1
    assert scans(host) == 1


@pytest.mark.parametrize("event", [(), ("rport-200:0-1",), ("host200",)])
def test_a_port_that_changed_costs_a_scan_for_its_paths(host: Host, event: tuple[str, ...]) -> None:
    """Whatever event comes first: a port that is blocked makes none of its own."""
    (fibre, *_) = (lun for lun in host.san.luns.values() if lun.kind.transport is Transport.FC)
    host.san.tree.port("fc_remote_ports", "rport-200:0-1", {"port_state": "Blocked"})
    inventory = host.discovery.refresh(event)
    assert [path.port_state for path in inventory.source(fibre.wwid).paths] == ["Blocked", "Online"]
    assert inventory.hbas[0].remote_ports[0].state == "Blocked"
    assert scans(host) == 1
    assert host.discovery.refresh(event) is inventory
    assert scans(host) == 1


def test_what_is_no_whole_picture_is_not_built_upon(host: Host) -> None:
    before = host.discovery.refresh(())
    host.commands.fails = ("multipathd",)
    host.san.grow(host.lun().wwid, 7 * GIB)
    assert host.refresh().unread
    assert host.discovery.refresh(()).unread
    host.commands.fails = ("nothing",)
    after = host.discovery.refresh(())
    assert after.source(host.lun().wwid).size_bytes == 7 * GIB
    assert after.source(host.lun(1).wwid) is before.source(host.lun(1).wwid)


def test_a_path_is_refused_by_its_lun_after_a_refresh_too(host: Host) -> None:
    device = host.san.add_path(host.lun().wwid, in_map=True)
    with pytest.raises(Refused, match=host.lun().wwid):
        host.refresh().source(device)
