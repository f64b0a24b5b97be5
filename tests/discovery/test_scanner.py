"""A whole scan over recorded hosts."""

from dataclasses import replace
from pathlib import Path

import pytest

from p2vd.discovery.disks import Disks
from p2vd.discovery.lvm import ReportFailed
from p2vd.discovery.scanner import lvm_devices
from p2vd.discovery.sysfs import read_block_tree
from p2vd.model.disk import PathState, Portal, Transport
from p2vd.model.errors import NotFound, Refused
from p2vd.system.command import CommandFailed, CommandTimedOut, Result
from tests.discovery.host import Host, codes, empty_host, recorded_host

I0 = "36001405a9e26254e651465c89ff715d5"
I1 = "360014059ce88802f07591e5ce0457ef5"
V0 = "360014059abcde3c584628a02620bf796"
M0 = "36001405ced6bfe1f650f6b338594d37e"
P0 = "3600140542937d0648362caae00c54316"
X0 = "36001405e50eb7598b580311bab8f39bb"
SAN_UUID = "OByFyA-GicJ-XixR-zvwU-kpzE-nyzr-O9BAhQ"


@pytest.fixture
def base(tmp_path: Path) -> Host:
    """Two iSCSI portals, three LUNs, a target VG with a pool, an inactive guest's VG, two images."""
    return recorded_host("base", tmp_path)


@pytest.fixture
def hostile(tmp_path: Path) -> Host:
    """The same with a mount, kpartx maps, an active guest's VG, md, swap, dead paths, odd VGs."""
    return recorded_host("hostile", tmp_path)


def test_a_multipathed_lun_is_one_source(base: Host) -> None:
    source = base.discovery.scan().source(I0)
    assert (source.device, source.name, source.dm_uuid) == ("dm-2", "mpathc", f"mpath-{I0}")
    assert (source.size_bytes, source.sector_size) == (256 << 20, 512)
    assert (source.vendor, source.model, source.serial) == ("LAB", "FILEIO", "a9e26254e651465c89ff715d5")
    assert source.transport is Transport.ISCSI
    assert source.reasons == ()
    first, second = source.paths
    assert (first.device, first.hctl, first.portal) == ("sda", "7:0:0:0", Portal("10.98.1.1", 3260))
    assert (second.device, second.hctl, second.portal) == ("sdb", "6:0:0:0", Portal("10.98.2.1", 3260))
    assert {path.target_iqn for path in source.paths} == {"iqn.2026-01.org.example.lab:t1"}
    assert {path.wwid for path in source.paths} == {I0}
    assert source.paths_ready == 2


def test_nothing_but_disks_is_a_source(base: Host) -> None:
    devices = {source.device for source in base.discovery.scan().sources}
    paths = {"sda", "sdb", "sdc", "sdd", "sde", "sdf"}
    assert devices == {"dm-0", "dm-1", "dm-2", "vda", "loop0", "loop1"}
    assert set(base.discovery.scan().paths) == paths


def test_every_source_has_an_id_of_its_own(hostile: Host) -> None:
    ids = [source.id for source in hostile.discovery.scan().sources]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("asked", ["sda", "/dev/sda"])
def test_a_path_is_found_and_refused_by_its_map(base: Host, asked: str) -> None:
    with pytest.raises(Refused, match=f"one path of .*{I0}") as refused:
        base.discovery.scan().source(asked)
    assert codes(refused.value.reasons) == ["path-of-map"]


def test_an_image_is_a_source_by_its_path(base: Host) -> None:
    source = base.discovery.scan().source("/var/tmp/disk4k.img")
    assert (source.sector_size, source.transport, source.reasons) == (4096, Transport.LOOP, ())


def test_a_virtual_disk_without_serial_is_shown_but_not_usable(base: Host) -> None:
    source = base.discovery.scan().source("vda")
    assert codes(source.reasons) == ["no-identity", "mounted"]
    assert "serial" in source.reasons[0].text
    assert "boot the host from something else" in source.reasons[1].text


def test_a_physical_volume_of_a_target_is_refused(base: Host) -> None:
    source = base.discovery.scan().source(V0)
    assert codes(source.reasons) == ["physical-volume"]
    assert "p2vd's targets" in source.reasons[0].text
    assert "vgchange" not in source.reasons[0].text  # its volumes are machines' disks


def test_an_inactive_guests_vg_is_the_machines_data(base: Host) -> None:
    inventory = base.discovery.scan()
    assert inventory.source(I1).reasons == ()
    (guest,) = [vg for vg in inventory.volume_groups if vg.name == "guestvg"]
    assert [pv.device for pv in guest.pvs] == ["/dev/mapper/mpatha"]


