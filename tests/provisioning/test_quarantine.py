"""Markers: their names, their life, and the events that make udev look."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from p2vd.model.disk import PathState, ScsiPath, Source, Transport
from p2vd.model.lvm import Lv, Vg
from p2vd.provisioning.errors import MarkerUnwritable
from p2vd.provisioning.quarantine import DIRECTORY, Quarantine, marker_name, source_keys

UNITS = Path(__file__).parents[2] / "units"
WWID = "36001405a9e26254e651465c89ff715d5"
LUN = Source(
    id=WWID,
    wwid=WWID,
    device="dm-1",
    name="mpathc",
    dm_uuid=f"mpath-{WWID}",
    size_bytes=1 << 28,
    sector_size=512,
    transport=Transport.ISCSI,
    paths=tuple(ScsiPath(name, "", WWID, PathState.READY, 1 << 28) for name in ("sda", "sdb")),
)
LOCAL = replace(LUN, device="sdx", name="sdx", dm_uuid="", transport=Transport.LOCAL, paths=())
VG = Vg("9lVRGJ-kcIX-mKTe-GnPr-fESq-BOLj-252YJB", "san", 0, 0, 4 << 20, 512)
LV = Lv("9myByo-b03X-8mhn-4JEO-zKrh-suoC-geDGWP", "web1", 0)
LV_DM_UUID = "LVM-9lVRGJkcIXmKTeGnPrfESqBOLj252YJB9myByob03X8mhn4JEOzKrhsuoCgeDGWP"


def sysfs_of(root: Path, *devices: str) -> Path:
    for device in devices:
        block = root / "class/block" / device
        block.mkdir(parents=True)
        (block / "uevent").write_text("")
    return root


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (f"mpath-{WWID}", f"mpath-{WWID}"),
        (LV_DM_UUID, LV_DM_UUID),
        (WWID, f"disk-{WWID}"),
        ("QM00001", "disk-QM00001"),
        ("..", "disk-.."),
        ("unknown-maps", "disk-unknown-maps"),
        ("host", "disk-host"),
        ("../../etc/passwd", "disk-.._.._etc_passwd"),
        ("a b/c$d,e%f?", "disk-a_b_c_d_e_f_"),
        ("mpath-SATA\\x20disk", "mpath-SATA\\x20disk"),
        ("mpath-back\\slash", "mpath-back_slash"),
        ("tail  ", "disk-tail"),
        ("Gehäuse", "disk-Gehäuse"),
    ],
)
def test_a_marker_has_the_name_that_udev_will_look_for(key: str, name: str) -> None:
    assert marker_name(key) == name
    assert "/" not in marker_name(key)


@pytest.mark.parametrize("key", ["", " ", "\n"])
def test_a_device_without_identity_gets_no_marker(key: str) -> None:
    with pytest.raises(ValueError, match="without identity"):
        marker_name(key)


@pytest.mark.parametrize(
    ("source", "keys"),
    [
        (LUN, (f"mpath-{WWID}",)),
        (LOCAL, (WWID, f"0x{WWID[1:]}")),
        (replace(LOCAL, wwid="1ATA_QEMU_HARDDISK_QM1"), ("QEMU_HARDDISK_QM1",)),
        (replace(LOCAL, transport=Transport.VIRTIO, wwid="", serial="S1"), ("S1",)),
        (replace(LOCAL, transport=Transport.NVME, wwid="eui.0025385b91"), ("eui.0025385b91",)),
        (replace(LOCAL, transport=Transport.LOOP, wwid=""), ()),
        (replace(LOCAL, wwid=""), ()),
    ],
    ids=["LUN", "SCSI", "ATA", "virtio", "NVMe", "loop", "no identity"],
)
def test_a_source_is_known_by_what_udev_knows_of_it(source: Source, keys: tuple[str, ...]) -> None:
    assert source_keys(source) == keys


def markers(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_marker_lives_from_add_to_remove(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "new" / "q")
    assert quarantine.add(f"mpath-{WWID}")
    assert not quarantine.add(f"mpath-{WWID}")
    assert markers(tmp_path / "new" / "q") == [f"mpath-{WWID}"]
    assert quarantine.remove(f"mpath-{WWID}")
    assert not quarantine.remove(f"mpath-{WWID}")
    assert markers(tmp_path / "new" / "q") == []


def test_a_source_that_is_there_gets_one_event_for_itself_and_each_path(tmp_path: Path) -> None:
    sysfs = sysfs_of(tmp_path / "sys", "dm-1", "sda", "sda/sda1", "sdb", "sdc")
    quarantine = Quarantine(tmp_path / "q", sysfs)
    quarantine.add_source(LUN)
    told = {path.parent.name for path in sysfs.rglob("uevent") if path.read_text() == "change"}
    assert told == {"dm-1", "sda", "sda1", "sdb"}
    (sysfs / "class/block/dm-1/uevent").write_text("")
    quarantine.add_source(LUN)
    assert (sysfs / "class/block/dm-1/uevent").read_text() == "", "a known source needs no event"
    quarantine.remove_source(LUN)
    assert (sysfs / "class/block/dm-1/uevent").read_text() == "change"
    assert markers(tmp_path / "q") == []


def test_a_disk_that_is_gone_is_quarantined_all_the_same(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "q", tmp_path / "sys")
    quarantine.add_source(LOCAL)
    assert marker_name(WWID) in markers(tmp_path / "q")


def test_an_lv_is_found_by_its_dm_uuid(tmp_path: Path) -> None:
    sysfs = sysfs_of(tmp_path / "sys", "dm-1", "dm-2")
    for device, uuid in (("dm-1", "LVM-other"), ("dm-2", LV_DM_UUID)):
        (sysfs / "class/block" / device / "dm").mkdir()
        (sysfs / "class/block" / device / "dm/uuid").write_text(f"{uuid}\n")
    quarantine = Quarantine(tmp_path / "q", sysfs)
    quarantine.add_lv(VG, LV)
    assert markers(tmp_path / "q") == [LV_DM_UUID]
    assert (sysfs / "class/block/dm-2/uevent").read_text() == "change"
    assert (sysfs / "class/block/dm-1/uevent").read_text() == ""
    quarantine.remove_lv(VG, LV)
    assert markers(tmp_path / "q") == []


def test_unknown_maps_are_quarantined_but_for_the_hosts_own(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path, tmp_path / "sys")
    quarantine.quarantine_unknown({"mpath-A", "mpath-B"})
    assert markers(tmp_path / "host") == ["mpath-A", "mpath-B"]
    assert (tmp_path / "unknown-maps").exists()
    assert quarantine.keeps_unknown()
    # A LUN of the host's that is away now is still its own when it is back.
    quarantine.quarantine_unknown({"mpath-B", "mpath-C"})
    assert markers(tmp_path / "host") == ["mpath-A", "mpath-B", "mpath-C"]
    quarantine.release_unknown()
    assert not quarantine.keeps_unknown()
    assert not (tmp_path / "unknown-maps").exists()


def test_a_marker_that_cannot_be_written_stops_the_job(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MarkerUnwritable, match="take hold"):
        Quarantine(tmp_path / "file").add("S1")


@pytest.mark.parametrize("rule", ["59-p2vd-quarantine.rules", "62-p2vd-quarantine-disks.rules"])
def test_the_rules_look_where_the_markers_are(rule: str) -> None:
    text = (UNITS / rule).read_text()
    paths = re.findall(r"/etc/[^\"$;']*", text)
    assert paths
    assert all(path.startswith((str(DIRECTORY), str(DIRECTORY.parent))) for path in paths)
    labels = set(re.findall(r'LABEL="(\w+)"', text))
    assert set(re.findall(r'GOTO="(\w+)"', text)) == labels, "udev skips a jump without a label"
