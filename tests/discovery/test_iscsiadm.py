"""iscsiadm's answers, as captured on Debian 12, become values and named errors; secrets stay in files."""

import re
from pathlib import Path

import pytest

from p2vd.discovery import iscsi_errors as errors
from p2vd.discovery.iscsi_errors import IscsiError, IscsiTransient, iscsi_error
from p2vd.discovery.iscsiadm import Iscsiadm
from p2vd.model.disk import Portal
from p2vd.model.portal import Chap, Node, PortalName, Secret, parse_portal
from p2vd.system.command import ChangeUnknown, CommandFailed, Result
from tests.fakes import FakeCommands
from tests.iscsi_host import CAPTURED, IQN, IscsiHost, captured, make_host

NAME = parse_portal("10.98.3.1")
NODE = Node(IQN, "10.98.3.1", 3260, 1)
CHAP = Chap("host-side", Secret("hostsecret-1234"), "array-side", Secret("arraysecret-5678"))


@pytest.fixture
def host(tmp_path: Path) -> IscsiHost:
    return make_host(tmp_path)


def answering(host: IscsiHost, *answers: str | Result) -> tuple[FakeCommands, Iscsiadm]:
    """An iscsiadm that says what was captured, whatever it is asked."""
    commands = FakeCommands().on("iscsiadm", *answers)
    return commands, Iscsiadm(commands, host.root / "etc", host.root / "run", host.root / "sys")


# ---- discovery -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["discover", "discover-ipv6"])
def test_a_portals_offers(host: IscsiHost, name: str) -> None:
    _, iscsiadm = answering(host, captured(name))
    offers = iscsiadm.discover(NAME, None)
    assert len(offers) == 5  # the lab's own array answers by the same portals
    assert {node.portal for node in offers if node.target_iqn == IQN} == {
        Portal("10.98.3.1", 3260),
        Portal("10.98.4.1", 3260),
        Portal("fd98:5::1", 3260),
    }
    assert {node.tpgt for node in offers} == {1}


def test_a_discovery_records_nothing_and_is_bound_as_asked(host: IscsiHost) -> None:
    commands, iscsiadm = answering(host, captured("discover"))
    iscsiadm.discover(PortalName(Portal("10.98.3.1", 3260), "ens4"), None)
    iscsiadm.discover(NAME, None)
    for argv, interface in zip(commands.changes, ("ens4", "default"), strict=True):
        assert argv[argv.index("-o") + 1] == "nonpersistent"
        assert argv[argv.index("-I") + 1] == interface


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("", errors.NoTargets),
        ("10.98.3.1:3260,1\n", errors.IscsiadmUnclear),
        ("10.98.3.1:3260,1 iqn.x\nand more\n", errors.IscsiadmUnclear),
    ],
)
def test_an_empty_or_garbled_list_is_named(host: IscsiHost, said: str, kind: type[IscsiError]) -> None:
    with pytest.raises(kind):
        answering(host, said)[1].discover(NAME, None)


# ---- failures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        ("discover-closed-port", errors.PortalUnreachable, "does not answer in time: .*refused"),
        ("discover-nobody", errors.PortalUnreachable, "does not answer in time: connect to .* timed out"),
        ("discover-silent", errors.PortalUnreachable, "does not answer in time: "),
        ("discover-without-chap", errors.LoginRefused, "CHAP user or secret"),
        ("discover-chap-wrong", errors.LoginRefused, "CHAP user or secret"),
        ("discover-no-iface", errors.NoTargets, "offers no target"),
        ("login-closed-port", errors.PortalUnreachable, "does not answer"),
        ("login-nobody", errors.PortalUnreachable, "does not answer"),
        ("login-silent", errors.PortalUnreachable, "does not answer"),
        ("login-wrong-secret", errors.LoginRefused, "CHAP user or secret"),
        ("login-no-chap", errors.LoginRefused, "CHAP user or secret"),
        ("login-stranger", errors.LoginRefused, "initiatorname.iscsi"),
        ("login-wrong-secret-in", errors.LoginRejected, "could not prove itself"),
        ("login-no-target", errors.PortalUnreachable, "in time"),
        ("login-no-iscsid", errors.IscsidUnavailable, "systemctl status iscsid"),
    ],
)
def test_a_failure_has_a_name_and_says_what_to_do(name: str, kind: type[IscsiError], says: str) -> None:
    said = captured(name)
    assert said.returncode != 0
    error = iscsi_error(CommandFailed(("iscsiadm",), said.returncode, said.stderr), "10.98.3.1:3260")
    assert type(error) is kind
    assert re.search(says, str(error))
    assert "10.98.3.1" in str(error)
    assert "iscsiadm:" not in str(error)