def test_a_scan_runs_eight_commands_at_most(hostile: Host) -> None:
    """Each pool's profile, each array and each image directory may add one."""
    hostile.discovery.scan()
    asked = [" ".join(argv[:2]) for argv in hostile.commands.queries]
    lvm = ["lvm fullreport", "lvm pvs", *["lvm lvmconfig"] * 2, "lvm systemid", "lvm lvmconfig"]
    assert [argv.split(" --")[0] for argv in asked] == ["multipathd show", "stat", *lvm]
    assert not hostile.commands.changes


def test_lvm_is_shown_maps_and_other_disks_only(base: Host) -> None:
    base.discovery.scan()
    (argv,) = [argv for argv in base.commands.queries if argv[:2] == ("lvm", "fullreport")]
    shown = argv[argv.index("--devices") + 1].split(",")
    maps = ["/dev/mapper/mpatha", "/dev/mapper/mpathb", "/dev/mapper/mpathc"]
    assert shown == ["/dev/loop0", "/dev/loop1", *maps, "/dev/vda"]


@pytest.mark.parametrize(
    ("wwid", "expected", "named"),
    [
        (I0, ["mounted", "active-lv", "partition-maps"], "/mnt/a b"),
        (I1, ["active-lv"], "vgchange -an guestvg"),
        (M0, ["md-member"], "mdadm --stop /dev/md0"),
        (P0, ["no-path-ready"], "multipath -ll"),
    ],
)
def test_a_disk_in_use_says_by_whom(hostile: Host, wwid: str, expected: list[str], named: str) -> None:
    source = hostile.discovery.scan().source(wwid)
    assert codes(source.reasons) == expected
    assert named in " ".join(reason.text for reason in source.reasons)


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("loop0", ["mounted"]),
        ("loop1", ["duplicate-identity", "swap"]),
        ("loop4", ["partial-image", "duplicate-identity"]),
        ("loop5", ["image-deleted"]),
    ],
)
def test_an_image_that_cannot_be_a_source_says_why(hostile: Host, device: str, expected: list[str]) -> None:
    assert codes(hostile.discovery.scan().source(device).reasons) == expected


def test_one_faulty_path_is_no_reason(hostile: Host) -> None:
    source = hostile.discovery.scan().source(I1)
    assert {path.device: path.state for path in source.paths} == {
        "sde": PathState.FAULTY,
        "sdf": PathState.READY,
    }


def test_a_map_without_a_ready_path_is_kept_from_lvm(hostile: Host) -> None:
    hostile.discovery.scan()
    (argv,) = [argv for argv in hostile.commands.queries if argv[:2] == ("lvm", "fullreport")]
    shown = argv[argv.index("--devices") + 1].split(",")
    assert "/dev/mapper/mpathe" not in shown
    assert "/dev/mapper/mpathf" in shown
    assert not [path for path in shown if "mpathc2" in path or "vg_san" in path]


def test_odd_volume_groups_are_told_apart(hostile: Host) -> None:
    vgs = {vg.name: vg for vg in hostile.discovery.scan().volume_groups}
    assert set(vgs) == {"vg_san", "guestvg", "xvg", "halfvg", "expvg"}
    assert vgs["xvg"].system_id == "otherhost"
    assert vgs["expvg"].exported
    assert vgs["halfvg"].missing_pv_count == 1
    assert [pv.missing for pv in vgs["halfvg"].pvs] == [False, True]


def test_without_multipathd_nothing_counts_as_ready(tmp_path: Path) -> None:
    inventory = recorded_host("bare", tmp_path).discovery.scan()
    assert [problem for problem in inventory.problems if "multipathd" in problem]
    assert codes(inventory.source(P0).reasons) == ["suspended", "no-path-ready"]
    assert "systemctl status multipathd" in inventory.source(I1).reasons[0].text


def test_paths_without_a_map_are_one_refused_source_and_kept_from_lvm(tmp_path: Path) -> None:
    host = recorded_host("bare", tmp_path)
    inventory = host.discovery.scan()
    source = inventory.source(X0)
    assert codes(source.reasons) == ["no-map"]
    assert [path.device for path in source.paths] == ["sdk", "sdl"]
    (argv,) = [argv for argv in host.commands.queries if argv[:2] == ("lvm", "fullreport")]
    assert "/dev/sd" not in " ".join(argv)


