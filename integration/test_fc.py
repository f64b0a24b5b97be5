"""Fibre Channel on real fc_host and rport objects, the other kinds of sources, and what LVM can tell."""

import contextlib
from typing import Any

import pytest

from integration.content import fill, require_same
from integration.host import MANAGER, SOURCE, Host, Properties
from integration.lab.fabric import FABRICS, Fabric, array_wwpn, hba_wwpn, nvme, wwid
from integration.lab.shell import GuestError
from integration.lab.vm import Vm
from p2vd.bus.names import ROOT

pytestmark = pytest.mark.lab

MIB = 1 << 20
GROUP = "org.p2vd1.VolumeGroup"

RULE = """
[[rule]]
name = "{name}"
match.{match}
target.volume_groups = ["vg_san"]
target.provisioning = "{provisioning}"
target.single_host = true
domain.memory = "64 MiB"
domain.vcpus = 1
domain.type = "qemu"
"""


def answer(host: Host, path: str, interface: str, method: str) -> Any:
    (found,) = host.call(path, interface, method, "a{sv}", {})
    return found


def paths(host: Host, name: str) -> list[Properties]:
    found: list[Properties] = answer(host, host.source(wwid(name))["path"], SOURCE, "GetPaths")
    return sorted(found, key=lambda path: str(path["HbaWwpn"]))


def wait_ready(host: Host, name: str, ready: int) -> Properties:
    """Return a LUN's source once so many of its paths are ready: multipathd asks each when it comes."""
    return host.wait_source(wwid(name), f"{ready} paths ready", lambda now: now["PathsReady"] == ready)


def wait_total(host: Host, name: str, total: int) -> Properties:
    """Return a LUN's source once it has so many paths."""
    return host.wait_source(wwid(name), f"{total} paths", lambda now: now["PathsTotal"] == total)


def group(host: Host, name: str, says: str = "") -> Properties:
    """Return a volume group once p2vd sees it, and says that of it."""

    def seen() -> Properties | None:
        found = next((group for group in host.of(GROUP) if group["Name"] == name), None)
        return found if found and says in " ".join(found["Reasons"]) else None

    found: Properties = host.wait(seen, f"the group {name}: {says or 'seen'}")
    return found


def scan(host: Host, place: str) -> None:
    """Have the kernel look for LUNs in a place; returns when p2vd has looked too."""
    host.call(ROOT, MANAGER, "Rescan", "a{sv}", {"scsi": place})
    host.rescan()


def refused(host: Host, source_id: str) -> str:
    with pytest.raises(GuestError) as refusal:
        host.plan(source_id)
    return str(refusal.value)


def test_a_lun_over_two_fabrics_from_its_ports_to_the_volume(vm: Vm) -> None:
    fabric = Fabric.up(vm, "fc1:24M")
    fill(vm, fabric.device("fc1"), 7)
    digest = vm.out(f"sha256sum < {fabric.device('fc1')}")
    rule = RULE.format(name="fc", match='wwpn = "20:00:02:FC:*:02"', provisioning="thin")
    vm.write("/etc/p2vd/policy.d/50-lab.toml", rule)
    vm.run("systemctl start p2vd")
    host = Host(vm)
    source = wait_ready(host, "fc1", 2)
    assert (source["Transport"], source["PathsReady"], source["MatchedPolicy"]) == ("fc", 2, "fc")
    assert [(p["HbaWwpn"], p["TargetWwpn"], p["PortState"]) for p in paths(host, "fc1")] == [
        (hba_wwpn(number), array_wwpn(number), "Online") for number in FABRICS
    ]
    hbas = {hba["Wwpn"]: hba for hba in answer(host, ROOT, MANAGER, "GetFabric")}
    for number in FABRICS:
        (port,) = [p for p in hbas[hba_wwpn(number)]["RemotePorts"] if p["Wwpn"] == array_wwpn(number)]
        assert (hbas[hba_wwpn(number)]["State"], port["State"]) == ("Online", "Online")
        assert "FCP Target" in port["Roles"]
        assert [lun["Source"] for lun in port["Luns"]] == [wwid("fc1")]
    # The array's own ports are HBAs of this machine too: it is both.
    assert hbas.keys() == {wwpn(number) for number in FABRICS for wwpn in (hba_wwpn, array_wwpn)}
    listed = vm.out("p2vctl fabric")
    assert array_wwpn(1) in listed
    job = host.migrate(wwid("fc1"), "fromfc")
    done = host.wait_registered(job)
    require_same(vm, fabric.device("fc1"), done["Target"], done["Bytes"])
    assert vm.out(f"sha256sum < {fabric.device('fc1')}") == digest