def test_only_what_may_pass_is_tried_again() -> None:
    again = {status for status in range(1, 34) if _is_transient(status)}
    # 24 (authorization), 19 (fatal), 15 (exists), 21 (nothing found) and what open-iscsi's database
    # or this host's configuration is the cause of, are not.
    assert again == {4, 5, 8, 11, 18, 20, 28, 29, 31, 33}


def _is_transient(status: int) -> bool:
    return isinstance(iscsi_error(CommandFailed(("iscsiadm",), status, ""), "p"), IscsiTransient)


def test_the_same_command_of_an_earlier_daemon_is_waited_for() -> None:
    said = "Failed to start transient service unit: Unit x.service was already loaded or has a fragment file."
    assert isinstance(iscsi_error(CommandFailed((), 1, said), "p"), errors.IscsidUnavailable)


def test_an_unknown_outcome_is_not_called_a_failure(host: IscsiHost) -> None:
    unknown = ChangeUnknown(("iscsiadm",), -9, "")
    commands = FakeCommands().on("iscsiadm", unknown)
    with pytest.raises(ChangeUnknown):
        Iscsiadm(commands, host.root / "etc", host.root / "run").discover(NAME, None)


# ---- records and secrets ---------------------------------------------------------------------------


def test_a_record_has_the_credentials_and_no_word_of_a_command_does(host: IscsiHost) -> None:
    host.iscsiadm.make_record(NODE, "", CHAP)
    (text,) = host.records().values()
    for secret in ("hostsecret-1234", "arraysecret-5678"):
        assert secret in text
        assert secret not in host.words()
    assert "node.startup = automatic" in text
    assert list((host.root / "run").iterdir()) == []


def test_the_private_conf_is_gone_also_where_the_command_fails(host: IscsiHost) -> None:
    host.discovery_failure = "discover-without-chap"
    with pytest.raises(errors.LoginRefused) as raised:
        host.iscsiadm.discover(NAME, CHAP)
    assert "secret-1234" not in str(raised.value)
    assert list((host.root / "run").iterdir()) == []


def test_without_open_iscsi_it_says_so(host: IscsiHost) -> None:
    (host.root / "etc/iscsid.conf").unlink()
    with pytest.raises(errors.IscsiadmFailed, match="is open-iscsi installed"):
        host.iscsiadm.discover(NAME, None)


def test_a_record_is_found_however_its_address_is_written(host: IscsiHost) -> None:
    node = Node(IQN, "FD98:5:0::1", 3260, 1)
    assert host.iscsiadm.record(node, "") is None
    host.iscsiadm.make_record(node, "", None)
    again = Node(IQN, "fd98:5::1", 3260, 1)
    assert host.iscsiadm.record(again, "") is not None
    assert host.iscsiadm.record(again, "ens4") is None
    assert host.iscsiadm.record(Node(IQN, "fd98:5::1", 3261, 1), "") is None


