"""Portals over restarts and removal, beside sessions and records that are another's."""

from dataclasses import replace
from pathlib import Path

import pytest

from p2vd.jobs.lun_use import PortalInUse
from p2vd.jobs.store import Store
from p2vd.model.disk import PathState
from p2vd.model.errors import IllegalTransition, InvalidArgument, NotFound, Reason
from p2vd.model.inventory import Inventory
from p2vd.model.portal import PortalState
from p2vd.system.command import Result
from tests.iscsi_host import HOST_CONF, IQN, IscsiHost
from tests.jobs.portal_desk import OTHER, A, B, Desk, chap, lun

# ---- what is another's ---------------------------------------------------------------------------


def test_a_session_that_was_there_is_used_and_never_logged_out(desk: Desk, host: IscsiHost) -> None:
    number = host.session(IQN, A)
    view = desk.add("10.98.3.1")
    assert [(one.number, one.ours) for one in view.sessions] == [(number, False)]
    assert host.verbs() == ["discover"]
    assert desk.remove(A) is None
    assert [session.number for session in host.sessions()] == [number]


def test_a_record_that_was_there_is_used_and_never_changed_nor_deleted(desk: Desk, host: IscsiHost) -> None:
    record = host.root / "etc/nodes" / IQN / "10.98.3.1,3260,1/default"
    record.parent.mkdir(parents=True)
    record.write_text("of the administrator")
    view = desk.add("10.98.3.1")
    assert [one.ours for one in view.sessions] == [True]
    assert desk.remove(A) is None
    assert host.sessions() == ()
    assert record.read_text() == "of the administrator"


def test_credentials_for_a_record_that_was_there_are_refused(desk: Desk, host: IscsiHost) -> None:
    record = host.root / "etc/nodes" / IQN / "10.98.3.1,3260,1/default"
    record.parent.mkdir(parents=True)
    record.write_text("of the administrator")
    view = desk.add("10.98.3.1", PortalState.REFUSED, **chap())
    assert view.error_name == "RecordForeign"
    assert record.read_text() == "of the administrator"


def test_the_hosts_own_configuration_is_not_changed(desk: Desk, host: IscsiHost) -> None:
    desk.add("10.98.3.1", **chap())
    assert (host.root / "etc/iscsid.conf").read_text() == HOST_CONF


# ---- over restarts -------------------------------------------------------------------------------


def test_a_restart_finds_what_was_logged_in(tmp_path: Path, host: IscsiHost, desk: Desk) -> None:
    desk.add("10.98.3.1", **chap())
    desk.portals.stop()
    again = Desk(tmp_path, host)
    again.portals.start()
    view = again.settled(A, PortalState.CONNECTED)
    assert [one.ours for one in view.sessions] == [True]
    assert host.verbs() == ["discover", "record", "login"]
    again.portals.stop()


def test_after_a_reboot_it_is_logged_in_again_by_its_record(
    tmp_path: Path, host: IscsiHost, desk: Desk
) -> None:
    host.targets[IQN].user, host.targets[IQN].secret = "me", "right-secret-12"
    desk.add("10.98.3.1", **chap())
    desk.portals.stop()
    (session,) = host.sessions()
    host.end_session(session.number)
    host.unreachable.add(A)  # the array is later than p2vd
    again = Desk(tmp_path, host, "boot-2")
    again.portals.start()
    again.settled(A, PortalState.RETRYING)
    host.unreachable.clear()
    again.settled(A, PortalState.CONNECTED)
    assert [session.state for session in host.sessions()] == ["LOGGED_IN"]
    assert again.remove(A) is None
    assert host.sessions() == ()
    assert host.records() == {}


def test_a_session_by_anothers_record_is_anothers_after_a_reboot(
    tmp_path: Path, host: IscsiHost, desk: Desk
) -> None:
    record = host.root / "etc/nodes" / IQN / "10.98.3.1,3260,1/default"
    record.parent.mkdir(parents=True)
    record.write_text("of the administrator")
    desk.add("10.98.3.1")
    desk.portals.stop()
    again = Desk(tmp_path, host, "boot-2")
    again.portals.start()
    assert [one.ours for one in again.settled(A, PortalState.CONNECTED).sessions] == [False]
    assert again.remove(A) is None
    assert len(host.sessions()) == 1


