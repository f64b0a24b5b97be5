"""A refresh of what changed tells what a scan of the whole host would tell, and looks at nothing else."""

import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from p2vd.discovery.scanner import Discovery
from p2vd.model.errors import Refused
from p2vd.model.inventory import Inventory
from p2vd.model.size import GIB, MIB
from p2vd.sim.commands import SimCommands
from p2vd.sim.san import Lun, basics, dm_attributes
from p2vd.sim.script import Luns, parse
from p2vd.sim.volumes import Volumes
from p2vd.sim.world import World
from p2vd.system.command import CommandFailed, Result

SCRIPT = """
luns = [{ count = 4, paths = 3, size = "1 GiB" }, { count = 2, paths = 1, size = "1 GiB" }]
[[volume_group]]
name = "vg_san"
luns = 2
size = "64 GiB"
pool = { size = "16 GiB" }
[[volume_group]]
name = "vg-thick"
size = "64 GiB"
"""
JOB = "11111111-2222-4333-8444-555555555555"


class Recording(SimCommands):
    """Simulated commands that are kept, and can fail."""

    def __init__(self, volumes: Volumes) -> None:
        super().__init__(volumes)
        self.calls: list[tuple[str, ...]] = []
        self.fails: tuple[str, ...] = ("nothing",)

    def query(self, argv: Sequence[str], *, timeout_s: float = 30.0, ok: Sequence[int] = (0,)) -> Result:
        self.calls.append(tuple(argv))
        if tuple(argv[: len(self.fails)]) == self.fails:
            raise CommandFailed(tuple(argv), 1, "it fails")
        return super().query(argv, timeout_s=timeout_s, ok=ok)


class Host:
    """A simulated host, looked at by one Discovery that refreshes."""

    def __init__(self, directory: Path) -> None:
        self.world = World(parse("script", SCRIPT), directory)
        self.san = self.world.san
        self.commands = Recording(self.world.volumes)
        self.discovery = self.new_discovery()
        self.discovery.scan()
        self.changed()
        self.commands.calls.clear()

    def new_discovery(self) -> Discovery:
        root = self.world.root
        return Discovery(self.commands, root / "sys", root / "proc", root)

    def changed(self) -> set[str]:
        names = set()
        while (event := self.world.uevents.poll()) is not None:
            names.add(event.sys_name)
        return names

    def refresh(self) -> Inventory:
        return self.discovery.refresh(self.changed())

    def lun(self, number: int = 0) -> Lun:
        """One that is no PV."""
        pvs = {pv.lun.wwid for group in self.world.volumes.groups.values() for pv in group.pvs}
        return [lun for lun in self.san.luns.values() if lun.wwid not in pvs][number]

    def lvm(self, *words: str, group: str = "vg_san") -> None:
        self.commands.change([*words, group], unit="test")

    def create(self, name: str, *, thin: bool = True) -> None:
        space = (
            ["--virtualsize", f"{GIB}b", "--thin", "--thinpool", "pool0"] if thin else ["--size", f"{GIB}b"]
        )
        group = "vg_san" if thin else "vg-thick"
        self.lvm("lvcreate", *space, "--name", name, "--addtag", f"p2vd.job={JOB}", group=group)

    @property
    def sysfs(self) -> Path:
        return self.world.root / "sys"

    def place(self, device: str) -> Path:
        """A disk's directory below /sys."""
        return (self.sysfs / "block" / device).resolve()

    def is_held(self, lun: Lun) -> bool:
        return lun.mapped and any((self.place(lun.device) / "holders").iterdir())

    def remount(self, *devices: str) -> None:
        lines = [
            f"{50 + n} 1 0:{50 + n} / /mnt/{n} rw - ext4 {device} rw\n" for n, device in enumerate(devices)
        ]
        (self.world.root / "proc/1/mountinfo").write_text("".join(lines))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def same(one: Inventory, other: Inventory) -> bool:
    ordered = [tuple(sorted(each.volume_groups, key=lambda vg: vg.uuid)) for each in (one, other)]
    return replace(one, volume_groups=ordered[0]) == replace(other, volume_groups=ordered[1])


def lvm_was_shown(host: Host) -> set[str]:
    shown = set()
    for call in host.commands.calls:
        if call[:2] == ("lvm", "fullreport"):
            shown |= {
                name
                for at, word in enumerate(call)
                if word == "--devices"
                for name in call[at + 1].split(",")
            }
    return shown


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


OPERATIONS: list[Callable[[Host, random.Random], None]] = [
    *(grow, flip_path, attach, detach, flip_map, add_path, drop_path, suspend, mount),
    *(make_volume, change_volume, flip_partition, flip_loop, flip_partition_map),
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


def test_a_path_is_refused_by_its_lun_after_a_refresh_too(host: Host) -> None:
    device = host.san.add_path(host.lun().wwid, in_map=True)
    with pytest.raises(Refused, match=host.lun().wwid):
        host.refresh().source(device)