def test_real_records_are_found(host: IscsiHost) -> None:
    """Paths as open-iscsi of Debian 12 makes them."""
    for line in CAPTURED["record-files"]["stdout"].splitlines():
        path = host.root / "etc/nodes" / Path(line).relative_to("/etc/iscsi/nodes")
        if path.name == "default":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x")
    assert host.iscsiadm.record(NODE, "") is not None
    assert host.iscsiadm.record(Node(IQN, "fd98:5::1", 3260, 1), "") is not None


def test_what_iscsiadm_wrote_is_roots_alone_and_holds_what_the_conf_said() -> None:
    said = CAPTURED["record-file"]["stdout"]
    assert re.search(r"(?m)^-rw------- .* default$", said)
    for line in (
        "node.session.auth.authmethod = CHAP",
        "node.session.auth.username = host-side",
        "node.session.auth.password = hostsecret-1234",
        "node.session.auth.username_in = array-side",
        "node.session.auth.password_in = arraysecret-5678",
        "node.session.initial_login_retry_max = 2",
    ):
        assert line in said.splitlines()


# ---- sessions and interfaces -------------------------------------------------------------------------


def test_a_session_that_is_there_is_no_failure(host: IscsiHost) -> None:
    _, iscsiadm = answering(host, captured("login"), captured("login-again"))
    assert iscsiadm.log_in(NODE, "") is True
    assert iscsiadm.log_in(NODE, "") is False


@pytest.mark.parametrize("name", ["logout", "logout-no-session"])
def test_a_session_is_ended_by_its_number_once(host: IscsiHost, name: str) -> None:
    commands, iscsiadm = answering(host, captured(name))
    iscsiadm.log_out(7, "x")
    assert commands.changes == [("iscsiadm", "-m", "session", "-r", "7", "--logout")]


@pytest.mark.parametrize("name", ["delete", "delete-no-record"])
def test_a_record_is_deleted_once(host: IscsiHost, name: str) -> None:
    answering(host, captured(name))[1].delete_record(NODE, "")


def test_a_session_that_is_gone_cannot_be_rescanned(host: IscsiHost) -> None:
    with pytest.raises(IscsiError):
        answering(host, captured("rescan-no-session"))[1].rescan(99, "x")


def test_units_of_long_names_are_told_apart(host: IscsiHost) -> None:
    commands, iscsiadm = answering(host, captured("login"))
    for tail in "ab":
        iscsiadm.log_in(Node("iqn.2026-01.org.example:" + "x" * 190 + tail, "fd98::1", 3260, 1), "")
    units = [call.unit for call in commands.calls]
    assert len(set(units)) == 2
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]{1,200}", unit) for unit in units)


def test_an_iface_is_made_for_a_network_interface_only(host: IscsiHost) -> None:
    name = parse_portal("10.98.3.1@ens4")
    assert host.iscsiadm.has_interface(NAME)
    assert not host.iscsiadm.has_interface(name)
    host.iscsiadm.make_interface(name)
    assert host.iscsiadm.has_interface(name)
    assert host.iscsiadm.nic("ens4") == "ens4"
    assert host.iscsiadm.nic("") == ""
    assert host.iscsiadm.nic("none") == ""
    host.iscsiadm.delete_interface(name)
    assert not host.iscsiadm.has_interface(name)
    host.iscsiadm.delete_interface(name)
    with pytest.raises(errors.InterfaceMissing, match="ip link"):
        host.iscsiadm.has_interface(parse_portal("10.98.3.1@ens5"))


def test_a_real_iface_names_its_network_interface(host: IscsiHost) -> None:
    (host.root / "etc/ifaces/isc3").write_text(CAPTURED["iface-file"]["stdout"])
    assert host.iscsiadm.nic("isc3") == "isc3"


def test_every_error_of_a_portal_is_in_the_table_of_the_bus() -> None:
    from p2vd.bus.names import ERRORS

    found = {
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, IscsiError)
    }
    assert {kind.__name__ for kind in found - {IscsiError, IscsiTransient}} <= ERRORS.keys()