def test_a_lost_secret_is_asked_for_again(tmp_path: Path, host: IscsiHost, desk: Desk) -> None:
    desk.add("10.98.3.1", **chap())
    desk.portals.stop()
    host.end_session(1)
    for record in host.records():
        (host.root / "etc/nodes" / record).unlink()
    again = Desk(tmp_path, host, "boot-2")
    again.portals.start()
    view = again.settled(A, PortalState.REFUSED)
    assert view.error_name == "RecordGone"
    again.add("10.98.3.1", **chap())
    again.portals.stop()


def test_a_refusal_after_a_reboot_keeps_what_is_remembered_and_is_not_repeated(
    tmp_path: Path, host: IscsiHost, desk: Desk
) -> None:
    host.target(OTHER, A)
    desk.add("10.98.3.1", **chap())
    desk.portals.stop()
    for number in (1, 2):
        host.end_session(number)
    host.targets[IQN].failure = "login-wrong-secret"
    again = Desk(tmp_path, host, "boot-2")
    again.portals.start()
    again.settled(A, PortalState.REFUSED)
    assert len(host.records()) == 2
    assert [session.target_iqn for session in host.sessions()] == [OTHER]
    logins = host.verbs().count("login")
    host.targets[IQN].failure = ""
    assert again.rescan(A) is None
    assert again.settled(A, PortalState.CONNECTED)
    assert host.verbs().count("login") == logins + 1
    again.portals.stop()


def test_an_array_that_is_not_whole_yet_is_tried_again_after_a_reboot(
    tmp_path: Path, host: IscsiHost, desk: Desk
) -> None:
    """Seen in the lab after a power cut of all: the target answers before it knows what it serves."""
    desk.add("10.98.3.1", **chap())
    desk.portals.stop()
    host.end_session(1)
    host.targets[IQN].failure = "login-wrong-secret-in"
    again = Desk(tmp_path, host, "boot-2")
    again.portals.start()
    assert again.settled(A, PortalState.RETRYING).error_name == "LoginRejected"
    host.targets[IQN].failure = ""
    assert again.settled(A, PortalState.CONNECTED)
    again.portals.stop()


def test_a_refusal_leaves_alone_what_was_connected(desk: Desk, host: IscsiHost) -> None:
    desk.add("10.98.3.1", **chap())
    host.target(OTHER, A, failure="login-wrong-secret")
    view = desk.add("10.98.3.1", PortalState.CONNECTED)
    view = desk.until(lambda views: views[A].error != "")[A]
    assert (view.state, view.error_name) == (PortalState.CONNECTED, "LoginRefused")
    assert [session.target_iqn for session in host.sessions()] == [IQN]
    assert list(host.records()) == [f"{IQN}/10.98.3.1,3260,1/default"]


# ---- removing ------------------------------------------------------------------------------------


def test_a_removed_portal_leaves_no_session_no_record_and_is_forgotten(
    tmp_path: Path, host: IscsiHost, desk: Desk
) -> None:
    desk.add("10.98.3.1", **chap())
    assert desk.remove("10.98.3.1") is None
    assert host.sessions() == ()
    assert host.records() == {}
    assert desk.views() == {}
    assert Store(tmp_path / "state.db").portals() == ()


def test_maps_that_lose_their_last_path_are_flushed_first(desk: Desk, host: IscsiHost) -> None:
    desk.add("10.98.3.1")
    desk.add("10.98.4.1")
    desk.inventory = lun(host, A, B)
    assert desk.remove(A) is None
    assert ("multipath", "-f", "mpatha") not in host.changes
    desk.inventory = lun(host, B)
    assert desk.remove(B) is None
    words = [argv for argv in host.changes if argv[0] == "multipath" or "--logout" in argv]
    assert words[-2] == ("multipath", "-f", "mpatha")


def test_a_path_outside_the_map_does_not_keep_the_map(desk: Desk, host: IscsiHost) -> None:
    desk.add("10.98.3.1")
    desk.add("10.98.4.1")
    (one,) = lun(host, A, B).sources
    stray = replace(one.paths[1], state=PathState.UNKNOWN, group=0)
    desk.inventory = Inventory(sources=(replace(one, paths=(one.paths[0], stray)),))
    assert desk.remove(A) is None
    assert ("multipath", "-f", "mpatha") in host.changes