def test_a_link_goes_down_and_comes_back(vm: Vm) -> None:
    fabric = Fabric.up(vm, "fc1:24M")
    host = Host.ready(vm)
    wait_ready(host, "fc1", 2)
    fabric.link(0, "down")
    wait_ready(host, "fc1", 1)

    def down() -> bool:
        first, second = paths(host, "fc1")
        ready = (second["State"], second["PortState"]) == ("ready", "Online")
        return ready and first["State"] == "faulty" and first["PortState"] != "Online"

    host.wait(down, "the first path faulty and its port not online, the second as it was")
    host.rescan()
    hbas = {hba["Wwpn"]: hba for hba in answer(host, ROOT, MANAGER, "GetFabric")}
    assert hbas[hba_wwpn(0)]["State"] != "Online"
    fabric.link(0, "up")
    wait_ready(host, "fc1", 2)
    host.wait(
        lambda: [path["PortState"] for path in paths(host, "fc1")] == ["Online", "Online"],
        "both ports online",
    )


def test_luns_come_grow_and_change_where_the_scan_is_asked_for(vm: Vm) -> None:
    fabric = Fabric.up(vm, "fc1:24M")
    host = Host.ready(vm)
    host.source(wwid("fc1"))
    fabric.add("fc2:16M")
    host.rescan()
    assert wwid("fc2") not in {source["Id"] for source in host.of(SOURCE)}
    # Through one port of the array: one path, and nothing anywhere else.
    scan(host, array_wwpn(0))
    wait_total(host, "fc2", 1)
    (path,) = paths(host, "fc2")
    assert path["TargetWwpn"] == array_wwpn(0)
    (port,) = [
        p
        for hba in answer(host, ROOT, MANAGER, "GetFabric")
        for p in hba["RemotePorts"]
        if p["Wwpn"] == array_wwpn(1) and p["Target"]
    ]
    scan(host, f"{port['Target']}:1")
    wait_total(host, "fc2", 2)
    # The array makes it larger: the paths say so once they are asked; the map is the administrator's.
    vm.run("lab-disks fc-grow fc2 20M")
    scan(host, array_wwpn(0))
    scan(host, array_wwpn(1))
    host.wait(lambda: {p["Size"] for p in paths(host, "fc2")} == {20 * MIB}, "the new size on both paths")
    host.wait_source(
        wwid("fc2"), "the map's old size", lambda now: "differ in size" in " ".join(now["Reasons"])
    )
    # By its alias: multipathd 0.9.4 knows no WWID here, and refuses while it awaits the event of a change.
    resize = f"multipathd resize map {host.source(wwid('fc2'))['Name']} | grep -q ok"
    host.wait(lambda: vm.run(resize, check=False).returncode == 0, "multipathd's resize")
    host.wait(lambda: host.source(wwid("fc2"))["Size"] == 20 * MIB, "the new size of the map")
    # Its number becomes another LUN's, under the map that is still there.
    fabric.remove("fc2")
    fabric.add("fc3:20M")
    scan(host, array_wwpn(0))
    scan(host, array_wwpn(1))
    # Unusable it is before that, too: while it is looked at, and while no path leads anywhere.
    now = f"is {wwid('fc3')}"
    host.wait(lambda: now in " ".join(host.source(wwid("fc2"))["Reasons"]), "the reused number noticed")
    assert not host.source(wwid("fc2"))["Usable"]
    with pytest.raises(GuestError, match="There is no SCSI host 'host77'"):
        scan(host, "77:0:0")


def test_every_kind_of_source_has_a_record_and_is_copied(vm: Vm) -> None:
    node = nvme(vm, "nv1", "24M")
    vm.run(
        "mdadm -q --create /dev/md0 --run --assume-clean --level=1 --raid-devices=2 --metadata=1.2 "
        "/dev/vdc missing"
    )
    uuid = vm.out("mdadm --detail --export /dev/md0 | sed -n s/MD_UUID=//p")
    vm.run("mkdir -p /srv/images && truncate -s $((12 * 1048576 + 700)) /srv/images/a.img")
    for seed, place in enumerate((node, "/dev/md0", "/srv/images/a.img")):
        fill(vm, place, seed)
    vm.run("qemu-img create -q -f qcow2 /srv/images/b.img 8M")
    vm.write("/etc/p2vd/p2vd.toml", 'image_directories = ["/srv/images"]\n')
    rule = RULE.format(name="images", match='transport = ["image", "md", "nvme"]', provisioning="thick")
    vm.write("/etc/p2vd/policy.d/50-lab.toml", rule)
    vm.run("systemctl start p2vd")
    host = Host(vm)
    wwn = vm.out(f"cat /sys/block/{node.removeprefix('/dev/')}/wwid")
    assert host.source(wwn)["Transport"] == "nvme"
    md = host.wait_source(f"md-{uuid}", "usable", lambda now: bool(now["Usable"]))
    assert (md["Transport"], md["Device"], md["Model"]) == ("md", "/dev/md0", "raid1")
    assert "member of the running array" in refused(host, "virtio-LAB-DISK512")
    host.wait_source("/srv/images/a.img", "usable", lambda now: bool(now["Usable"]))
    host.source("/srv/images/b.img")
    host.wait(lambda: "qcow2" in refused(host, "/srv/images/b.img"), "a refusal that names its format")
    jobs = [
        host.migrate(name, f"m{number}") for number, name in enumerate(("/srv/images/a.img", md["Id"], wwn))
    ]
    for job, original in zip(jobs, ("/srv/images/a.img", "/dev/md0", node), strict=True):
        done = host.wait_registered(job, 600)
        require_same(vm, original, done["Target"], done["Bytes"])
    # Another file of that name is another disk: what was planned with the one does not run with the other.
    plan = host.plan("/srv/images/a.img", "again")
    vm.run("cp /srv/images/a.img /srv/images/new && mv /srv/images/new /srv/images/a.img")
    host.rescan()
    with pytest.raises(GuestError, match="source's file is now"):
        host.call_until_looked_at("Migrate", "sa{sv}", plan, {})


