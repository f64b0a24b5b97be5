"""Adding portals over emulated arrays: what is logged in, tried again, and taken back."""

import os
from pathlib import Path
from typing import Any

import pytest

from p2vd.discovery.nics import NoRoute
from p2vd.jobs.portal_request import PortalRequest
from p2vd.model.disk import Portal
from p2vd.model.errors import InvalidArgument
from p2vd.model.portal import PortalState
from tests.iscsi_host import IQN, IscsiHost
from tests.jobs.portal_desk import OTHER, A, B, Desk, chap, secret

# ---- adding --------------------------------------------------------------------------------------


def test_a_portal_is_discovered_recorded_and_logged_in(desk: Desk, host: IscsiHost) -> None:
    view = desk.add("10.98.3.1")
    assert [(one.target_iqn, one.state, one.ours) for one in view.sessions] == [(IQN, "LOGGED_IN", True)]
    assert (view.nic, view.source_address, view.mtu_bytes) == ("ens4", "10.98.3.9", 9000)
    assert host.verbs() == ["discover", "record", "login"]
    assert list(host.records()) == [f"{IQN}/10.98.3.1,3260,1/default"]
    assert [session.portal for session in host.sessions()] == [Portal("10.98.3.1", 3260)]


def test_only_the_portal_that_was_given_is_used(desk: Desk, host: IscsiHost) -> None:
    desk.add("10.98.3.1")
    desk.add("10.98.4.1")
    assert sorted(str(session.name) for session in host.sessions()) == [A, B]


def test_the_secret_is_in_the_record_and_nowhere_else(desk: Desk, host: IscsiHost, tmp_path: Path) -> None:
    host.targets[IQN].user, host.targets[IQN].secret = "me", "right-secret-12"
    mutual: dict[str, Any] = {"chap_user_in": "they", "chap_secret_in": secret("their-secret-34")}
    view = desk.add("10.98.3.1", **chap(), **mutual)
    assert view.record.chap
    (text,) = host.records().values()
    for hush in ("right-secret-12", "their-secret-34"):
        assert hush in text
        assert hush not in host.words()
        assert hush not in repr(view)
        for file in tmp_path.glob("state.db*"):
            assert hush.encode() not in file.read_bytes()


@pytest.mark.parametrize("failure", ["login-wrong-secret", "login-wrong-secret-in"])
def test_a_wrong_secret_is_one_clear_refusal_and_leaves_nothing(
    desk: Desk, host: IscsiHost, failure: str
) -> None:
    host.target(OTHER, A)  # its login comes first or second: it has to go again either way
    host.targets[IQN].failure = failure
    view = desk.add("10.98.3.1", PortalState.REFUSED, **chap())
    assert view.error_name in ("LoginRefused", "LoginRejected")
    assert "secret" in view.error
    assert host.verbs().count("discover") == 1
    assert sum("--login" in call.argv and IQN in call.argv for call in host.calls) == 1
    assert host.records() == {}
    assert host.sessions() == ()
    assert desk.store.portals() == ()


def test_a_refused_portal_is_added_again_with_the_right_secret(desk: Desk, host: IscsiHost) -> None:
    host.targets[IQN].user, host.targets[IQN].secret = "me", "right-secret-12"
    desk.add("10.98.3.1", PortalState.REFUSED, **chap("wrong-secret-99"))
    view = desk.add("10.98.3.1", **chap())
    assert view.error == ""
    assert [one.id for one in desk.store.portals()] == [A]


def test_what_may_pass_is_tried_again_until_it_works(desk: Desk, host: IscsiHost) -> None:
    host.unreachable.add(A)
    view = desk.add("10.98.3.1", PortalState.RETRYING)
    assert view.error_name == "PortalUnreachable"
    desk.until(lambda _: host.verbs().count("discover") > 2)
    host.unreachable.clear()
    assert desk.settled(A, PortalState.CONNECTED).error == ""


def test_a_login_that_is_refused_after_it_was_tried_again_leaves_nothing(desk: Desk, host: IscsiHost) -> None:
    logins: list[int] = []

    def first_busy_then_refused() -> None:
        logins.append(1)
        host.targets[IQN].failure = "login-silent" if len(logins) == 1 else "login-wrong-secret"

    host.on_login = first_busy_then_refused
    desk.add("10.98.3.1", PortalState.REFUSED, **chap())
    assert len(logins) == 2
    assert host.records() == {}


def test_no_route_is_tried_again_without_asking_iscsiadm(desk: Desk, host: IscsiHost) -> None:
    desk.route_problem = NoRoute(A, "Network is unreachable")
    view = desk.add("10.98.3.1", PortalState.RETRYING)
    assert "no route to the portal" in view.error
    assert host.verbs() == []
    desk.route_problem = None
    desk.settled(A, PortalState.CONNECTED)


def test_what_is_offered_only_elsewhere_is_said_with_where(desk: Desk, host: IscsiHost) -> None:
    host.targets[IQN].also_asked_at = "10.98.9.9:3260"
    view = desk.add("10.98.9.9", PortalState.REFUSED)
    assert f"only elsewhere: at {A}, {B}" in view.error
    assert host.records() == {}


def test_a_target_that_is_not_offered_is_said_with_what_is(desk: Desk, host: IscsiHost) -> None:
    view = desk.add("10.98.3.1", PortalState.REFUSED, targets=("iqn.nosuch",))
    assert f"it has {IQN}, not iqn.nosuch" in view.error
    assert host.records() == {}


def test_targets_may_be_chosen(desk: Desk, host: IscsiHost) -> None:
    host.target(OTHER, A)
    desk.add("10.98.3.1", targets=("*:oth?r",))
    assert [session.target_iqn for session in host.sessions()] == [OTHER]


def test_a_session_is_bound_to_an_interface(desk: Desk, host: IscsiHost) -> None:
    view = desk.add("10.98.3.1@ens4")
    assert view.record.interface == "ens4"
    assert view.nic == "ens4"
    (session,) = host.sessions()
    assert str(session.name) == f"{A}@ens4"
    desk.add("10.98.3.1")  # the same portal once more, by the routing table
    assert len(host.sessions()) == 2
    assert desk.remove(f"{A}@ens4") is None
    assert not (host.root / "etc/ifaces/ens4").exists()
    assert [str(session.name) for session in host.sessions()] == [A]


def test_an_interface_that_is_not_there_is_refused(desk: Desk, host: IscsiHost) -> None:
    view = desk.add("10.98.3.1@ens9", PortalState.REFUSED)
    assert view.error_name == "InterfaceMissing"
    assert list((host.root / "etc/ifaces").iterdir()) == []


@pytest.mark.parametrize(
    "how",
    [
        {"portal": "storage.example"},
        {"portal": "10.1.1.1", "targets": ("a b",)},
        {"portal": "10.1.1.1", "chap_user": "x"},
    ],
)
def test_a_wrong_request_is_refused_at_once(desk: Desk, how: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        desk.portals.add(PortalRequest(**how))
    assert desk.views() == {}


def test_descriptors_are_closed_whatever_becomes_of_them(desk: Desk) -> None:
    read, write = os.pipe()
    with pytest.raises(InvalidArgument, match="nothing came in time"):
        desk.portals.add(PortalRequest("10.1.1.1", chap_user="me", chap_secret=read))
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(read)
    os.close(write)
