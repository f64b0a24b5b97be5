"""What a rescan does about LUNs that are new, larger, gone, or another's."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from p2vd.jobs.lun_rescan import LunRescan
from p2vd.jobs.lun_use import LunUse
from p2vd.model.disk import PathState, ScsiPath, Source
from p2vd.model.errors import Reason
from p2vd.model.inventory import Inventory
from p2vd.model.portal import RescanReport
from p2vd.model.size import GIB
from p2vd.policy.model import PolicySet
from p2vd.system.command import Result
from tests.iscsi_host import IQN, IscsiHost, captured, make_host
from tests.jobs.values import source

OLD, NEW = source().wwid, "36001405ffffffffffffffffffffffff0"


def path(device: str, host: int, size_bytes: int = GIB, wwid: str = OLD) -> ScsiPath:
    return replace(source().paths[0], device=device, hctl=f"{host}:0:0:3", size_bytes=size_bytes, wwid=wwid)


def disk(*paths: ScsiPath, size_bytes: int = GIB, reasons: Sequence[Reason] = ()) -> Source:
    return replace(source(size_bytes), paths=paths, reasons=tuple(reasons))


BOTH = disk(path("sda", 6), path("sdb", 7))
USED = (Reason("mounted", "/dev/mapper/mpatha is mounted on /x."),)


class Rescan:
    """A rescan of the first of two portals' sessions (host6; the other is host7)."""

    def __init__(self, root: Path, *looks: Inventory) -> None:
        self.host: IscsiHost = make_host(root)
        self.host.session(IQN, "10.98.3.1:3260")
        self.host.session(IQN, "10.98.4.1:3260")
        self.host.on("udevadm settle").on("multipath -f").on("multipathd resize").on("sh")
        self.looks = [*looks]
        self.released: list[str] = []
        self.says("sda", OLD).says("sdb", OLD)

    def says(self, device: str, wwid: str) -> "Rescan":
        """`wwid` "": no longer mapped."""
        identity = Result((), 0, f"{wwid}\n", "") if wwid else captured("identity-gone")
        self.host.replace(f"/lib/udev/scsi_id -g -u -d /dev/{device}", identity)
        self.host.replace(f"sg_turs /dev/{device}", "" if wwid else captured("turs-gone-again"))
        return self

    def run(self) -> RescanReport:
        def use(inventory: Inventory) -> LunUse:
            return LunUse(inventory, PolicySet(), (), {})

        def look() -> Inventory:
            return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]

        rescan = LunRescan(self.host, self.host.iscsiadm, self.host.sessions, look, use, self.released.append)
        first = [session for session in self.host.sessions() if session.number == 1]
        return rescan.run(first, "10.98.3.1:3260")

    def did(self) -> list[str]:
        """The changes, in short: which device was forgotten, which map flushed, which session rescanned."""
        found = []
        for argv in self.host.changes:
            if argv[0] == "sh":
                found.append(f"forget {Path(argv[-1]).parent.parent.name}")
            elif argv[0] == "iscsiadm":
                found.append(f"rescan {argv[4]}")
            else:
                found.append(" ".join(argv))
        return found


def test_nothing_has_changed(tmp_path: Path) -> None:
    rescan = Rescan(tmp_path, Inventory(sources=(BOTH,)))
    report = rescan.run()
    assert replace(report, time_us=0) == RescanReport()
    assert report.time_us > 0
    assert rescan.did() == ["rescan 1"]


def test_a_new_lun(tmp_path: Path) -> None:
    new = replace(disk(path("sdc", 6, wwid=NEW)), id=NEW, wwid=NEW)
    rescan = Rescan(tmp_path, Inventory(sources=(BOTH,)), Inventory(sources=(BOTH, new)))
    assert rescan.run().new == (NEW,)


def test_a_vanished_lun_is_taken_away_on_every_path(tmp_path: Path) -> None:
    rescan = Rescan(tmp_path, Inventory(sources=(BOTH,)), Inventory()).says("sda", "").says("sdb", "")
    report = rescan.run()
    assert "sda (6:0:0:3) is no longer mapped, sdb (7:0:0:3) is no longer mapped" in report.vanished[0]
    assert rescan.did() == ["multipath -f mpatha", "forget sda", "forget sdb", "rescan 1", "rescan 2"]


def test_a_lun_that_one_portal_no_longer_shows_loses_that_path_only(tmp_path: Path) -> None:
    in_use = replace(BOTH, reasons=USED)
    rescan = Rescan(tmp_path, Inventory(sources=(in_use,))).says("sda", "")
    report = rescan.run()
    assert report.left_alone == ()
    assert rescan.did() == ["forget sda", "rescan 1"]


def test_a_number_that_another_lun_has_now_is_another_disk(tmp_path: Path) -> None:
    new = replace(disk(path("sdc", 6, wwid=NEW)), id=NEW, wwid=NEW)
    rescan = Rescan(tmp_path, Inventory(sources=(BOTH,)), Inventory(sources=(new,)))
    rescan.says("sda", NEW).says("sdb", NEW)
    report = rescan.run()
    assert f"sda (6:0:0:3) is now {NEW}" in report.replaced[0]
    assert report.new == (NEW,)
    assert rescan.did() == ["multipath -f mpatha", "forget sda", "forget sdb", "rescan 1", "rescan 2"]


@pytest.mark.parametrize("wwid", ["", NEW])
def test_what_is_stale_and_in_use_is_left_alone_and_said(tmp_path: Path, wwid: str) -> None:
    in_use = replace(BOTH, reasons=USED)
    rescan = Rescan(tmp_path, Inventory(sources=(in_use,))).says("sda", wwid).says("sdb", wwid)
    (text,) = rescan.run().left_alone
    assert "mounted on /x" in text
    assert rescan.did() == ["rescan 1"]