def test_volume_groups_say_what_is_under_them_and_why_not(vm: Vm) -> None:
    fabric = Fabric.up(vm, "clone:16M", "pv3:16M")
    vm.run(
        f"vgcreate -q -y --addtag san vg_out {fabric.device('pv3')} && "
        "lvcreate -q -y -L 8M -n x --addtag t vg_out"
    )
    vm.run(
        "mkdir -p /etc/lvm/profile && echo 'activation { thin_pool_autoextend_threshold=80 "
        "thin_pool_autoextend_percent=30 }' > /etc/lvm/profile/early.profile"
    )
    vm.run("lvchange -q -y --metadataprofile early vg_san/pool0")
    host = Host.ready(vm)
    groups = {name: group(host, name) for name in ("vg_out", "vg_san", "vg_san4k")}
    (pv,) = groups["vg_out"]["Devices"]
    assert (pv["Source"], pv["Missing"], pv["Duplicate"]) == (wwid("pv3"), False, False)
    assert groups["vg_out"]["FreeExtents"] == int(vm.out("vgs --noheadings -o vg_free_count vg_out"))
    assert (groups["vg_out"]["Tags"], groups["vg_out"]["Reasons"]) == (["san"], [])
    (volume,) = answer(host, groups["vg_out"]["path"], GROUP, "GetVolumes")
    assert (volume["Name"], volume["Tags"], volume["Size"]) == ("x", ["t"], 8 * MIB)
    (pool,) = groups["vg_san"]["ThinPools"]
    assert (pool["AutoextendThreshold"], pool["AutoextendPercent"], pool["Active"]) == (80, 30, True)
    (pool,) = groups["vg_san4k"]["ThinPools"]
    assert pool["AutoextendThreshold"] == 100
    # A clone of the LUN: LVM's own report says that all is well.
    vm.run(f"dd if={fabric.device('pv3')} of={fabric.device('clone')} bs=1M oflag=direct && udevadm settle")
    host.rescan()
    twice = group(host, "vg_out", "there twice")
    assert {(pv["Source"], pv["Duplicate"]) for pv in twice["Devices"]} == {
        (wwid("pv3"), False),
        (wwid("clone"), True),
    }
    vm.run(f"wipefs -q -a {fabric.device('clone')}")
    # Exported.
    vm.run("vgchange -q -an vg_out && vgexport -q vg_out")
    host.rescan()
    group(host, "vg_out", "exported")


def test_a_part_of_the_host_that_does_not_answer_leaves_the_rest_as_it_was(vm: Vm) -> None:
    host = Host.ready(vm)
    host.source(host.san["boot1"].wwid)
    before = {source["Id"] for source in host.of(SOURCE)}
    # What multipathd says is garbage: a socket that answers, and not what was asked.
    vm.run(
        "mv /usr/sbin/multipathd /usr/sbin/multipathd.real && printf '#!/bin/sh\necho garbage\n' > "
        "/usr/sbin/multipathd && chmod 755 /usr/sbin/multipathd"
    )
    with contextlib.suppress(GuestError):  # ScanFailed, where the scan was over within a second
        host.rescan()
    host.wait(lambda: host.property("StaleSince"), "a stale inventory")
    assert {source["Id"] for source in host.of(SOURCE)} == before
    assert "garbage" in " ".join(host.property("Problems"))
    assert "not current" in refused(host, host.san["boot1"].wwid)
    vm.run("mv /usr/sbin/multipathd.real /usr/sbin/multipathd")
    host.wait(lambda: not host.property("StaleSince"), "a current inventory, without being asked")
    host.plan(host.san["boot1"].wwid)