def test_p2vds_own_look_at_a_disk_is_no_use_of_it(desk: Desk, host: IscsiHost) -> None:
    desk.add("10.98.3.1")
    desk.inventory = lun(host, A)
    (one,) = desk.inventory.sources
    desk.open_counts = lambda: {} if one.id in desk.released else {one.name: 1}
    assert desk.remove(A) is None


def test_a_lun_in_use_keeps_its_session(desk: Desk, host: IscsiHost) -> None:
    desk.add("10.98.3.1")
    used = lun(host, A).sources[0]
    reason = Reason("mounted", "/dev/mapper/mpatha is mounted on /x.")
    desk.inventory = Inventory(sources=(replace(used, reasons=(reason,)),))
    error = desk.remove(A)
    assert isinstance(error, PortalInUse)
    assert "mounted on /x" in str(error)
    view = desk.settled(A, PortalState.CONNECTED)
    assert view.error_name == "PortalInUse"
    assert len(host.sessions()) == 1
    assert len(host.records()) == 1


def test_a_map_that_cannot_be_flushed_keeps_its_session(desk: Desk, host: IscsiHost) -> None:
    desk.add("10.98.3.1")
    desk.inventory = lun(host, A)
    host.replace("multipath -f", Result((), 1, "", "mpatha: map in use"))
    error = desk.remove(A)
    assert "map in use" in str(error)
    assert len(host.sessions()) == 1


def test_removing_ends_the_trying(desk: Desk, host: IscsiHost) -> None:
    host.unreachable.add(A)
    desk.add("10.98.3.1", PortalState.RETRYING)
    assert desk.remove(A) is None
    asked = len(host.calls)
    assert desk.views() == {}
    assert len(host.calls) == asked


def test_what_is_not_there_cannot_be_removed(desk: Desk) -> None:
    with pytest.raises(NotFound, match=r"no portal '10.1.1.1:3260'"):
        desk.remove("10.1.1.1")


# ---- of this moment ------------------------------------------------------------------------------


def test_a_session_that_is_down_makes_the_portal_impaired(desk: Desk, host: IscsiHost) -> None:
    desk.add("10.98.3.1")
    (host.root / "sys/class/iscsi_session/session1/state").write_text("FAILED\n")
    assert desk.views()[A].state is PortalState.IMPAIRED
    host.end_session(1)
    view = desk.views()[A]
    assert view.state is PortalState.IMPAIRED
    assert [(one.number, one.state) for one in view.sessions] == [(-1, "")]


def test_disks_are_counted_by_their_sessions(desk: Desk, host: IscsiHost) -> None:
    desk.add("10.98.3.1")
    desk.add("10.98.4.1")
    desk.inventory = lun(host, A)
    assert {portal: view.luns for portal, view in desk.views().items()} == {A: 1, B: 0}


def test_a_rescan_logs_in_what_is_gone_and_asks_only_its_own_sessions(desk: Desk, host: IscsiHost) -> None:
    desk.add("10.98.3.1")
    desk.add("10.98.4.1")
    host.end_session(1)
    assert desk.rescan(A) is None
    rescans = [argv for argv in host.changes if "--rescan" in argv]
    assert rescans == [("iscsiadm", "-m", "session", "-r", "3", "--rescan")]
    assert desk.views()[A].rescan.time_us > 0


def test_a_rescan_of_one_host_channel_target(desk: Desk, host: IscsiHost) -> None:
    host.target(OTHER, A)
    desk.add("10.98.3.1")
    assert desk.rescan(A, "7:0:0") is None
    assert [argv[4] for argv in host.changes if "--rescan" in argv] == ["2"]
    with pytest.raises(NotFound, match="session of the portal"):
        desk.rescan(A, "9:0:0")
    with pytest.raises(InvalidArgument, match="HOST:CHANNEL:TARGET"):
        desk.rescan(A, "host7")


def test_a_portal_that_is_not_connected_cannot_be_rescanned(desk: Desk, host: IscsiHost) -> None:
    host.unreachable.add(A)
    desk.add("10.98.3.1", PortalState.RETRYING)
    with pytest.raises(IllegalTransition, match="retrying"):
        desk.rescan(A)