def test_a_sound_path_that_is_not_in_the_map_is_no_way_to_the_disk(tmp_path: Path) -> None:
    stray = replace(path("sdb", 7), state=PathState.UNKNOWN, group=0)
    in_use = disk(path("sda", 6), stray, reasons=USED)
    rescan = Rescan(tmp_path, Inventory(sources=(in_use,))).says("sda", "")
    assert "mounted on /x" in rescan.run().left_alone[0]
    assert rescan.did() == ["rescan 1"]


def test_what_is_stale_is_looked_at_no_longer(tmp_path: Path) -> None:
    other = replace(disk(path("sdc", 6)), id="another")
    rescan = Rescan(tmp_path, Inventory(sources=(BOTH, other)), Inventory()).says("sda", "").says("sdb", "")
    rescan.says("sdc", OLD).run()
    assert rescan.released == [OLD]


def test_a_map_that_is_open_after_all_is_left_alone(tmp_path: Path) -> None:
    rescan = Rescan(tmp_path, Inventory(sources=(BOTH,))).says("sda", "").says("sdb", "")
    rescan.host.replace("multipath -f", Result((), 1, "", "mpatha: map in use"))
    assert "map in use" in rescan.run().left_alone[0]
    assert "forget sda" not in rescan.did()


def test_a_path_that_does_not_answer_is_not_stale(tmp_path: Path) -> None:
    rescan = Rescan(tmp_path, Inventory(sources=(BOTH,)))
    rescan.host.replace("/lib/udev/scsi_id -g -u -d /dev/sda", Result((), 1, "", ""))
    rescan.host.replace("sg_turs /dev/sda", Result((), 33, "", "timed out"))
    report = rescan.run()
    assert report.vanished == report.replaced == report.left_alone == ()
    assert rescan.did() == ["rescan 1"]


def test_a_session_that_is_down_is_not_asked(tmp_path: Path) -> None:
    rescan = Rescan(tmp_path, Inventory(sources=(BOTH,)))
    (tmp_path / "sys/class/iscsi_session/session1/state").write_text("FAILED\n")
    rescan.run()
    assert rescan.did() == []
    assert not any("scsi_id" in argv[0] for argv in rescan.host.queries)


def larger(device: str, host: int) -> ScsiPath:
    return path(device, host, 2 * GIB)


def test_a_grown_lun_gets_its_map_resized(tmp_path: Path) -> None:
    grown = disk(larger("sda", 6), larger("sdb", 7))
    rescan = Rescan(tmp_path, Inventory(sources=(BOTH,)), Inventory(sources=(grown,)))
    assert rescan.run().grown == (f"{OLD} (mpatha) has 2 GiB, it had 1 GiB.",)
    assert rescan.did() == ["rescan 1", "multipathd resize map mpatha"]


def test_a_grown_lun_that_only_one_path_shows_is_not_resized(tmp_path: Path) -> None:
    grown = disk(larger("sda", 6), path("sdb", 7))
    rescan = Rescan(tmp_path, Inventory(sources=(BOTH,)), Inventory(sources=(grown,)))
    assert rescan.run().grown == ()
    assert rescan.did() == ["rescan 1"]


def test_a_lun_whose_paths_are_rescanned_one_portal_after_the_other_grows_with_the_last(
    tmp_path: Path,
) -> None:
    half = disk(larger("sda", 6), path("sdb", 7))
    grown = disk(larger("sda", 6), larger("sdb", 7))
    rescan = Rescan(tmp_path, Inventory(sources=(half,)), Inventory(sources=(grown,)))
    assert rescan.run().grown == (f"{OLD} (mpatha) has 2 GiB, it had 1 GiB.",)
    assert rescan.did() == ["rescan 1", "multipathd resize map mpatha"]


def test_a_grown_lun_in_use_keeps_its_maps_size(tmp_path: Path) -> None:
    grown = disk(larger("sda", 6), larger("sdb", 7), reasons=USED)
    rescan = Rescan(tmp_path, Inventory(sources=(BOTH,)), Inventory(sources=(grown,)))
    (text,) = rescan.run().grown
    assert "keeps the old size: /dev/mapper/mpatha is mounted on /x." in text
    assert rescan.did() == ["rescan 1"]


def test_a_path_alone_is_asked_by_what_the_kernel_knows(tmp_path: Path) -> None:
    alone = replace(disk(path("sda", 6)), dm_uuid="", device="sda", name="sda")
    rescan = Rescan(tmp_path, Inventory(sources=(alone,)), Inventory()).says("sda", NEW)
    assert rescan.run().replaced != ()
    assert rescan.did() == ["forget sda", "rescan 1"]


def test_a_disk_that_keeps_udev_busy_does_not_stop_a_rescan(tmp_path: Path) -> None:
    rescan = Rescan(tmp_path, Inventory(sources=(BOTH,)))
    rescan.host.replace("udevadm settle", Result((), 1, "", ""))
    assert rescan.run().time_us > 0


def test_faulty_paths_are_asked_too(tmp_path: Path) -> None:
    """multipathd's checker may call a path faulty because its LUN is gone."""
    faulty = replace(path("sda", 6), state=PathState.FAULTY)
    rescan = Rescan(tmp_path, Inventory(sources=(disk(faulty, path("sdb", 7)),))).says("sda", "")
    assert rescan.run().vanished != ()