def test_paths_of_different_size_are_refused(base: Host) -> None:
    base.write("block/sda/size", str((512 << 20) // 512))
    source = base.discovery.scan().source(I0)
    assert codes(source.reasons) == ["paths-disagree"]
    assert "sda 512 MiB" in source.reasons[0].text


def test_each_path_has_its_state_host_priority_and_group(base: Host) -> None:
    """As the recorded `multipathd show maps json` says; the host is in the path's address."""
    source = base.discovery.scan().source("mpatha")
    told = {path.device: (path.state, path.host, path.priority, path.group) for path in source.paths}
    assert told == {"sde": (PathState.READY, "host7", 50, 2), "sdf": (PathState.READY, "host6", 50, 1)}


def stray(host: Host, size_bytes: int) -> None:
    """A third path to the LUN I0 that multipathd has not put into the map."""
    devpath = "devices/platform/host9/session9/target9:0:0/9:0:0:0/block/sdz"
    host.disk(
        "sdz",
        devpath,
        "65:144",
        size_bytes,
        device__wwid=(host.sysfs / "block/sda/device/wwid").read_text(),
        device__state="running\n",
    )


def test_a_path_of_another_size_that_multipathd_left_out_is_refused(base: Host) -> None:
    """multipathd takes no path of another size into a map: its paths alone would agree."""
    size = base.discovery.scan().source(I0).size_bytes
    stray(base, size // 2)
    inventory = base.discovery.scan()
    source = inventory.source(I0)
    assert codes(source.reasons) == ["paths-disagree"]
    assert "sdz" in source.reasons[0].text
    with pytest.raises(Refused, match=f"/dev/sdz is one path of the multipathed LUN {I0}"):
        inventory.source("sdz")


def test_a_path_that_is_in_no_map_is_said_and_does_not_count(base: Host) -> None:
    before = base.discovery.scan().source(I0)
    stray(base, before.size_bytes)
    source = base.discovery.scan().source(I0)
    assert source.reasons == ()
    assert codes(source.warnings) == ["stray-path"]
    assert "multipathd add path sdz" in source.warnings[0].text
    assert (source.paths_ready, len(source.paths)) == (before.paths_ready, len(before.paths) + 1)
    assert [(path.state, path.group) for path in source.paths if path.device == "sdz"] == [
        (PathState.UNKNOWN, 0)
    ]


def test_paths_without_a_map_that_differ_in_size_are_refused_for_both(tmp_path: Path) -> None:
    host = recorded_host("bare", tmp_path)
    host.write("block/sdl/size", "2048")
    source = host.discovery.scan().source(X0)
    assert codes(source.reasons) == ["no-map", "paths-disagree"]


@pytest.mark.parametrize(
    ("devpath", "expected"),
    [
        ("devices/platform/host9/session9/target9:0:0/9:0:0:0/block/sdz", ["map-missing"]),
        ("devices/pci0000:00/0000:00:07.0/host7/rport-7:0-0/target7:0:0/7:0:0:0/block/sdz", ["map-missing"]),
        ("devices/pci0000:00/ata1/host0/target0:0:0/0:0:0:0/block/sdz", []),
    ],
)
def test_a_lun_with_one_path_and_no_map_is_said(base: Host, devpath: str, expected: list[str]) -> None:
    base.disk(
        "sdz", devpath, "65:144", 1 << 30, device__wwid="naa.5000c500a1b2c3d4\n", device__state="running\n"
    )
    source = base.discovery.scan().source("35000c500a1b2c3d4")
    assert (codes(source.reasons), codes(source.warnings)) == ([], expected)


def test_a_path_to_another_lun_is_refused(base: Host) -> None:
    base.write("block/sda/device/wwid", "naa.60014050000000000000000000000000\n")
    source = base.discovery.scan().source(I0)
    assert codes(source.reasons) == ["paths-disagree"]
    assert "sda is 360014050000000000000000000000000" in source.reasons[0].text


def test_a_wwid_of_another_type_is_no_disagreement(base: Host) -> None:
    # Seen with scsi_debug: multipath names the map by its T10 designator, sysfs tells NAA.
    for device in ("sda", "sdb"):
        base.write(f"block/{device}/device/wwid", "t10.LAB     FILEIO  x\n")
    assert base.discovery.scan().source(I0).reasons == ()


def test_a_failed_lvm_report_leaves_no_disk_usable(base: Host) -> None:
    base.commands.replace("lvm fullreport", Result((), 3, "", "Syntax error"))
    inventory = base.discovery.scan()
    assert inventory.volume_groups == ()
    assert "Syntax error" in inventory.problems[0]
    assert "unknown-use" in codes(inventory.source(I0).reasons)


def test_a_complaint_of_lvm_is_a_problem_and_keeps_the_rest(base: Host) -> None:
    whole = base.commands.query(["lvm", "fullreport"])
    base.commands.replace("lvm fullreport", replace(whole, returncode=5, stderr="VG metadata is damaged"))
    inventory = base.discovery.scan()
    assert "damaged" in inventory.problems[0]
    assert len(inventory.volume_groups) == 2
    with pytest.raises(ReportFailed, match="damaged"):
        base.discovery.volume_group(SAN_UUID)


def test_one_fresh_volume_group(base: Host) -> None:
    vg = base.discovery.volume_group(SAN_UUID)
    assert vg.name == "vg_san"
    assert f"vg_uuid={SAN_UUID}" in base.commands.queries[-1]
    assert "--nolocking" in base.commands.queries[-1]


def test_a_volume_group_that_is_not_seen_is_asked_for_with_its_lock_once_more(base: Host) -> None:
    with pytest.raises(NotFound, match="volume group"):
        base.discovery.volume_group("nope")
    reports = [argv for argv in base.commands.queries if argv[:2] == ("lvm", "fullreport")]
    assert ["--nolocking" in argv for argv in reports] == [True, False]


def test_a_hanging_report_raises(base: Host) -> None:
    base.commands.replace("lvm fullreport", CommandTimedOut(("lvm",), 30))
    with pytest.raises(CommandTimedOut):
        base.discovery.volume_group(SAN_UUID)
    assert base.discovery.scan().problems


def test_unknown_exposure_is_exposure(base: Host) -> None:
    asked = "lvm lvmconfig --type full devices/scan_lvs global/event_activation"
    base.commands.replace(asked, CommandFailed(("lvm",), 5, "no config"))
    assert codes(base.discovery.scan().exposures) == ["unknown-exposure"]


def test_a_host_without_disks_asks_neither_lvm_nor_multipathd(tmp_path: Path) -> None:
    host = empty_host(tmp_path)
    inventory = host.discovery.scan()
    assert (inventory.sources, inventory.volume_groups, inventory.problems) == ((), (), ())
    assert inventory.system_id == "host1"
    assert [argv[:2] for argv in host.commands.queries] == [("lvm", "systemid"), ("lvm", "lvmconfig")]


def test_md_and_partitions_of_local_disks_are_shown_to_lvm(hostile: Host) -> None:
    hostile.disk("sdz", "devices/pci0/ata1/host9/target9:0:0/9:0:0:0/block/sdz", "65:144", 1 << 30)
    for name in ("sdz1", "sdz2"):
        part = f"devices/pci0/ata1/host9/target9:0:0/9:0:0:0/block/sdz/{name}"
        hostile.write(f"{part}/partition", name[-1])
        hostile.write(f"{part}/dev", f"65:14{name[-1]}")
        hostile.write(f"{part}/size", "2048")
    tree = read_block_tree(hostile.sysfs)
    shown = {device.path for device in lvm_devices(tree, {}, Disks()).values()}
    assert {"/dev/md0", "/dev/sdz", "/dev/sdz1", "/dev/sdz2"} <= shown


def test_a_physical_volume_that_is_there_twice_refuses_its_group(tmp_path: Path) -> None:
    inventory = recorded_host("fc-faults", tmp_path).discovery.scan()
    groups = {vg.name: vg for vg in inventory.volume_groups}
    first, second = groups["vg_out"].pvs
    assert (first.device, first.duplicate) == ("/dev/mapper/mpathf", False)
    assert (second.device, second.duplicate) == ("/dev/mapper/mpathg", True)
    assert first.source_id == "3600140567d551b078d939f1a67a504e3"
    assert second.source_id == "36001405d329fd777726c300d7a044e48"
    assert codes(groups["vg_out"].refusals(inventory.system_id)) == ["vg-duplicate-pvs"]
    assert codes(groups["vg_san"].refusals(inventory.system_id)) == []


def test_what_becomes_of_a_pool_that_fills_up_is_its_profiles_or_the_hosts(tmp_path: Path) -> None:
    inventory = recorded_host("fc-faults", tmp_path).discovery.scan()
    pools = {vg.name: pool for vg in inventory.volume_groups for pool in vg.thin_pools}
    assert (pools["vg_san"].profile, pools["vg_san"].active) == ("early", True)
    assert (pools["vg_san"].autoextend_threshold_percent, pools["vg_san"].autoextend_percent) == (80, 30)
    assert (pools["vg_san4k"].profile, pools["vg_san4k"].active) == ("", False)
    assert pools["vg_san4k"].autoextend_threshold_percent == 100


def test_a_missing_physical_volume_is_on_no_disk(hostile: Host) -> None:
    (group,) = [vg for vg in hostile.discovery.scan().volume_groups if vg.missing_pv_count]
    missing = [pv for pv in group.pvs if pv.missing]
    assert [pv.source_id for pv in missing] == [""]
    assert codes(group.refusals("")) == ["vg-missing-pvs"]
